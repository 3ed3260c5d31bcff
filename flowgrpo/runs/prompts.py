"""Which prompts an update learns from: without replacement, reshuffled by (seed, epoch), no state to save."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from flowgrpo.seeds import derive_seed


def prompt_at(prompts: Sequence[str], run_seed: int, draw: int) -> str:
    """The prompt of the `draw`-th group of a run, from 0 on."""
    epoch, position = divmod(draw, len(prompts))
    generator = torch.Generator().manual_seed(derive_seed(run_seed, epoch, len(prompts)))
    order = torch.randperm(len(prompts), generator=generator)
    return prompts[int(order[position])]


def prompts_of_rollout(prompts: Sequence[str], run_seed: int, rollout: int, num_groups: int) -> list[str]:
    """The prompts of rollout number `rollout`, from 0 on."""
    return [prompt_at(prompts, run_seed, rollout * num_groups + group) for group in range(num_groups)]
