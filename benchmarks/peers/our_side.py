"""FlowGRPO's side: the sampler, losses and learner that a run uses, without its rows and its files."""

from __future__ import annotations

from pathlib import Path

from diffusers.schedulers.scheduling_utils import SchedulerMixin

import flowgrpo.starter
from benchmarks.peers.side import REWARDS, Work, judged, serve
from flowgrpo.advantages import Advantages, calibrate, combine
from flowgrpo.choices import DDPO
from flowgrpo.config import AdvantageConfig, LoraConfig, RolloutConfig, RunConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import load_policy
from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rollout import Rollout
from flowgrpo.runs.device import use_all_cores
from flowgrpo.runs.experience import CALIBRATION_GROUPS
from flowgrpo.runs.scoring import DIVERSITY
from flowgrpo.runs.sources import Groups
from flowgrpo.update import update

WEIGHTS = Path(flowgrpo.starter.__file__).parent / "weights"
TRL_TARGETS = ("to_k", "to_q", "to_v", "to_out.0")


class Cheap:
    """A reward of `REWARDS`, as a run asks for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spec = RewardSpec(name, name, "pointwise", -8.0, 1.0, "1", "Apache-2.0")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        return scored(REWARDS[self.name](batch.images.float() / 255))


def equal(work: Work) -> RunConfig:
    """The work in our words; a prompt's group is as large as a batch."""
    if work.trained_steps != work.num_steps - 1:
        raise ValueError(f"expected all steps but the last to be trained, got {work.trained_steps}")
    return RunConfig(
        prompts=work.prompts,
        reward_weights={work.reward: 1.0},
        algorithm=DDPO(unconditional_gradient=work.both_halves),
        seed=work.seed,
        rollout=RolloutConfig(
            group_size=work.batch, groups_per_update=work.images // work.batch, num_steps=work.num_steps,
            guidance_scale=work.guidance, kernel="ddim", noise_level=1.0, window="all",
            width=work.side, height=work.side,
        ),
        advantages=AdvantageConfig(combine="raw_sum", std="global", diversity=False),
        update=UpdateConfig(
            learning_rate=work.learning_rate, kl_weight=0, ema_decay=0, micro_batch_size=work.batch
        ),
        lora=LoraConfig(rank=work.rank, alpha=work.rank, targets=TRL_TARGETS),
    )  # fmt: skip


def own(work: Work) -> RunConfig:
    """All defaults of a run, but for what it learns from."""
    return RunConfig(
        prompts=work.prompts,
        reward_weights={work.reward: 1.0},
        seed=work.seed,
        rollout=RolloutConfig(width=work.side, height=work.side),
    )


class Ours:
    """A policy that learns."""

    def __init__(self, work: Work) -> None:
        use_all_cores()
        self.work, self.number = work, 0
        self.config = own(work) if work.recipe == "own" else equal(work)
        self.policy = load_policy(work.folder)
        self.scheduler: SchedulerMixin = self.policy.pipeline.scheduler
        self.policy.pipeline.set_progress_bar_config(disable=True)
        assert self.config.lora is not None
        self.policy.attach_lora(self.config.lora, seed=work.seed)
        self.learner = Learner(self.policy, self.config.update, self.config.algorithm)
        asked = [DIVERSITY] if self.config.advantages.diversity else []
        loaded = load_stack(asked, WEIGHTS) if asked else RewardStack({})
        self.stack = RewardStack({work.reward: Cheap(work.reward), **loaded.rewards})
        self.source = Groups(self.config, self.learner, self.stack)
        self.stds: dict[str, float] | None = None

    def _calibrated(self) -> dict[str, float]:
        """Drawn before the first update and counted in its time, as a run does."""
        if self.config.advantages.std != "calibrated":
            return {}
        groups = self._sampled(0, CALIBRATION_GROUPS, on_base=True)
        return calibrate(self.source.score(groups, len(groups)).rewards)

    def _sampled(self, number: int, num_groups: int, *, on_base: bool = False) -> list[Rollout]:
        batch = self.config.update.micro_batch_size
        return self.source.rollouts(number, num_groups, batch, _quiet, on_base=on_base)

    def update(self) -> float:
        if self.stds is None:
            self.stds = self._calibrated()
        self.number += 1
        rollouts = self._sampled(self.number, self.config.rollout.groups_per_update)
        columns = self.source.score(rollouts, len(rollouts)).rewards
        for _ in update(self.learner, rollouts, self._advantages(columns)):
            pass
        return columns[self.work.reward].mean().item()

    def _advantages(self, columns: dict) -> Advantages:  # type: ignore[type-arg]
        assert self.stds is not None
        return combine(
            columns, self.config.reward_weights, self.stds, diversity=columns.get(DIVERSITY),
            clip=self.config.update.advantage_clip, config=self.config.advantages,
        )  # fmt: skip

    def held_out(self) -> float:
        with self.policy.weights(self.learner.ema):
            return judged(self.policy.pipeline, self.work, self.scheduler)


def _quiet(phase: str) -> None:
    del phase


def main() -> None:
    serve(Ours)


if __name__ == "__main__":
    main()
