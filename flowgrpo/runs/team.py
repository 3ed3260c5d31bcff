"""Several processes at one run: the main one decides and writes, the others sample, score and learn with it.

    accelerate launch --multi_gpu -m flowgrpo.runs.train ...

The main process announces each piece of work that all take part in; the others wait for the next word. What
they need (settings, base, weights) comes from it too, so that they open no database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowgrpo import lora
from flowgrpo.advantages import Advantages
from flowgrpo.config import RunConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rewards.fetch import Options as RewardOptions
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rollout import Rollout
from flowgrpo.runs.sources import Groups, Pictures
from flowgrpo.runs.wanted import hold_to_wanted
from flowgrpo.sharding import shard
from flowgrpo.update import update
from flowgrpo.world import World

_log = logging.getLogger(__name__)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Setup:
    """What a process needs to take part."""

    config: RunConfig
    base: str
    options: Mapping[str, str]
    """How the base is read, where its files do not say."""
    rewards: RewardOptions
    """What rewards may use while they load; the device is each process's own."""
    names: tuple[str, ...]
    """Rewards to load."""


@dataclass(frozen=True)
class Sample:
    """Sample this rollout's groups, and score them."""

    number: int
    num_groups: int
    micro_batch: int
    on_base: bool


@dataclass(frozen=True)
class Learn:
    """Learn from the rollouts that were sampled last."""

    advantages: Advantages | None


@dataclass(frozen=True)
class Take:
    """Put these weights in place of yours."""

    weights: Mapping[str, Mapping[str, Tensor]]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]


def make_policy(
    config: RunConfig,
    base: str,
    options: Mapping[str, str],
    device: torch.device,
    world: World | None = None,
) -> Policy:
    """The base in the run's precision, with what is to learn; only this process's share of it where the world
    is sharded.

    Raises LookupError or ValueError where the base or the settings cannot be used.
    """
    dtype, is_sharded = precision(config.update.precision, device), bool(world and world.mesh)
    if is_sharded and config.lora is None:
        raise ValueError(
            "The launcher asks for a sharded base, and in this run all weights learn, which needs all: "
            "train an adapter, or launch with configs/several_gpus.yaml."
        )
    # The whole of a sharded base need not fit the device.
    policy = load_policy(base, device="cpu" if is_sharded else device, dtype=dtype, **options)
    if config.lora is None:
        policy.unfreeze()
    else:
        policy.attach_lora(config.lora, seed=config.seed)
    if world and is_sharded:
        shard(policy, world, device)
        _log.info("the base is sharded: one part of %d is here", world.size)
    return policy


def precision(wanted: str, device: torch.device) -> torch.dtype:
    """Of the base's weights: float32 on a CPU, bfloat16 on a GPU that computes in it, else float16."""
    if wanted != "auto":
        return _DTYPES[wanted]
    if device.type != "cuda":
        return torch.float32
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


class Lead:
    """The main process's words to the others; nothing happens where it is alone."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.world = learner, learner.world
        self._is_torn = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around work that all do: where it breaks here, the others are in the midst of it and hear nothing
        any more; their launcher ends them when this process goes.
        """
        self._is_torn = True
        yield
        self._is_torn = False

    @property
    def is_alone(self) -> bool:
        """Whether a piece of work may be left half done: nobody waits for the rest of it."""
        return self.world.size == 1

    def begin(self, setup: Setup) -> None:
        """All load what they need."""
        self._say(setup)

    def sample(self, number: int, num_groups: int, micro_batch: int, *, on_base: bool) -> None:
        """All sample and score."""
        self._say(Sample(number, num_groups, micro_batch, on_base))

    def learn(self, advantages: Advantages | None) -> None:
        """All learn."""
        self._say(Learn(advantages))

    def take(self) -> None:
        """All have the main process's weights from here on."""
        if self.is_alone:
            return
        learner = self.learner
        weights = {
            which: {name: tensor.detach().cpu() for name, tensor in tensors.items()}
            for which, tensors in learner.weights.items()
        }
        optimizer = {name: tensor.cpu() for name, tensor in learner.optimizer_tensors().items()}
        self._say(Take(weights, optimizer, learner.state()))

    def end(self) -> None:
        """The others may go."""
        self._say(None)

    def _say(self, order: object) -> None:
        if not self.is_alone and not self._is_torn and not self.world.is_calling:
            self.world.share(order)


def make_source(config: RunConfig, learner: Learner, stack: RewardStack) -> Groups | Pictures:
    """Where the run's images come from.

    Raises LookupError or ValueError for a folder of images that cannot be learned from.
    """
    if config.algorithm.name == "sft":
        return Pictures(config, learner)
    return Groups(config, learner, stack)


def follow(world: World, device: torch.device) -> None:
    """Does what the main process says until it says no more."""
    setup: Setup = world.share()
    policy = make_policy(setup.config, setup.base, setup.options, device, world)
    learner = Learner(policy, setup.config.update, setup.config.algorithm, world)
    stack = load_stack(setup.names, setup.rewards.weights, str(device), setup.rewards)
    hold_to_wanted(setup.config, stack)
    source = make_source(setup.config, learner, stack)
    rollouts: list[Rollout] = []
    while (order := world.share()) is not None:
        match order:
            case Take():
                _take(learner, order)
            case Sample():
                sampled = _sample(source, order)
                rollouts = rollouts if order.on_base else sampled
            case Learn():
                for _ in update(learner, rollouts, source.share_of(order.advantages, rollouts)):
                    pass


def _sample(source: Groups | Pictures, order: Sample) -> list[Rollout]:
    sampled = source.rollouts(
        order.number, order.num_groups, order.micro_batch, _silent, on_base=order.on_base
    )
    if isinstance(source, Groups):
        source.score(sampled, order.num_groups)
    return sampled


def _take(learner: Learner, order: Take) -> None:
    for which, weights in learner.weights.items():
        lora.copy_into(weights, order.weights[which])
    learner.load_optimizer_tensors(order.optimizer)
    learner.load_state(order.state)


def _silent(phase: str) -> None:
    del phase
