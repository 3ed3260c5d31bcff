"""In the loop: people rate the very groups of a rollout before the update that learns from them.

The groups become rows as soon as they are drawn, first in line on the Rate page, and the trainer waits with
the rollout in memory, giving way on the device. What people say of a group is one more reward of it, so the
update is on-policy. A run that is stopped or killed meanwhile draws the same rollout again, since its noise
follows from counters, and finds the rows with what was said so far. Where it goes on from other weights than
then, the same seeds are other images: they are asked about anew, and what was said of the first ones stays
with those. When the time is up, the rewards decide alone; an attempt that goes on from a stop has the whole
time again, however long the run lay still.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgrpo.config import PeopleConfig, RunConfig, SamplingConfig
from flowgrpo.preferences.votes import group_scores
from flowgrpo.rollout import Rollout
from flowgrpo.runs.beats import Beats
from flowgrpo.runs.generation import store_image
from flowgrpo.runs.pictures import read_png
from flowgrpo.runs.position import Position
from flowgrpo.runs.runner import painter_id
from flowgrpo.runs.scoring import Columns
from flowgrpo.runs.votes import votes_of
from flowgrpo.runs.watch import Watch
from storage import blobs, groups, judged, snapshots
from storage.engine import Database
from storage.groups import GroupView, ScoreInput
from storage.models import ImageGroup, RatingEvent, Run

PEOPLE: Final = "people"
"""The column of what was said of a rollout's own images."""
USUAL_STD: Final = 0.5
"""Of that column within a group, in nats: about what one choice of the best of eight gives."""
POLL_SECONDS = 1.0


@dataclass
class Audience:
    """Asks people about the rollouts of one run.

    Attributes:
        parent: checkpoint that the rows name: the run's own are not committed yet.
    """

    db: Database
    run: Run
    config: RunConfig
    settings: PeopleConfig
    parent: str
    position: Position
    beats: Beats
    watch: Watch
    _said: list[int] = field(default_factory=list)
    """Numbers of the votes in the last answer."""

    def ask(
        self, number: int, rollouts: Sequence[Rollout], columns: Columns, versions: Mapping[str, str]
    ) -> Tensor:
        """Shows the groups of rollout `number` and waits for people.

        Args:
            columns: what the rewards say of them; kept, so that weights can be fitted to these votes too.
            versions: reward name to its version.

        Returns:
            (group, sample): how well people liked each image, in nats; NaN where nobody said anything.
        """
        self._said = []
        shown = self._shown(number, rollouts)
        groups.add_scores(self.db, scores_of(shown, columns, versions))
        asked = [view.group.id for view in shown if view is not None]
        judged.ask_about(self.db, self.run.id, asked)
        said = self._wait(number, asked)
        judged.ask_about(self.db, self.run.id, [])
        liked = group_scores(votes_of(self.db, said)) if said else {}
        rows = torch.stack(
            [row_of(view, liked, len(rollout.seeds)) for view, rollout in zip(shown, rollouts, strict=True)]
        )
        heard = zip(shown, rows.isfinite().any(1).tolist(), strict=True)
        taught = {view.group.id for view, is_heard in heard if view is not None and is_heard}
        self._said = [vote.seq for vote in said if vote.group_id in taught]
        return rows

    def learned(self) -> None:
        """Notes that an update was made of the last answer: from here on checkpoints name its votes."""
        self.position.heard = sorted({*self.position.heard, *self._said})

    def _shown(self, number: int, rollouts: Sequence[Rollout]) -> list[GroupView | None]:
        """The groups' rows, made now or by an earlier attempt that drew the very same pixels; None for a
        group with broken images.
        """
        kept = [view for view in groups.groups_of_run(self.db, self.run.id) if _is_of(view.group, number)]
        shown: list[GroupView | None] = []
        num_other = 0
        for rollout in rollouts:
            if not bool(rollout.is_finite.all()):
                shown.append(None)
                continue
            asked = rollout.prompts[0], list(rollout.seeds)
            earlier = [view for view in kept if (view.group.prompt, view.group.seeds) == asked]
            pixels = rollout.images_uint8.cpu()
            same = next((view for view in reversed(earlier) if self._shows(view, pixels)), None)
            num_other += bool(earlier) and same is None
            shown.append(self._store(number, rollout) if same is None else same)
        if num_other:
            self.watch.warn(
                f"{num_other} groups of rollout {number} came out otherwise than when they were shown first, "
                "since the run went on from other weights: people are asked about the new images, and what "
                "was said of the earlier ones stays with those."
            )
        return shown

    def _shows(self, view: GroupView, pixels: UInt8[Tensor, "sample 3 height width"]) -> bool:
        """Whether these are the group's images; not where a file is gone.

        Pixels are compared, and not hashes: those are of files, which another version of the encoder writes
        otherwise.
        """
        paths = [blobs.path_of(self.db.home, one.image.sha256) for one in view.images]
        return all(
            path.is_file() and torch.equal(read_png(path), image)
            for path, image in zip(paths, pixels, strict=True)
        )

    def _store(self, number: int, rollout: Rollout) -> GroupView:
        settings = self.config.rollout
        sampling = SamplingConfig(
            num_steps=settings.num_steps, guidance_scale=settings.guidance_scale,
            width=settings.width, height=settings.height,
        )  # fmt: skip
        group = groups.request_group(
            self.db, prompt=rollout.prompts[0], checkpoint_id=self.parent, config=sampling.model_dump(),
            seeds=list(rollout.seeds), kind="rollout", run_id=self.run.id, update=number,
            worker_id=painter_id(self.run.id),
        )  # fmt: skip
        model = f"Run {self.run.number} · rollout {number}"
        for index, image in enumerate(rollout.images_uint8.cpu()):
            store_image(self.db, group, index, image, sampling, model)
        groups.finish_group(self.db, group.id)
        return groups.get_group(self.db, group.id)

    def _wait(self, number: int, asked: Sequence[str]) -> list[RatingEvent]:
        """The votes on the groups, once enough have some or the time is up, which begins now."""
        until = time.monotonic() + 60 * self.settings.timeout_minutes
        wanted = min(len(asked), self.settings.min_groups or len(asked))
        while True:
            said = snapshots.standing_votes(self.db, asked)
            judged = {vote.group_id for vote in said}
            if len(judged) >= wanted:
                return said
            if time.monotonic() >= until:
                self.watch.warn(
                    f"Nobody rated {len(asked) - len(judged)} of {len(asked)} groups of rollout {number} "
                    f"within {self.settings.timeout_minutes:g} minutes: there the rewards decided alone."
                )
                return said
            self.beats.tick(f"waiting for ratings: {len(judged)} of {len(asked)} groups are rated")
            self.beats.pause_if_asked()
            self.beats.stop.wait(POLL_SECONDS)


def _is_of(group: ImageGroup, number: int) -> bool:
    """Whether it is a finished group of this rollout."""
    return (group.kind, group.update, group.state) == ("rollout", number, "done")


def scores_of(
    shown: Sequence[GroupView | None], columns: Columns, versions: Mapping[str, str]
) -> list[ScoreInput]:
    """The columns' values of images that are rows."""
    found = []
    for name in columns.rewards.keys() & versions.keys():
        why = columns.reasons.get(name, "it was not scored")
        for view, values in zip(shown, columns.rewards[name].tolist(), strict=True):
            for image, value in zip(view.images if view else [], values, strict=False):
                known, reason = (value, None) if math.isfinite(value) else (None, why)
                found.append(ScoreInput(image.image.id, name, versions[name], known, reason))
    return found


def row_of(
    view: GroupView | None, liked: Mapping[str, Mapping[str, float]], size: int
) -> Float[Tensor, " sample"]:
    """How well each image of a group is liked, in nats; NaN for all where nobody said anything.

    Images of a judged group that nobody named get 0, their most probable value: they are as likely good as
    bad. Were they unknown, one choice between two of eight would count for nothing.
    """
    found = liked.get(view.group.id, {}) if view is not None else {}
    if view is None or not any(found.values()):
        return torch.full((size,), float("nan"))
    return torch.tensor([found.get(one.image.id, 0.0) for one in view.images])


def audience_of(
    db: Database, run: Run, config: RunConfig, parent: str, position: Position, beats: Beats, watch: Watch
) -> Audience | None:
    """Whom a run asks; None where it asks nobody."""
    return Audience(db, run, config, config.people, parent, position, beats, watch) if config.people else None
