"""Where the images of an update come from: groups that the policy samples, or a folder of captioned images.

A source gives each process of a run its own share and brings scores together again, so that what follows from
them is the same however many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from flowgrpo.advantages import Advantages
from flowgrpo.batches import Batch, BatchPlan
from flowgrpo.buckets import make_buckets
from flowgrpo.choices import SFT
from flowgrpo.config import RunConfig
from flowgrpo.given import all_count, given_rollout
from flowgrpo.imagefolder import read_folder
from flowgrpo.learner import Learner
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Anchor, Rollout, denoise, rollout_settings
from flowgrpo.runs.prompts import prompts_of_rollout
from flowgrpo.runs.roles import holds_to_references
from flowgrpo.runs.scoring import Columns, score
from flowgrpo.seeds import group_seeds

Tick = Callable[[str], None]
"""Told what is being done after each network call; what it raises ends the work."""


class Groups:
    """Groups sampled with the policy, and their scores."""

    def __init__(self, config: RunConfig, learner: Learner, stack: RewardStack) -> None:
        self.config, self.learner, self.stack = config, learner, stack
        self.draws_anchors = holds_to_references(config, stack)

    def prompts(self, number: int, num_groups: int) -> list[str]:
        """One per group; the first update has those of the calibration."""
        return prompts_of_rollout(self.config.prompts, self.config.seed, max(number - 1, 0), num_groups)

    @torch.no_grad()
    def rollouts(
        self, number: int, num_groups: int, micro_batch: int, tick: Tick, *, on_base: bool = False
    ) -> list[Rollout]:
        """Whole groups; whatever process samples one, it comes out the same.

        Where a reward needs it, each image is anchored to the base's of the same seed and noise; the base's
        own to the next one of its group, which shows how far apart images of one prompt are.
        """
        draw = partial(self._draw, number, num_groups, micro_batch, tick)
        made = draw(on_base=on_base)
        if not self.draws_anchors:
            return made
        if on_base:
            return [_anchored(one, one.images_uint8.roll(-1, 0), one.is_finite.roll(-1, 0)) for one in made]
        base = draw(on_base=True, what="the base's group")
        return [_anchored(o, b.images_uint8, b.is_finite) for o, b in zip(made, base, strict=True)]

    def _draw(
        self,
        number: int,
        num_groups: int,
        micro_batch: int,
        tick: Tick,
        *,
        on_base: bool,
        what: str = "group",
    ) -> list[Rollout]:
        prompts = self.prompts(number, num_groups)
        made: list[Rollout] = []
        with self._behaviour(on_base=on_base):
            for index in self.learner.world.mine(num_groups):
                for rollout in self._group(number, index, prompts[index], micro_batch):
                    tick(f"{what} {index + 1} of {num_groups}")
                    made += [rollout] if rollout is not None else []
        return made

    def _behaviour(self, *, on_base: bool) -> AbstractContextManager[None]:
        return self.learner.policy.reference() if on_base else self.learner.behaviour()

    def _group(self, number: int, index: int, prompt: str, micro_batch: int) -> Iterator[Rollout | None]:
        """None after each network call, and at last the rollout."""
        config = self.config
        seeds = group_seeds(config.seed, number, index, config.rollout.group_size)
        settings = rollout_settings(
            config.rollout, micro_batch, config.seed, number, index,
            keeps_negative=config.update.reference_guidance is not None, kl_steps=config.update.kl_steps,
        )  # fmt: skip
        steps = denoise(self.learner.policy, [prompt] * len(seeds), seeds=seeds, **settings)
        for progress in steps:
            yield progress.rollout

    def score(self, rollouts: list[Rollout], num_groups: int) -> Columns:
        """The scores of all groups; every process calls it, with its own rollouts."""
        world = self.learner.world
        own = score(self.stack, rollouts) if rollouts else None
        parts: list[Columns] = [part for part in world.gather(own) if part is not None]
        if world.size == 1 or len(parts) == 1:
            return parts[0]
        own = own or _no_groups(parts[0])
        reasons = {name: reason for part in reversed(parts) for name, reason in part.reasons.items()}
        sizes = [len(next(iter(part.rewards.values()))) for part in parts]
        failures = {
            name: sum(size * part.failures[name] for size, part in zip(sizes, parts, strict=True))
            / sum(sizes)
            for name in parts[0].failures
        }
        rewards, failed = (world.gather_groups(one, num_groups) for one in (own.rewards, own.failed))
        warnings = {name: said for part in reversed(parts) for name, said in part.warnings.items()}
        return Columns(rewards, reasons, failures, failed, warnings, _details([p.details for p in parts]))

    def share_of(self, advantages: Advantages | None, rollouts: list[Rollout]) -> Advantages:
        """The rows of this process's groups."""
        assert advantages is not None
        del rollouts
        own = self.learner.world.mine(len(advantages.values))
        return Advantages(advantages.values[own], advantages.is_counted[own], advantages.dead_groups[own])


def _details(parts: Sequence[Mapping[str, Mapping[str, torch.Tensor]]]) -> dict[str, dict[str, torch.Tensor]]:
    """The details of all processes; a label may be missing where nothing had it."""
    labels = {(name, label): None for part in parts for name, column in part.items() for label in column}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, label in labels:
        there = [part[name][label] for part in parts if label in part.get(name, {})]
        found.setdefault(name, {})[label] = torch.cat(there)
    return found


def _no_groups(like: Columns) -> Columns:
    """The columns of a process that had nothing to score."""
    rewards, failed = ({n: c[:0] for n, c in one.items()} for one in (like.rewards, like.failed))
    return replace(like, rewards=rewards, failed=failed)


def _anchored(rollout: Rollout, images: torch.Tensor, is_finite: torch.Tensor) -> Rollout:
    return replace(rollout, anchor=Anchor(images, is_finite))


class Pictures:
    """A folder of captioned images, stage 1.

    Raises LookupError or ValueError for a folder that cannot be learned from.
    """

    def __init__(self, config: RunConfig, learner: Learner) -> None:
        assert isinstance(config.algorithm, SFT)
        self.settings: SFT = config.algorithm
        self.learner = learner
        area = config.rollout.width * config.rollout.height
        self.plan = BatchPlan(
            examples=read_folder(Path(self.settings.folder), allow_empty=bool(self.settings.tags.trigger)),
            buckets=make_buckets(area, learner.policy.size_step, self.settings.max_ratio),
            batch_size=self.settings.batch_size,
            seed=config.seed,
        )

    def rollouts(
        self, number: int, num_groups: int, micro_batch: int, tick: Tick, *, on_base: bool = False
    ) -> list[Rollout]:
        """This process's images of a batch, as one rollout; none where the batch is too small for all."""
        del num_groups, on_base
        tick("reading images")
        batch = self.plan.batch_at(number - 1)
        world = self.learner.world
        own = Batch(batch.bucket, batch.showings[world.rank :: world.size])
        if not own.showings:
            return []
        captions = own.captions(self.settings.tags)
        rollout = given_rollout(
            self.learner.policy,
            own.images(flip=self.settings.flip),
            captions,
            [showing.seed for showing in own.showings],
            dropped=torch.tensor([not caption for caption in captions]),
            sizes=own.micro_conditioning(),
            micro_batch_size=micro_batch,
        )
        return [rollout]

    def share_of(self, advantages: Advantages | None, rollouts: list[Rollout]) -> Advantages:
        """Every image counts, and as much as any other."""
        del advantages
        if rollouts:
            return all_count(len(rollouts[0].seeds))
        nothing = torch.zeros(0, 1)
        return Advantages(nothing, nothing.bool(), nothing.bool().flatten())
