"""One group, from its row to its images and scores: file first, row second, as soon as it is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import ValidationError

from flowgrpo.config import SamplingConfig
from flowgrpo.failpoints import failpoint
from flowgrpo.policies import Policy
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.checks import own_warning
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Rollout, denoise
from flowgrpo.runs.pictures import Pixels, png_bytes, read_png
from flowgrpo.runs.shelf import PolicyShelf
from storage import blobs, checkpoints, groups
from storage.engine import Database
from storage.groups import ScoreInput
from storage.models import Image, ImageGroup, WorkerState

CHUNK = 16
"""Images that go through the network together, and are shown together."""
PHASE_SECONDS = 0.4
"""How often a phase is written: often enough to see it move, seldom enough to cost nothing."""
NO_MEMORY = (
    "The device ran out of memory: ask for fewer or smaller images, "
    "or try again when nothing else runs on it."
)

_log = logging.getLogger(__name__)


class CanceledError(Exception):
    """The group is no longer wanted; nothing of it needs to be undone."""


class BrokenImagesError(ValueError):
    """The network overflowed; the sentence is for the person who asked."""


class InterruptedDrawingError(Exception):
    """This process has to end; the group goes back into the queue with the images that it has."""


@dataclass(frozen=True)
class Stored:
    """What was said of a group: reward name to values, None where there is none; and to warnings."""

    values: dict[str, list[float | None]]
    warnings: dict[str, str]


@dataclass
class Painter:
    """Draws and scores groups on one device.

    Attributes:
        say: told what is being done: generating, then scoring.
        is_ending: asked between two steps whether this process has to end.
    """

    db: Database
    shelf: PolicyShelf
    stack: RewardStack
    say: Callable[[WorkerState], None]
    is_ending: Callable[[], bool]
    _phase_at: float = 0.0

    def paint(self, group: ImageGroup) -> None:
        """Draws what the group lacks, scores it and finishes its row.

        Raises:
            ValueError, LookupError: a sentence for the person who asked.
            CanceledError, InterruptedDrawingError: it ends early.
        """
        try:
            self._paint(group)
        except torch.OutOfMemoryError as error:
            raise ValueError(NO_MEMORY) from error

    def _paint(self, group: ImageGroup) -> None:
        config = sampling_config(group)
        checkpoint = checkpoints.get_checkpoint(self.db, group.checkpoint_id)
        self.say("generating")
        if not self.shelf.is_loaded(checkpoint):
            self._phase(group, "loading", now=True)
        policy = self.shelf.get(checkpoint)
        images, pixels = self._draw(group, config, policy, checkpoint.name)
        self.say("scoring")
        self._phase(group, "scoring", now=True)
        stored = store_scores(self.db, self.stack, group, images, pixels)
        for name, warning in stored.warnings.items():
            _log.info("%s says: %s", name, warning)
        groups.finish_group(self.db, group.id)

    def _draw(
        self, group: ImageGroup, config: SamplingConfig, policy: Policy, model: str
    ) -> tuple[list[Image], list[Pixels]]:
        stored = {view.image.index: view.image for view in groups.get_group(self.db, group.id).images}
        pixels = {i: read_png(blobs.path_of(self.db.home, image.sha256)) for i, image in stored.items()}
        missing = [index for index in range(len(group.seeds)) if index not in stored]
        for start in range(0, len(missing), CHUNK):
            indices = missing[start : start + CHUNK]
            rollout = self._sample(group, config, policy, indices, start, len(missing))
            refuse_broken(rollout, model)
            for index, image in zip(indices, rollout.images_uint8.cpu(), strict=True):
                pixels[index] = image
                stored[index] = store_image(self.db, group, index, image, config, model)
            failpoint("worker.drawn")
        order = range(len(group.seeds))
        return [stored[i] for i in order], [pixels[i] for i in order]

    def _sample(
        self,
        group: ImageGroup,
        config: SamplingConfig,
        policy: Policy,
        indices: list[int],
        done: int,
        total: int,
    ) -> Rollout:
        steps = -(-total // CHUNK) * config.num_steps
        before = done // CHUNK * config.num_steps
        seeds = [group.seeds[index] for index in indices]
        progress = denoise(
            policy, [group.prompt] * len(seeds), seeds=seeds, micro_batch_size=CHUNK, **config.model_dump()
        )
        for step in progress:
            if step.rollout is not None:
                return step.rollout
            self._phase(group, f"sampling step {before + step.done} of {steps}")
        raise AssertionError("a rollout ends with its images")

    def _phase(self, group: ImageGroup, phase: str, *, now: bool = False) -> None:
        if self.is_ending():
            raise InterruptedDrawingError
        if now or time.monotonic() - self._phase_at > PHASE_SECONDS:
            self._phase_at = time.monotonic()
            if not groups.set_phase(self.db, group.id, phase):
                raise CanceledError


def sampling_config(group: ImageGroup) -> SamplingConfig:
    """The group's settings; ValueError with one sentence when they cannot be used."""
    try:
        return SamplingConfig.model_validate(group.config)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the settings"
        raise ValueError(f"{field} cannot be used: {first['msg']}, got {first['input']!r}") from error


def refuse_broken(rollout: Rollout, model: str) -> None:
    """Raises BrokenImagesError unless every image is finite: a broken one would be stored as a black one."""
    broken = int((~rollout.is_finite).sum())
    if broken:
        raise BrokenImagesError(
            f"{broken} of {len(rollout.seeds)} images by {model} hold numbers that are not finite, so none "
            "of them was kept: lower the guidance, or choose another checkpoint."
        )


def store_image(
    db: Database, group: ImageGroup, index: int, image: Pixels, config: SamplingConfig, model: str
) -> Image:
    """Writes one image of a group: the file, then the row."""
    seed = group.seeds[index]
    png = png_bytes(image, prompt=group.prompt, seed=seed, config=config, model=model)
    sha256 = blobs.put_png(db.home, png)
    _, height, width = image.shape
    return groups.add_image(
        db, group_id=group.id, index=index, seed=seed, sha256=sha256, width=width, height=height
    )


def store_scores(
    db: Database, stack: RewardStack, group: ImageGroup, images: list[Image], pixels: list[Pixels]
) -> Stored:
    """Scores a whole group, and stores the scores.

    Raises InterruptedDrawingError, and stores none, where the rewards were interrupted.
    """
    batch = ScoreBatch(torch.stack(pixels), [group.prompt] * len(pixels), [0] * len(pixels))
    rows: list[ScoreInput] = []
    stored = Stored({}, {})
    results = stack.score(batch)
    if stack.is_interrupted:
        raise InterruptedDrawingError
    for name, result in results.items():
        values = [None if value != value else value for value in result.values.tolist()]
        stored.values[name] = values
        warning = own_warning(stack.rewards[name].spec.name, result) if name in stack.rewards else None
        if warning:  # that one group has one value says little
            stored.warnings[name] = warning
        for image, value, reason in zip(images, values, result.reasons, strict=True):
            rows.append(ScoreInput(image.id, name, stack.versions[name], value, reason))
    groups.add_scores(db, rows)
    return stored
