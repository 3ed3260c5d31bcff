"""Statistics of each prompt's rewards over the last rollouts: DDPO's advantages (arXiv 2305.13301).

A prompt is its own text, word for word. Immutable: a rollout that is not learned from leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

Buffers = dict[str, dict[str, list[float]]]
"""Reward name to prompt to its latest rewards, oldest first; JSON, floats to the bit."""


@dataclass(frozen=True)
class RunningStatistics:
    """What the prompts of a run were given.

    Attributes:
        prompts: Of the groups that are looked at, in their order.
        buffer_size: Rewards of a prompt that are remembered.
        min_count: Below this many, a prompt's statistics are those of the rollout.
    """

    prompts: Sequence[str]
    buffers: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    buffer_size: int = 32
    min_count: int = 16

    def moments(
        self, name: str, rewards: Float[Tensor, "group sample"]
    ) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
        """Mean and std (over n, as DDPO's code) of each group's prompt, this rollout's rewards included; a
        reward that is not finite is none.
        """
        finite = rewards[rewards.isfinite()]
        everything = finite if len(finite) else torch.zeros(1).to(rewards)
        columns = []
        for buffer in self._extended(name, rewards):
            values = everything if len(buffer) < self.min_count else rewards.new_tensor(buffer)
            columns.append((values.mean(), values.std(correction=0)))
        mean, std = (torch.stack(column) for column in zip(*columns, strict=True))
        return mean, std

    def after(self, rewards: Mapping[str, Float[Tensor, "group sample"]]) -> Buffers:
        """The buffers with these rewards of the same groups added."""
        buffers = {
            name: {prompt: list(values) for prompt, values in prompts.items()}
            for name, prompts in self.buffers.items()
        }
        for name, values in rewards.items():
            extended = self._extended(name, values)
            buffers.setdefault(name, {}).update(zip(self.prompts, extended, strict=True))
        return buffers

    def _extended(self, name: str, rewards: Tensor) -> list[list[float]]:
        """Each group's buffer with the rewards of all groups of its prompt."""
        if len(self.prompts) != len(rewards):
            raise ValueError(
                f"expected a prompt per group, got {len(self.prompts)} for {len(rewards)} groups"
            )
        known = {prompt: list(self.buffers.get(name, {}).get(prompt, ())) for prompt in self.prompts}
        for prompt, values in zip(self.prompts, rewards, strict=True):
            known[prompt] += values[values.isfinite()].tolist()
        return [known[prompt][-self.buffer_size :] for prompt in self.prompts]
