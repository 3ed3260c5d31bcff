"""Costs of the engine: drawing by group size, steps and resolution; scoring by rewards; updates."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from math import isqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.common import seconds_of
from benchmarks.families import FAMILIES, grown
from benchmarks.growth.axis import Axis, Cost
from benchmarks.speed import WHOLE_STACK
from flowgrpo.advantages import Advantages
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rollout import Rollout, sample_group
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.starter.dataset import plan
from flowgrpo.starter.portraits import caption
from flowgrpo.update import update

PROMPT = "red hair"
SCORED = caption(plan("bench", 1)[0])
"""What the scored images are said to show: attributes of all kinds."""
GROUP_SIZE, NUM_STEPS, SIDE = 8, 8, 64
SMALL_GROUP, FEW_STEPS = 4, 4
"""Of what is drawn large."""
NUM_IMAGES = 64
"""That are scored."""
WINDOW = 2
"""Trained steps of an update, where their number does not grow."""
_STILL = UpdateConfig(learning_rate=1e-9)
"""An update of equal work that leaves the policy where it was, however often it is measured."""


def _drawn(policy: Policy, size: int = GROUP_SIZE, **settings: Any) -> Rollout:
    """A group without guidance; the settings go before the usual ones."""
    usual = {"num_steps": NUM_STEPS, "guidance_scale": 1.0, "width": SIDE, "height": SIDE}
    return sample_group(policy, PROMPT, seeds=range(size), **(usual | settings))


@contextmanager
def _by_group_size(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    policy = load_policy(WEIGHTS / "pipeline")
    what = f"drawing a group in {NUM_STEPS} steps"
    yield {what: lambda size: seconds_of(lambda: _drawn(policy, size))}


@contextmanager
def _by_steps(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    policy = load_policy(WEIGHTS / "pipeline")
    what = f"drawing a group of {GROUP_SIZE}"
    yield {what: lambda size: seconds_of(lambda: _drawn(policy, num_steps=size))}


@contextmanager
def _by_resolution(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    """By the starter's UNet, and by a transformer of SD3's class, whose attention sees all of the image."""
    make, part, settings, _ = FAMILIES["SD3"]
    with tempfile.TemporaryDirectory() as folder:
        grown(make(Path(folder) / "sd3"), part, settings)
        policies = {
            "the starter's UNet": load_policy(WEIGHTS / "pipeline"),
            "a transformer of SD3's class": load_policy(Path(folder) / "sd3"),
        }

    def cost(policy: Policy) -> Cost:
        def draw(cells: int) -> object:
            side = isqrt(cells) * policy.vae_factor
            return _drawn(policy, SMALL_GROUP, num_steps=FEW_STEPS, width=side, height=side)

        return lambda cells: seconds_of(lambda: draw(cells))

    what = f"drawing a group of {SMALL_GROUP} in {FEW_STEPS} steps"
    yield {f"{what} by {name}": cost(policy) for name, policy in policies.items()}


@contextmanager
def _by_rewards(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    """Rewards cost unlike sums, so a number of them stands for all choices of so many: their mean."""
    drawn = _drawn(load_policy(WEIGHTS / "pipeline")).images_uint8
    images = drawn.repeat(NUM_IMAGES // GROUP_SIZE, 1, 1, 1)
    groups = [row // GROUP_SIZE for row in range(NUM_IMAGES)]
    rewards = load_stack(WHOLE_STACK, WEIGHTS).rewards

    def seconds(names: Sequence[str]) -> float:
        stack = RewardStack({name: rewards[name] for name in names})
        batch = ScoreBatch(images, [SCORED] * NUM_IMAGES, groups)  # a new one: it keeps what rewards share
        return seconds_of(lambda: stack.score(batch))

    def mean(number: int) -> float:
        return fmean(seconds(names) for names in combinations(rewards, number))

    yield {f"scoring {NUM_IMAGES} images, mean of all choices of rewards": mean}


def _updates(sizes: Sequence[int], rollout_of: Callable[[Policy, int], Rollout]) -> Cost:
    """The seconds of one update on the rollout of a size, which is sampled before."""
    policy = load_policy(WEIGHTS / "pipeline")
    policy.attach_lora(LoraConfig())
    learner = Learner(policy, _STILL)
    rollouts = {size: rollout_of(policy, size) for size in sizes}
    return lambda size: seconds_of(lambda: list(update(learner, [rollouts[size]], _praise(rollouts[size]))))


def _praise(rollout: Rollout) -> Advantages:
    """Every other sample is praised, the others are blamed."""
    values = torch.ones(1, len(rollout.seeds))
    values[:, ::2] = -1
    return Advantages(values, torch.ones_like(values, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))


@contextmanager
def _updating_by_group_size(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    window = range(WINDOW)
    what = f"an update on one group, {WINDOW} trained steps"
    yield {what: _updates(sizes, lambda policy, size: _drawn(policy, size, window=window))}


@contextmanager
def _updating_by_steps(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    what = f"an update on one group of {GROUP_SIZE}"
    yield {
        what: _updates(sizes, lambda policy, size: _drawn(policy, num_steps=NUM_STEPS, window=range(size)))
    }


AXES = (
    Axis("group-size", "images of a group", (2, 4, 8, 16, 32), (1, 2, 3), _by_group_size),
    Axis("steps", "steps", (2, 4, 8, 16, 32), (1, 2, 3), _by_steps),
    Axis(
        "resolution", "latent cells of an image", (64, 144, 256, 576, 1024, 2304), (16, 64, 144),
        _by_resolution,
    ),
    Axis("rewards", "rewards", (1, 2, 3, 4, 5), (1, 4, 5), _by_rewards),
    Axis("update-group-size", "images of a group", (2, 4, 8, 16, 32), (2, 3, 4), _updating_by_group_size),
    Axis("update-steps", "trained steps", (1, 2, 3, 5, 7), (1, 2, 3), _updating_by_steps),
)  # fmt: skip
