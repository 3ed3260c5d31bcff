"""What an update learns from: the groups of a rollout, their scores, and the advantages that follow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from flowgrpo.advantages import Advantages, calibrate, combine
from flowgrpo.config import RunConfig
from flowgrpo.learner import Learner
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Rollout, denoise, rollout_settings
from flowgrpo.running import RunningStatistics
from flowgrpo.runs import exits
from flowgrpo.runs.beats import Beats
from flowgrpo.runs.position import Position
from flowgrpo.runs.prompts import prompts_of_rollout
from flowgrpo.runs.scoring import (
    DIVERSITY,
    Columns,
    base_metrics,
    measured,
    reward_metrics,
    sample_metrics,
    score,
)  # fmt: skip
from flowgrpo.runs.watch import Watch
from flowgrpo.seeds import group_seeds

CALIBRATION_GROUPS = 6
"""Groups of the base that fix each reward's usual spread within a group, before the first update."""


@dataclass(frozen=True)
class Experience:
    """One rollout, scored."""

    rollouts: Sequence[Rollout]
    columns: Columns
    advantages: Advantages
    metrics: dict[str, float]


class Gatherer:
    """Samples and scores groups for one attempt, inside a turn on the device."""

    def __init__(
        self,
        config: RunConfig,
        learner: Learner,
        stack: RewardStack,
        position: Position,
        *,
        watch: Watch,
        beats: Beats,
    ) -> None:
        self.config, self.learner, self.stack, self.position = config, learner, stack, position
        self.watch, self.beats = watch, beats

    @property
    def micro_batch(self) -> int:
        """Samples per forward, in rollout and update alike."""
        return self.position.micro_batch or self.config.update.micro_batch_size

    def calibrate(self) -> dict[str, float]:
        """Measures how much each reward usually varies within a group of the base.

        Returns:
            What the base's samples are like, as metrics.

        Raises:
            EndedError: no reward could score a single group.
        """
        with self.learner.policy.reference():
            rollouts = self._rollouts(0, CALIBRATION_GROUPS, "measuring the rewards on the base")
            columns = score(self.stack, rollouts)
        stds = calibrate(columns.rewards)
        self.watch.gaps(columns.reasons)
        names = weighted(self.config)
        if not any(name in stds for name in names):
            why = "; ".join(columns.reasons.get(name, name) for name in names)
            raise exits.EndedError(exits.REWARDS_FAILED, f"No reward could score the base's images: {why}.")
        for name in [name for name in names if name not in stds]:
            self.watch.warn(f"{name} could not score the base's groups: it takes part once it scores one.")
        self.position.calibrated_stds = stds
        return base_metrics(rollouts) | columns.failures

    def gather(self, number: int) -> Experience:
        """Samples the groups of rollout `number`, scores them and weighs the scores."""
        started = time.perf_counter()
        with self.learner.behaviour():
            rollouts = self._rollouts(number, self.config.rollout.groups_per_update, "sampling")
        sampled = time.perf_counter()
        self.beats.say("scoring", now=True)
        columns = score(self.stack, rollouts)
        self.watch.gaps(columns.reasons)
        self._calibrate_late(number, columns)
        scored = time.perf_counter()
        assert self.position.calibrated_stds is not None
        advantages = combine(
            measured(columns.rewards, self.position.calibrated_stds),
            self.config.reward_weights,
            self.position.calibrated_stds,
            diversity=columns.rewards.get(DIVERSITY),
            clip=self.config.update.advantage_clip,
            config=self.config.advantages,
            running=self._running(rollouts),
        )
        times = {"seconds/rollout": sampled - started, "seconds/reward": scored - sampled}
        metrics = self._metrics(rollouts, columns, advantages) | times
        return Experience(rollouts, columns, advantages, metrics)

    def _running(self, rollouts: Sequence[Rollout]) -> RunningStatistics | None:
        """What the prompts of these groups were given before, where advantages come from that."""
        settings = self.config.advantages
        if settings.std != "running":
            return None
        prompts = [rollout.prompts[0] for rollout in rollouts]
        return RunningStatistics(prompts, self.position.running, settings.buffer_size, settings.min_count)

    def _metrics(
        self, rollouts: Sequence[Rollout], columns: Columns, advantages: Advantages
    ) -> dict[str, float]:
        shares = {n: v for n, v in advantages.metrics.items() if n.startswith("unscored_share/")}
        names = weighted(self.config)
        failed = {n: v for n, v in columns.failures.items() if n.partition("/")[2] in names}
        return {
            **reward_metrics(columns.rewards, self.config.reward_weights),
            **shares,
            **failed,
            **sample_metrics(rollouts),
            "advantage/mean": advantages.metrics["advantage_mean"],
            "advantage/std": advantages.metrics["advantage_std"],
            "groups/dead_share": advantages.metrics["dead_group_share"],
        }

    def _calibrate_late(self, number: int, columns: Columns) -> None:
        """Measures rewards that score for the first time, as at the start: on the base, at these prompts."""
        stds = self.position.calibrated_stds
        assert stds is not None
        late = [n for n in weighted(self.config) if n not in stds and columns.rewards[n].isfinite().any()]
        if not late:
            return
        with self.learner.policy.reference():
            rollouts = self._rollouts(number, self.config.rollout.groups_per_update, "measuring late rewards")
            on_base = score(self.stack, rollouts)
        found = calibrate({name: on_base.rewards[name] for name in late})
        self.position.calibrated_stds = stds | found
        for name in found:
            self.watch.warn(
                f"{name} scored its first group in rollout {number} and takes part from there on."
            )

    @torch.no_grad()
    def _rollouts(self, number: int, num_groups: int, phase: str) -> list[Rollout]:
        """The groups of rollout `number`; 0 is the calibration, the first update's is 1."""
        config = self.config
        prompts = prompts_of_rollout(config.prompts, config.seed, max(number - 1, 0), num_groups)
        rollouts: list[Rollout] = []
        for index, prompt in enumerate(prompts):
            seeds = group_seeds(config.seed, number, index, config.rollout.group_size)
            settings = rollout_settings(config.rollout, self.micro_batch, config.seed, number, index)
            for progress in denoise(self.learner.policy, [prompt] * len(seeds), seeds=seeds, **settings):
                self.beats.tick(f"{phase}: group {index + 1} of {num_groups}")
                if progress.rollout is not None:
                    rollouts.append(progress.rollout)
        return rollouts


def weighted(config: RunConfig) -> list[str]:
    """The rewards that a run learns from."""
    return [name for name, weight in config.reward_weights.items() if weight]
