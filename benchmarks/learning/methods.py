"""What is raced: the same base, prompts and rewards, one method each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from benchmarks.learning.tasks import FAST, Task
from flowgrpo.choices import AWM, DDPO, NFT, SFT, Algorithm, FlowGRPO
from flowgrpo.config import DEFAULT_WEIGHTS, AdvantageConfig, RolloutConfig, RunConfig, UpdateConfig
from flowgrpo.presets import fast_and_faithful, thorough
from flowgrpo.starter.dataset import plan
from flowgrpo.starter.portraits import caption

NUM_PROMPTS = 512
"""Training prompts; none of their combinations is among the held-out ones."""
IMAGES_PER_UPDATE = 64


@dataclass(frozen=True)
class Method:
    """One line of the table.

    Attributes:
        name: of its files and on the command line.
        title: in the table and the plot.
        config: of its run; the seed and the number of updates are the race's.
    """

    name: str
    title: str
    config: RunConfig


def _prompts() -> tuple[str, ...]:
    return tuple(caption(attributes) for attributes in plan("demo", NUM_PROMPTS))


def _run(algorithm: Algorithm, **sections: Any) -> RunConfig:
    return RunConfig(
        prompts=_prompts(),
        reward_weights={} if algorithm.name == "sft" else DEFAULT_WEIGHTS,
        algorithm=algorithm,
        **sections,
    )


def methods(task: Task = FAST) -> dict[str, Method]:
    """The methods that race for a task, by name."""
    rows = [
        Method("sft", "continued SFT", _sft()),
        Method("ddpo", "DDPO", _ddpo()),
        Method("published", "FlowGRPO, all steps, guided", _published()),
        Method("ours", "FlowGRPO, ours", _ours()),
        Method("ours_thorough", "ours, thorough", thorough(_prompts())),
        Method("guided_kl", "ours, held to the guided base and hardly rewarded", _guided_kl()),
        Method("first_steps", "the first three steps, held to the guided base", _first()),
        Method("first_guided", "the first three steps, held to it and hardly rewarded", _first_guided()),
        Method(
            "first_plain", "the first three steps by their rewards alone, held to no base", _first_plain()
        ),
        Method("ours_fine", "FlowGRPO, ours", _fine()),
        Method("nft", "DiffusionNFT", _forward(NFT(old_rate=0.01))),
        Method("awm", "AWM", _forward(AWM())),
    ]
    entrants = [method for method in rows if method.name in task.entrants]
    return {method.name: _asked_for(task, method) for method in entrants}


def _asked_for(task: Task, method: Method) -> Method:
    """The method with the task's steps; the recipes are written for `FAST`, where a published one has more.
    Guidance is the method's own.
    """
    if task is FAST:
        return method
    rollout = {**method.config.rollout.model_dump(), "num_steps": task.sampler[0]}
    config = {**method.config.model_dump(), "rollout": rollout}
    return replace(method, config=RunConfig.model_validate(config))


def _sft() -> RunConfig:
    algorithm = SFT(folder="renders", batch_size=IMAGES_PER_UPDATE)
    return _run(algorithm, update=UpdateConfig(kl_weight=0))


def _ddpo() -> RunConfig:
    """Many prompts a batch, as DDPO draws them, all steps, eta 1 (algorithms.md 1.7); the task's sampler."""
    return _run(
        DDPO(unconditional_gradient=True),
        rollout=RolloutConfig(
            group_size=2, groups_per_update=32, kernel="ddim", noise_level=1.0, window="all"
        ),
        advantages=AdvantageConfig(combine="raw_sum", std="running", diversity=False),
        update=UpdateConfig(learning_rate=3e-4, kl_weight=0, clip_nats=0.2, ema_decay=0),
    )  # fmt: skip


def _published() -> RunConfig:
    """Flow-GRPO's recipe: ten steps in training, every one by Euler-Maruyama, guidance in rollout and update,
    one std for all.
    """
    return _run(
        FlowGRPO(unconditional_gradient=True),
        rollout=RolloutConfig(
            kernel="flow_sde", noise_level=0.7, window="all", num_steps=10, guidance_scale=3.0
        ),
        advantages=AdvantageConfig(combine="raw_sum", std="global", diversity=False),
        update=UpdateConfig(learning_rate=3e-4, kl_weight=4e-2, clip_nats=0.2),
    )  # fmt: skip


def _ours(**update: Any) -> RunConfig:
    """The shipped preset: two steps from anywhere and one more to hold on to the guided base at."""
    preset = fast_and_faithful(_prompts())
    return preset.model_copy(update={"update": preset.update.model_copy(update=update)})


def _guided_kl() -> RunConfig:
    """What the guided base alone teaches: the KL outweighs the policy gradient thousands of times over."""
    return _ours(kl_weight=100.0)


def _fine() -> RunConfig:
    """The preset held at all steps that it does not train, to a base at guidance 2: in four steps that one is
    nearer to the renders than at 3.
    """
    return _ours(reference_guidance=2.0, kl_steps=2)


def _first() -> RunConfig:
    """Three steps in the beginning, where noise decides the most, and a guided base to hold on to."""
    return _first_steps(learning_rate=2e-3, kl_weight=0.1, reference_guidance=2.0)


def _first_guided() -> RunConfig:
    """What the guided base alone teaches in these steps."""
    return _first_steps(learning_rate=2e-3, kl_weight=100.0, reference_guidance=2.0)


def _first_plain() -> RunConfig:
    """What the rewards alone teach: nothing holds the policy but its clip."""
    return _first_steps(learning_rate=2e-3, kl_weight=0)


def _first_steps(**update: Any) -> RunConfig:
    return _run(
        FlowGRPO(step_weight="inv_kappa"),
        rollout=RolloutConfig(window="first"),
        advantages=AdvantageConfig(std="pooled"),
        update=UpdateConfig(decay="linear", **update),
    )


def _forward(algorithm: Algorithm) -> RunConfig:
    """Losses on final images need no noise in the sampler."""
    return _run(
        algorithm,
        rollout=RolloutConfig(window="none"),
        advantages=AdvantageConfig(std="pooled"),
        update=UpdateConfig(learning_rate=3e-4),
    )
