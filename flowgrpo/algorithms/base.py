"""What an algorithm is: how rollouts are cut into pieces, and the loss of a piece.

A piece is what goes through the network together. Its loss is a sum over the samples that count, so that the
gradient of an update is the same however the rollouts are cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowgrpo import objectives
from flowgrpo.advantages import Advantages
from flowgrpo.flow import Latents, Time
from flowgrpo.learner import Learner
from flowgrpo.policies.base import Conditioning
from flowgrpo.rollout import Rollout, StoredTransition


@dataclass(frozen=True)
class Piece:
    """Samples that go through the network together.

    Attributes:
        latents: What the network sees, RF coordinates.
        t: Of all samples, or one per sample.
        advantages: Of each sample, or what the algorithm makes of them.
        stored: The transition that is replayed, its rows taken; None for losses on final images.
        is_taught: False where the KL alone is measured.
        unconditional: What the sampler's network predicted without the prompt; None where it was not asked.
        target: eps - x0, the velocity that image and noise ask for, where latents were noised anew.
        weight: Of this piece's step among the trained ones.
        memory: What the rollout's first update leaves for its later ones.
    """

    latents: Latents
    t: Time
    conditioning: Conditioning
    guidance_scale: float
    advantages: Tensor
    counted: Tensor
    stored: StoredTransition | None = None
    target: Latents | None = None
    unconditional: Tensor | None = None
    is_taught: bool = True
    weight: float = 1.0
    memory: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Terms:
    """How many terms the means of an update are over: samples at steps or noise levels that count."""

    taught: int = 1
    """Those of the algorithm's own loss."""
    held: int = 1
    """Those of the KL: all of them, and maybe more steps."""


class Tally:
    """Numbers of an update: sums over its terms, and largest values.

    They stay on the device until they are asked for, so that no network call waits for them.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._peaks: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Adds one number per term that counts."""
        total = values.detach().double().sum()
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def peak(self, name: str, values: Tensor) -> None:
        """Remembers the largest number; what is none is passed over."""
        largest = values.detach().nan_to_num(0.0).max()
        self._peaks[name] = self._peaks[name].maximum(largest) if name in self._peaks else largest

    @property
    def sums(self) -> dict[str, float]:
        """Name to sum."""
        return {name: value.item() for name, value in self._sums.items()}

    @property
    def peaks(self) -> dict[str, float]:
        """Name to largest value."""
        return {name: value.item() for name, value in self._peaks.items()}


class Method(ABC):
    """One algorithm at work on one learner."""

    looks_anew = False
    """Whether each update of a rollout sees pieces of its own, with other noise."""
    has_moved = False
    """Whether the weights are no longer those that the rollout was sampled with."""

    def __init__(self, learner: Learner, settings: Any) -> None:
        self.learner, self.policy, self.settings = learner, learner.policy, settings

    @abstractmethod
    def pieces(self, rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[Piece]:
        """The pieces that hold at least one sample that counts."""

    @abstractmethod
    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """The loss of each sample of a piece, at the policy's velocity there; those that do not count are
        left out afterwards.
        """

    def loss(self, piece: Piece, tally: Tally, terms: Terms) -> Tensor:
        """What a piece adds to the loss of an update, a mean over terms; the KL to the reference is in it."""
        # Before the graph is built: other weights are swapped in for these, in place.
        reference = self.reference_velocity(piece) if self.learner.config.kl_weight > 0 else None
        self.prepare(piece)
        velocity = self.current_velocity(piece)
        total = velocity.new_zeros(())
        if piece.is_taught:
            losses = piece.weight * self.objective(piece, velocity, tally)[piece.counted]
            tally.add("loss", losses)
            total = losses.sum() / terms.taught
        if reference is not None:
            kl = objectives.velocity_kl(velocity, reference)[piece.counted]
            tally.add("kl", kl)
            total = total + self.learner.config.kl_weight * kl.sum() / terms.held
        return total

    def prepare(self, piece: Piece) -> None:
        """Computes what the objective needs of other weights than the current ones; nothing by default."""
        del piece

    def current_velocity(self, piece: Piece) -> Latents:
        """What learns: the policy's velocity at a piece, as it is now."""
        return self.velocity(piece)

    def velocity(self, piece: Piece) -> Latents:
        """The velocity at a piece under the weights that are in place."""
        return self.policy.velocity(piece.latents, piece.t, piece.conditioning, piece.guidance_scale)

    def reference_velocity(self, piece: Piece) -> Latents:
        """The base's velocity, computed once a rollout; at its own guidance where the settings say so."""
        guidance = self.learner.config.reference_guidance
        if "base" not in piece.memory:
            with torch.no_grad(), self.policy.reference():
                piece.memory["base"] = (
                    self.policy.velocity(piece.latents, piece.t, piece.conditioning, guidance)
                    if guidance
                    else self.velocity(piece)
                )
        return piece.memory["base"]

    def velocity_of(self, copy: str, piece: Piece) -> Latents:
        """The velocity under one of the learner's copies, computed once a rollout."""
        name = f"copy {copy}"
        if name not in piece.memory:
            with torch.no_grad(), self.policy.weights(self.learner.copies[copy]):
                piece.memory[name] = self.velocity(piece)
        return piece.memory[name]

    def forget(self, copy: str, piece: Piece) -> None:
        """Has the copy asked again: it has moved."""
        piece.memory.pop(f"copy {copy}", None)

    def after_step(self) -> None:
        """Called after each optimiser step that was taken."""
        return

    def after_rollout(self) -> None:
        """Called when a rollout has been learned from."""
        return


def counted_rows(
    rollouts: Sequence[Rollout], advantages: Advantages
) -> Iterator[tuple[Rollout, slice, Tensor, Tensor]]:
    """(rollout, rows, advantages, counted) of each micro-batch with at least one sample that counts."""
    for rollout, values, is_counted in zip(rollouts, advantages.values, advantages.is_counted, strict=True):
        device = rollout.latents.device
        counted = is_counted.to(device) & rollout.is_finite
        for rows in rollout.micro_batches:
            if counted[rows].any():
                yield rollout, rows, values.to(device)[rows], counted[rows]
