"""Groups that people have rated, as what an update learns from: no new images, whatever checkpoint made them.

The images go through the VAE, and what people said of each group becomes its advantages: one number per image
(`preferences.votes.group_scores`) over how much it varies in a usual group. That is sound for losses on
re-noised images, which need no trajectory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgrpo.advantages import Advantages
from flowgrpo.config import RunConfig
from flowgrpo.given import given_rollout
from flowgrpo.learner import Learner
from flowgrpo.preferences.votes import group_scores
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Rollout
from flowgrpo.runs.pictures import read_png
from flowgrpo.runs.prompts import prompts_of_rollout
from flowgrpo.runs.sources import Groups, Pictures
from flowgrpo.runs.team import make_source
from flowgrpo.runs.votes import as_votes
from flowgrpo.seeds import group_seeds
from storage import blobs, judged, snapshots
from storage.engine import Database
from storage.judged import JudgedGroup

MAX_KEPT = 64
"""Groups whose latents stay in memory."""
_SIDE = 16
"""Pixels: every base takes images whose sides are multiples of it."""
_SEEDS = -2
"""In the place of an update number: a group is encoded with the same draw each time."""


@dataclass(frozen=True)
class Rated:
    """A group and what people think of its images.

    Attributes:
        scores: in nats, NaN for an image of which nobody said anything.
    """

    group: str
    prompt: str
    images: UInt8[Tensor, "sample 3 height width"]
    scores: Float[Tensor, " sample"]


def rated_groups(db: Database, snapshot_id: str) -> list[Rated]:
    """The groups of a snapshot of votes, oldest first; without those whose files are gone, and those of which
    nothing is to be learned.

    Raises:
        LookupError: no such snapshot.
        ValueError: none of its groups is left.
    """
    events = snapshots.votes_of(db, snapshot_id)
    groups = judged.judged_groups(db, {event.group_id for event in events})
    liked = group_scores(as_votes(events, groups))
    read = [_read(db, group, liked.get(name, {})) for name, group in groups.items()]
    found = sorted((one for one in read if one is not None), key=lambda one: one.group)
    if not found:
        raise ValueError("none of the rated groups has images and a choice to learn from: rate some groups")
    return found


def _read(db: Database, judged_group: JudgedGroup, liked: dict[str, float]) -> Rated | None:
    paths = [blobs.path_of(db.home, image.sha256) for image in judged_group.images]
    scores = torch.tensor([liked.get(image.id, float("nan")) for image in judged_group.images])
    known = scores[scores.isfinite()]
    if len(known) < 2 or bool((known == known[0]).all()) or not all(path.is_file() for path in paths):
        return None
    images = _of_one_size([read_png(path) for path in paths])
    if images is None:
        return None
    return Rated(judged_group.group.id, judged_group.group.prompt, images, scores)


def _of_one_size(images: list[UInt8[Tensor, "3 height width"]]) -> UInt8[Tensor, "n 3 height width"] | None:
    """The images in one tensor; None where they differ in size, as groups that were imported may.

    Of sides that no base takes, the middle: images of ours have multiples of `_SIDE` already.
    """
    height, width = images[0].shape[1:]
    if any(image.shape != images[0].shape for image in images) or min(height, width) < _SIDE:
        return None
    top, left = height % _SIDE // 2, width % _SIDE // 2
    kept = torch.stack(images)
    return kept[..., top : top + height - height % _SIDE, left : left + width - width % _SIDE]


class RatedPlan:
    """Which rated groups each update learns from, and what they are worth."""

    def __init__(self, config: RunConfig, groups: Sequence[Rated]) -> None:
        self.config = config
        self.groups = {one.group: one for one in groups}
        self.spread = _usual_spread(groups)
        self._schedule = self._turns()

    def _turns(self) -> list[list[str]]:
        """Groups of one shape go together; each shape has as many turns as it needs to be through."""
        shapes: dict[tuple[int, ...], list[str]] = {}
        for name, one in self.groups.items():
            shapes.setdefault(tuple(one.images.shape), []).append(name)
        size = self.config.rollout.groups_per_update
        return [names for names in shapes.values() for _ in range(-(-len(names) // size))]

    def chosen(self, number: int) -> list[str]:
        """The groups of update `number`, from 1 on: all of them come up before one comes up again."""
        turn, place = divmod(number - 1, len(self._schedule))
        names = self._schedule[place]
        earlier = sum(one is names for one in self._schedule[:place])
        turns = sum(one is names for one in self._schedule)
        size = min(self.config.rollout.groups_per_update, len(names))
        return prompts_of_rollout(names, self.config.seed, turn * turns + earlier, size)

    def advantages(self, number: int) -> Advantages:
        """What people said of the groups of an update, in usual spreads; unjudged images do not count."""
        scores = torch.stack([self.groups[name].scores for name in self.chosen(number)])
        counted = scores.isfinite()
        clip = self.config.update.advantage_clip
        values = torch.where(counted, scores / self.spread, 0.0).clamp(-clip, clip).float()
        dead = torch.zeros(len(values), dtype=torch.bool)
        return Advantages(values, counted, dead, {"advantage_std": values[counted].std().item()})


class RatedGroups:
    """The source of a run that learns from ratings."""

    def __init__(self, plan: RatedPlan, learner: Learner) -> None:
        self.plan, self.learner = plan, learner
        self._latents: dict[str, Rollout] = {}

    def rollouts(
        self,
        number: int,
        num_groups: int,
        micro_batch: int,
        tick: Callable[[str], None],
        *,
        on_base: bool = False,
    ) -> list[Rollout]:
        """The groups of an update as rollouts of given images."""
        del num_groups, on_base
        found = []
        for index, name in enumerate(self.plan.chosen(number)):
            tick(f"rated group {index + 1}")
            found.append(self._rollout(self.plan.groups[name], micro_batch))
        return found

    def _rollout(self, one: Rated, micro_batch: int) -> Rollout:
        if one.group not in self._latents:
            if len(self._latents) >= MAX_KEPT:
                self._latents.pop(next(iter(self._latents)))
            size = len(one.images)
            place = list(self.plan.groups).index(one.group)
            seeds = group_seeds(self.plan.config.seed, _SEEDS, place, size)
            self._latents[one.group] = given_rollout(
                self.learner.policy,
                one.images.float() / 255,
                [one.prompt] * size,
                seeds,
                micro_batch_size=micro_batch,
            )
        return self._latents[one.group]

    def advantages(self, number: int) -> Advantages:
        """What people said of the groups of an update."""
        return self.plan.advantages(number)

    def share_of(self, advantages: Advantages | None, rollouts: list[Rollout]) -> Advantages:
        """All of it: such a run has one process."""
        del rollouts
        assert advantages is not None
        return advantages


def _usual_spread(groups: Sequence[Rated]) -> float:
    """Root mean square of the groups' stds."""
    stds = [one.scores[one.scores.isfinite()].std().item() for one in groups]
    return math.sqrt(max(sum(std**2 for std in stds) / len(stds), 1e-12))


def source_of(
    db: Database, config: RunConfig, learner: Learner, stack: RewardStack
) -> Groups | Pictures | RatedGroups:
    """Where a run's images come from: the policy, a folder, or groups that people have rated.

    Raises LookupError or ValueError where those cannot be learned from.
    """
    if config.ratings is None:
        return make_source(config, learner, stack)
    if learner.world.size > 1:
        raise ValueError("A run that learns from ratings has one process: launch it without several.")
    return RatedGroups(RatedPlan(config, rated_groups(db, config.ratings.snapshot)), learner)
