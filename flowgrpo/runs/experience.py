"""What an update learns from: the images of a rollout, their scores, and the advantages that follow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from flowgrpo.advantages import Advantages, calibrate, ceilings, combine, with_base_caps
from flowgrpo.config import RunConfig
from flowgrpo.rollout import Rollout
from flowgrpo.running import Buffers, RunningStatistics
from flowgrpo.runs import exits
from flowgrpo.runs.audience import PEOPLE, USUAL_STD, Audience
from flowgrpo.runs.beats import Beats, StopRequestedError
from flowgrpo.runs.position import Position
from flowgrpo.runs.rated import RatedGroups
from flowgrpo.runs.roles import (
    detail_metrics,
    gate_failed,
    kinds_of,
    needed,
    role_metrics,
    weighted,
)  # fmt: skip
from flowgrpo.runs.scoring import (
    DIVERSITY,
    Columns,
    base_metrics,
    measured,
    reward_metrics,
    sample_metrics,
)  # fmt: skip
from flowgrpo.runs.sources import Groups, Pictures
from flowgrpo.runs.taste import Follower
from flowgrpo.runs.team import Lead
from flowgrpo.runs.watch import Watch

CALIBRATION_GROUPS = 6
"""Groups of the base that fix each reward's usual spread within a group, before the first update."""
Given = Pictures | RatedGroups
"""Sources of images that are there already."""
_SHARES = ("unscored_share/", "capped_share/")


@dataclass(frozen=True)
class Experience:
    """What one rollout gives: this process's rollouts, and what all of them together were worth.

    Attributes:
        columns: None for given images, which nobody scores.
        advantages: Of all groups; None where every image counts alike.
    """

    rollouts: list[Rollout]
    columns: Columns | None
    advantages: Advantages | None
    metrics: dict[str, float]

    @property
    def running(self) -> Buffers:
        """The running statistics after this rollout."""
        return self.advantages.buffers if self.advantages else {}


class Gatherer:
    """Samples and scores groups, or takes images from a folder; inside a turn on the device."""

    def __init__(
        self,
        config: RunConfig,
        source: Groups | Given,
        position: Position,
        *,
        lead: Lead,
        watch: Watch,
        beats: Beats,
        people: Follower | None = None,
        audience: Audience | None = None,
    ) -> None:
        self.config, self.source, self.position = config, source, position
        self.lead, self.watch, self.beats = lead, watch, beats
        self.people, self.audience = people, audience

    @property
    def micro_batch(self) -> int:
        """Samples per forward, in rollout and update alike."""
        return self.position.micro_batch or self.config.update.micro_batch_size

    def calibrate(self) -> dict[str, float]:
        """Measures how much each reward usually varies within a group of the base; given images need none.

        Returns:
            What the base's samples are like, as metrics.

        Raises:
            EndedError: no reward could score a single group.
        """
        if not isinstance(self.source, Groups):
            self.position.calibrated_stds = {}
            return {}
        self._ask_people()
        phase = "measuring the rewards on the base"
        rollouts, columns, _ = self._scored(self.source, 0, CALIBRATION_GROUPS, phase, on_base=True)
        stds = self._measure(self.source, columns.rewards)
        self.watch.gaps(columns.reasons)
        self.watch.notes(columns.warnings)
        names = weighted(self.config)
        if not any(name in stds for name in names):
            why = "; ".join(columns.reasons.get(name, name) for name in names)
            raise exits.EndedError(exits.REWARDS_FAILED, f"No reward could score the base's images: {why}.")
        for name in [name for name in names if name not in stds]:
            self.watch.warn(f"{name} could not score the base's groups: it takes part once it scores one.")
        self.position.calibrated_stds = stds
        return base_metrics(rollouts) | columns.failures

    def gather(self, number: int) -> Experience:
        """The images of rollout `number` and what they are worth."""
        if not isinstance(self.source, Groups):
            return self._given(self.source, number)
        return self._sampled(self.source, number)

    def learned(self) -> None:
        """Notes that an update was made of what was gathered last, and so of what people said for it."""
        for one in (self.people, self.audience):
            if one is not None:
                one.learned()

    def _given(self, source: Given, number: int) -> Experience:
        started = time.perf_counter()
        self.lead.sample(number, 1, self.micro_batch, on_base=False)
        with self.lead.together():
            rollouts = source.rollouts(number, 1, self.micro_batch, self._tick)
        metrics = {"seconds/rollout": time.perf_counter() - started}
        if isinstance(source, Pictures):
            return Experience(rollouts, None, None, metrics)
        advantages = source.advantages(number)
        return Experience(rollouts, None, advantages, metrics | {"groups/rated": float(len(rollouts))})

    def _sampled(self, source: Groups, number: int) -> Experience:
        num_groups, said = self.config.rollout.groups_per_update, self._ask_people()
        rollouts, columns, times = self._scored(source, number, num_groups, "sampling")
        self.watch.gaps(columns.reasons)
        self.watch.notes(columns.warnings)
        self._calibrate_late(source, number, columns)
        rewards, weights, stds = self._with_people(number, rollouts, columns, source.stack.versions)
        advantages = combine(
            rewards,
            weights,
            stds,
            diversity=columns.rewards.get(DIVERSITY),
            clip=self.config.update.advantage_clip,
            gate_failed=gate_failed(self.config, source.stack, columns),
            config=with_base_caps(self.config.advantages, self.config.reward_weights, self.position.ceilings),
            running=self._running(source.prompts(number, num_groups)),
        )
        metrics = self._metrics(source, rollouts, columns, advantages) | times | said
        if PEOPLE in rewards:
            metrics["groups/rated"] = float(rewards[PEOPLE].isfinite().any(1).sum())
        return Experience(rollouts, columns, advantages, metrics)

    def _with_people(
        self, number: int, rollouts: Sequence[Rollout], columns: Columns, versions: Mapping[str, str]
    ) -> tuple[dict[str, Tensor], dict[str, float], dict[str, float]]:
        """Rewards, weights and usual stds, with what people say of these very images where the run asks."""
        stds = self.position.calibrated_stds
        assert stds is not None
        rewards = measured(columns.rewards, stds)
        weights = self.people.weights() if self.people else dict(self.config.reward_weights)
        if self.audience is None:
            return rewards, weights, stds
        said = self.audience.ask(number, rollouts, columns, versions)
        if not said.isfinite().any():
            return rewards, weights, stds
        return (
            rewards | {PEOPLE: said},
            weights | {PEOPLE: self.audience.settings.weight},
            stds | {PEOPLE: USUAL_STD},
        )

    def _ask_people(self) -> dict[str, float]:
        """Takes in what people have said since, where the run learns from that."""
        if self.people is None:
            return {}
        said = self.people.refresh()
        if self.people.news:
            self.watch.warn(self.people.news)
        return said

    def _scored(
        self, source: Groups, number: int, num_groups: int, phase: str, *, on_base: bool = False
    ) -> tuple[list[Rollout], Columns, dict[str, float]]:
        """This process's groups, the scores of all, and how long both took."""
        started = time.perf_counter()
        self.lead.sample(number, num_groups, self.micro_batch, on_base=on_base)
        tick = partial(self._tick, phase)
        with self.lead.together():
            rollouts = source.rollouts(number, num_groups, self.micro_batch, tick, on_base=on_base)
            sampled = time.perf_counter()
            self.beats.say("scoring", now=True)
            columns = source.score(rollouts, num_groups)
            if source.stack.is_interrupted:
                raise StopRequestedError
        times = {"seconds/rollout": sampled - started, "seconds/reward": time.perf_counter() - sampled}
        return rollouts, columns, times

    def _tick(self, *words: str) -> None:
        self.beats.tick(": ".join(words), may_stop=self.lead.is_alone)

    def _running(self, prompts: Sequence[str]) -> RunningStatistics | None:
        """What the prompts of these groups were given before, where advantages come from that."""
        settings = self.config.advantages
        if settings.std != "running":
            return None
        return RunningStatistics(
            list(prompts), self.position.running, settings.buffer_size, settings.min_count
        )

    def _metrics(
        self, source: Groups, rollouts: Sequence[Rollout], columns: Columns, advantages: Advantages
    ) -> dict[str, float]:
        shares = {n: v for n, v in advantages.metrics.items() if n.startswith(_SHARES)}
        names, beside = needed(self.config), (*self.config.gates, *self.config.monitors)
        failed = {n: v for n, v in columns.failures.items() if n.partition("/")[2] in names}
        taught = {name: column for name, column in columns.rewards.items() if name not in beside}
        return {
            **reward_metrics(taught, self.config.reward_weights),
            **shares,
            **role_metrics(self.config, source.stack, columns.rewards),
            **detail_metrics(self.config, columns.details),
            **failed,
            **sample_metrics(rollouts),
            "advantage/mean": advantages.metrics["advantage_mean"],
            "advantage/std": advantages.metrics["advantage_std"],
            "groups/dead_share": advantages.metrics["dead_group_share"],
        }

    def _calibrate_late(self, source: Groups, number: int, columns: Columns) -> None:
        """Measures rewards that score for the first time, as at the start: on the base, at these prompts."""
        stds = self.position.calibrated_stds
        assert stds is not None
        late = [n for n in weighted(self.config) if n not in stds and columns.rewards[n].isfinite().any()]
        if not late:
            return
        num_groups, phase = self.config.rollout.groups_per_update, "measuring late rewards"
        _, on_base, _ = self._scored(source, number, num_groups, phase, on_base=True)
        found = self._measure(source, {name: on_base.rewards[name] for name in late})
        self.position.calibrated_stds = stds | found
        for name in found:
            self.watch.warn(
                f"{name} scored its first group in rollout {number} and takes part from there on."
            )

    def _measure(self, source: Groups, rewards: Mapping[str, Tensor]) -> dict[str, float]:
        """The stds of rewards on the base, whose ceilings go into the position.

        A reward that holds images to the base's gives the base itself one value throughout. Its unit is how
        much the distance of an image to the next one of its group varies, over all images of the base: beside
        that, a policy that has hardly moved is not judged, and one that has moved far is. It has no ceiling.
        """
        kinds = kinds_of(source.stack)
        held = {name: column for name, column in rewards.items() if kinds.get(name) == "reference"}
        free = {name: column for name, column in rewards.items() if name not in held}
        self.position.ceilings = self.position.ceilings | ceilings(free)
        return calibrate(free | {name: column.reshape(1, -1) for name, column in held.items()})
