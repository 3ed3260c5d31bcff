"""Sample grids of a run: the averaged weights at fixed prompts and seeds, as groups of kind `sample`.

A grid is also the run's own examination: what no reward contains is measured on it, and held against the
base's grid at the same prompts and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowgrpo.config import RunConfig, SamplingConfig
from flowgrpo.looks import looks
from flowgrpo.policies import Policy
from flowgrpo.rewards.base import ScoreBatch, ScoreResult
from flowgrpo.rewards.checks import own_warning
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import EMBEDDED, RewardStack, load_stack
from flowgrpo.rewards.verifier import AttributeVerifier
from flowgrpo.rollout import denoise
from flowgrpo.runs.beats import StopRequestedError
from flowgrpo.runs.generation import (
    BrokenImagesError,
    InterruptedDrawingError,
    refuse_broken,
    store_image,
    store_scores,
)  # fmt: skip
from flowgrpo.runs.pictures import Pixels, read_png
from flowgrpo.runs.runner import painter_id
from flowgrpo.runs.scoring import DIVERSITY
from flowgrpo.seeds import group_seeds
from storage import blobs, groups
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Run

MAX_PROMPTS = 4
STARTER = "starter"
"""Name of the base that the judge knows."""
_COUNTER = -1
"""In the place of an update number: the grid's seeds are the same at every update."""


def is_due(config: RunConfig, update: int) -> bool:
    """A grid is drawn at the start, at the end, and whenever `sample_every` updates have passed."""
    if config.samples == 0:
        return False
    step = config.update.updates_per_rollout
    passed = update // config.sample_every > max(update - step, 0) // config.sample_every
    return update == 0 or update >= config.num_updates or passed


def plan(config: RunConfig) -> list[tuple[str, list[int]]]:
    """Prompts and their seeds: the first held-out prompts, `samples` images in all.

    Each prompt has two images or more where there are as many: images of one prompt tell the diversity.
    """
    prompts = (config.held_out_prompts or config.prompts)[: min(MAX_PROMPTS, max(1, config.samples // 2))]
    shares = [len(range(i, config.samples, len(prompts))) for i in range(len(prompts))]
    return [
        (p, group_seeds(config.seed, _COUNTER, i, n))
        for i, (p, n) in enumerate(zip(prompts, shares, strict=True))
    ]


def judges_of(base: str, config: RunConfig, options: Options) -> RewardStack:
    """What judges a run and never rewards it: what the run names, with what could not be loaded among the
    unavailable. Where it names nothing: the judge, if the base is the starter; for any other base the
    embedded rewards without a weight.

    Raises:
        LookupError: no reward has such a name.
    """
    weights, device = options.weights, options.device
    if config.judges:
        return load_stack(config.judges, weights, device, options)
    if base == STARTER and (weights / "judge" / "model.safetensors").is_file():
        return RewardStack({"judge": AttributeVerifier(weights / "judge", "judge", device)})
    rest = [name for name in EMBEDDED if name != DIVERSITY and not config.reward_weights.get(name)]
    return RewardStack(load_stack(rest, weights, device).rewards)


@dataclass(frozen=True)
class BaseScores:
    """What a reward of one version says about the images of the base's grid."""

    version: str
    values: Tensor


@dataclass
class Grids:
    """Draws, scores and judges the grids of one run.

    Attributes:
        stack: the rewards whose scores are stored with the images.
        judges: what the run is not rewarded by; their scores stay out of the rows that people see.
        tick: called after each network call; what it raises ends the grid.
        warnings: what each reward said last of the images of a grid.
        gaps: why a judge that the run names left images of the last grid without a score.
    """

    db: Database
    run: Run
    config: RunConfig
    policy: Policy
    stack: RewardStack
    judges: RewardStack
    tick: Callable[[], None]
    warnings: dict[str, str] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    _of_base: dict[str, Tensor] = field(default_factory=dict)
    _rewards_of_base: dict[str, BaseScores] = field(default_factory=dict)

    def draw(self, update: int, checkpoint_id: str, micro_batch: int) -> dict[str, float]:
        """Draws and stores the grid of an update with the weights that the policy has now.

        Args:
            checkpoint_id: what the rows name as their checkpoint.

        Returns:
            `held_out/<name>`: means of rewards, judges and looks over the grid; `held_out_error/<name>`: how
            sure the difference of a judge, a weighted reward or diversity to the base's grid is;
            `held_out_base/<name>`: the base's mean by one of them that is another version by now, such as a
            refitted head.

        Raises:
            BrokenImagesError: an image is not finite; its group has failed, and the grid has no later ones.
            StopRequestedError: the run was stopped while a reward or a judge was waited for.
        """
        columns: dict[str, list[float]] = {}
        drawn: list[tuple[str, list[Pixels]]] = []
        for prompt, seeds in plan(self.config):
            pixels, scores = self._group(prompt, seeds, update, checkpoint_id, micro_batch)
            drawn.append((prompt, pixels))
            for name, values in scores.items():
                columns.setdefault(name, []).extend(math.nan if value is None else value for value in values)
        means = {f"held_out/{n}": torch.tensor(values).nanmean().item() for n, values in columns.items()}
        found = {name: mean for name, mean in means.items() if math.isfinite(mean)}
        return found | self._rewarded(columns, update) | self._judged(drawn, update)

    def _rewarded(self, columns: Mapping[str, list[float]], update: int) -> dict[str, float]:
        """How sure the differences of the weighted rewards and of diversity to the base's grid are, and what
        the base's is by those that have changed since it was drawn: two versions have no difference.
        """
        known = {name for name, weight in self.config.reward_weights.items() if weight} | {DIVERSITY}
        now = {name: torch.tensor(column) for name, column in columns.items() if name in known}
        versions = self.stack.versions
        if update == 0:
            self._rewards_of_base = {name: BaseScores(versions[name], now[name]) for name in now}
            return {}
        drawn = self._drawn_rewards(now)
        same = {name: base for name, base in drawn.items() if base.version == versions.get(name)}
        again = self._scored_again(drawn.keys() - same.keys())
        base = same | again
        errors = {f"held_out_error/{n}": _error(v, base[n].values) for n, v in now.items() if n in base}
        means = {f"held_out_base/{n}": one.values.nanmean().item() for n, one in again.items()}
        return {name: number for name, number in (errors | means).items() if math.isfinite(number)}

    def _drawn_rewards(self, names: Iterable[str]) -> dict[str, BaseScores]:
        """The rewards of the base's grid as it was drawn, from their rows where another attempt drew it."""
        if not self._rewards_of_base:
            shown = [image for view in grid_of(self.db, self.run.id, 0) for image in view.images]
            for name in names:
                scores = [image.scores.get(name) for image in shown]
                values = [score.value if score else None for score in scores]
                column = torch.tensor([math.nan if value is None else value for value in values])
                version = next((score.version for score in scores if score), "")
                self._rewards_of_base[name] = BaseScores(version, column)
        return self._rewards_of_base

    def _scored_again(self, names: Iterable[str]) -> dict[str, BaseScores]:
        """The base's grid by what these rewards are now."""
        rewards = {name: self.stack.rewards[name] for name in names if name in self.stack.rewards}
        drawn = self._drawn_by_base() if rewards else []
        scored = RewardStack(rewards).score(_batch(drawn)) if drawn else {}
        return {name: BaseScores(rewards[name].spec.version, one.values) for name, one in scored.items()}

    def _group(
        self, prompt: str, seeds: list[int], update: int, checkpoint_id: str, micro_batch: int
    ) -> tuple[list[Pixels], dict[str, list[float | None]]]:
        rollout = self.config.rollout
        sampling = SamplingConfig(
            num_steps=rollout.num_steps,
            guidance_scale=rollout.guidance_scale,
            width=rollout.width,
            height=rollout.height,
        )
        group = groups.request_group(
            self.db, prompt=prompt, checkpoint_id=checkpoint_id, config=sampling.model_dump(), seeds=seeds,
            kind="sample", run_id=self.run.id, update=update, worker_id=painter_id(self.run.id),
        )  # fmt: skip
        settings = sampling.model_dump()
        for step in denoise(
            self.policy, [prompt] * len(seeds), seeds=seeds, micro_batch_size=micro_batch, **settings
        ):
            self.tick()
            drawn = step.rollout
        assert drawn is not None
        model = f"Run {self.run.number} · update {update}"
        try:
            refuse_broken(drawn, model)
        except BrokenImagesError as error:
            groups.fail_group(self.db, group.id, str(error))
            raise
        pixels = list(drawn.images_uint8.cpu())
        images = [store_image(self.db, group, i, image, sampling, model) for i, image in enumerate(pixels)]
        try:
            stored = store_scores(self.db, self.stack, group, images, pixels)
        except InterruptedDrawingError:
            raise StopRequestedError from None
        self.warnings |= stored.warnings
        groups.finish_group(self.db, group.id)
        return pixels, stored.values

    def _judged(self, drawn: Sequence[tuple[str, list[Pixels]]], update: int) -> dict[str, float]:
        """Means of looks and judges, and how sure a judge's difference to the base's grid is."""
        results = self._asked(drawn)
        self._hear(results)
        scores = {name: result.values for name, result in results.items()}
        if update == 0:
            self._of_base = scores
        found = {
            f"held_out/{name}": values.mean().item() for name, values in looks(_batch(drawn).images).items()
        }
        for name, values in scores.items():
            error = _error(values, self._base_scores().get(name)) if update else 0.0
            if values.isfinite().any() and math.isfinite(error):
                found |= {f"held_out/{name}": values.nanmean().item(), f"held_out_error/{name}": error}
        return found

    def _asked(self, drawn: Sequence[tuple[str, list[Pixels]]]) -> dict[str, ScoreResult]:
        """What the judges say of these images."""
        results = self.judges.score(_batch(drawn))
        if self.judges.is_interrupted:
            raise StopRequestedError
        return results

    def _hear(self, results: Mapping[str, ScoreResult]) -> None:
        """Keeps what the named judges say beside their scores, and why they have none."""
        named = {name: one for name, one in results.items() if name in self.config.judges}
        said = {name: own_warning(name, one) for name, one in named.items()}
        self.warnings |= {name: words for name, words in said.items() if words}
        first = {name: next((why for why in one.reasons if why), "") for name, one in named.items()}
        self.gaps = {name: why for name, why in first.items() if why}

    def _base_scores(self) -> dict[str, Tensor]:
        """The judges' scores of the base's grid, from its images where another attempt drew it."""
        if not self._of_base:
            drawn = self._drawn_by_base()
            if drawn:
                self._of_base = {name: result.values for name, result in self._asked(drawn).items()}
        return self._of_base

    def _drawn_by_base(self) -> list[tuple[str, list[Pixels]]]:
        """Prompts and images of the base's grid, from their files."""
        views = grid_of(self.db, self.run.id, 0)
        return [(view.group.prompt, [self._read(one.image.sha256) for one in view.images]) for view in views]

    def _read(self, sha256: str) -> Pixels:
        return read_png(blobs.path_of(self.db.home, sha256))


def _batch(drawn: Sequence[tuple[str, list[Pixels]]]) -> ScoreBatch:
    images = [image for _, pixels in drawn for image in pixels]
    prompts = [prompt for prompt, pixels in drawn for _ in pixels]
    numbers = [index for index, (_, pixels) in enumerate(drawn) for _ in pixels]
    return ScoreBatch(torch.stack(images), prompts, numbers)


def _error(now: Tensor, base: Tensor | None) -> float:
    """Standard error of the mean difference, paired by image; NaN where there are no two pairs."""
    if base is None or base.shape != now.shape:
        return math.nan
    differences = (now - base)[(now - base).isfinite()]
    return differences.std().item() / len(differences) ** 0.5 if len(differences) > 1 else math.nan


def grid_of(db: Database, run_id: str, update: int) -> list[GroupView]:
    """The finished groups of an update's grid, one a prompt, in order; those of its last drawing."""
    made = [
        view
        for view in groups.groups_of_run(db, run_id)
        if view.group.update == update and view.group.kind == "sample"
    ]
    done = {view.group.prompt: view for view in made if view.group.state == "done"}
    return sorted(done.values(), key=lambda view: view.group.seq)
