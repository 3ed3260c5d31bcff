"""One method with one seed: train, measure on the way, measure at the end, keep everything on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.learning.judging import Judging
from benchmarks.learning.methods import IMAGES_PER_UPDATE, Method
from flowgrpo.advantages import Advantages, calibrate, combine
from flowgrpo.checkpoint import load_checkpoint, newest_valid, save_checkpoint
from flowgrpo.config import RunConfig
from flowgrpo.given import all_count, given_rollout
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rollout import Rollout
from flowgrpo.running import Buffers, RunningStatistics
from flowgrpo.runs.experience import CALIBRATION_GROUPS
from flowgrpo.runs.scoring import DIVERSITY
from flowgrpo.runs.sources import Groups
from flowgrpo.seeds import derive_seed, group_seeds
from flowgrpo.starter.dataset import Portraits
from flowgrpo.starter.portraits import caption
from flowgrpo.update import update


@dataclass
class Cost:
    """What has been spent on learning; evaluation is not counted.

    evaluations: images through the denoiser; one with gradient counts as three, since its backward pass
        costs as much as two forward ones.
    """

    updates: int = 0
    images: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    """Of computing, all threads together: on one thread, wall-clock without waiting for other programs."""


@dataclass
class Result:
    """A race as it is stored."""

    method: str
    seed: int
    curve: list[dict[str, float]] = field(default_factory=list)
    final: dict[str, dict[str, float]] = field(default_factory=dict)
    """Sampler ("fast", "guided") to metric to value."""
    machine: dict[str, Any] = field(default_factory=dict)


class Racer:
    """A policy that learns by one method."""

    def __init__(self, method: Method, seed: int, num_updates: int, weights: Path, given: Portraits) -> None:
        self.is_sft, self.given = method.config.algorithm.name == "sft", given
        changes = {"seed": seed, "num_updates": num_updates}
        self.config: RunConfig = method.config.model_copy(update=changes)
        assert self.config.lora is not None
        self.policy: Policy = load_policy(weights / "pipeline")
        self.policy.attach_lora(self.config.lora, seed=seed)
        self.learner = Learner(self.policy, self.config.update, self.config.algorithm)
        self.stack: RewardStack = load_stack([*self.config.reward_weights, DIVERSITY], weights)
        self.cost = Cost()
        self.buffers: Buffers = {}
        self._is_counting = False
        self.policy.network.register_forward_pre_hook(self._count, with_kwargs=True)
        self.source = Groups(self.config, self.learner, self.stack)
        groups = self._sampled(0, CALIBRATION_GROUPS, on_base=True)
        self.stds = calibrate(self.source.score(groups, len(groups)).rewards)

    def save(self, folder: Path, result: Result) -> None:
        """Keeps where the race stands, for a later process to go on from."""
        progress = {"cost": asdict(self.cost), "buffers": self.buffers, "curve": result.curve}
        save_checkpoint(folder / f"{self.cost.updates:06d}", self.learner, progress)

    def resume(self, folder: Path, result: Result) -> None:
        """Goes on from the newest that `save` kept, if there is one."""
        newest, _ = newest_valid(folder)
        if newest is not None:
            progress = load_checkpoint(newest, self.learner)
            self.cost, self.buffers = Cost(**progress["cost"]), progress["buffers"]
            result.curve = progress["curve"]

    def _count(self, module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        del module, kwargs
        if self._is_counting:
            self.cost.evaluations += len(args[0]) * (3 if torch.is_grad_enabled() else 1)

    def _sampled(self, number: int, num_groups: int, *, on_base: bool = False) -> list[Rollout]:
        size = self.config.update.micro_batch_size
        return self.source.rollouts(number, num_groups, size, _quiet, on_base=on_base)

    def one_update(self) -> None:
        """Samples, scores and learns once, and counts what that cost."""
        started, self._is_counting = time.process_time(), True
        number = self.cost.updates + 1
        for group in self.learner.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self.cost.updates)
        rollouts, advantages = self._renders(number) if self.is_sft else self._groups(number)
        for _ in update(self.learner, rollouts, advantages):
            pass
        self._is_counting = False
        self.cost.updates = number
        self.cost.images += sum(len(rollout.seeds) for rollout in rollouts)
        self.cost.seconds += time.process_time() - started

    def _renders(self, number: int) -> tuple[list[Rollout], Advantages]:
        """A batch of the training renders with their captions, some captions dropped."""
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, number))
        index = torch.randint(len(self.given), (IMAGES_PER_UPDATE,), generator=generator)
        images = self.given.images[index].float() / 255
        captions = [caption(self.given.attributes[i]) for i in index.tolist()]
        keys = group_seeds(self.config.seed, number, 0, IMAGES_PER_UPDATE)
        dropped = torch.rand(IMAGES_PER_UPDATE, generator=generator) < 0.1
        return [given_rollout(self.policy, images, captions, keys, dropped=dropped)], all_count(len(keys))

    def _groups(self, number: int) -> tuple[list[Rollout], Advantages]:
        rollouts = self._sampled(number, self.config.rollout.groups_per_update)
        return rollouts, self._advantages(rollouts)

    def _advantages(self, rollouts: list[Rollout]) -> Advantages:
        columns = self.source.score(rollouts, len(rollouts)).rewards
        advantages = combine(
            columns,
            self.config.reward_weights,
            self.stds,
            diversity=columns[DIVERSITY] if self.config.advantages.diversity else None,
            clip=self.config.update.advantage_clip,
            config=self.config.advantages,
            running=self._running(rollouts),
        )
        self.buffers = advantages.buffers
        return advantages

    def _running(self, rollouts: list[Rollout]) -> RunningStatistics | None:
        settings = self.config.advantages
        if settings.std != "running":
            return None
        prompts = [rollout.prompts[0] for rollout in rollouts]
        return RunningStatistics(prompts, self.buffers, settings.buffer_size, settings.min_count)


def _quiet(phase: str) -> None:
    del phase


def race(
    method: Method, seed: int, num_updates: int, every: int, judging: Judging, folder: Path
) -> Iterator[Result]:
    """Yields the result after each measurement, from where an earlier process left it; the last one is
    complete.
    """
    racer = Racer(method, seed, num_updates, judging.weights, judging.training_renders)
    result = Result(method.name, seed)
    kept = folder / "kept" / f"{method.name}-{seed}"
    racer.resume(kept, result)
    while racer.cost.updates < num_updates or not result.curve:
        if result.curve:
            racer.one_update()
        if racer.cost.updates % every == 0 or racer.cost.updates == num_updates:
            with racer.policy.weights(racer.learner.ema):
                result.curve.append(asdict(racer.cost) | judging.glance(racer.policy))
            racer.save(kept, result)
            yield result
    with racer.policy.weights(racer.learner.ema):
        result.final = judging.whole(racer.policy, method.name, seed, judging.task.measured)
    yield result


def save(result: Result, folder: Path) -> None:
    """Writes the JSON of a race, complete or not."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.method}-{result.seed}.json").write_text(json.dumps(asdict(result), indent=1) + "\n")
