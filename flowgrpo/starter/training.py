"""One resumable training loop for every stage of the build.

The data of step `n` come from a generator seeded with `(seed, n)`, so an interrupted build continues as if it
had never stopped (bit for bit on one machine).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from flowgrpo.torchfile import read_torch

Loss = Callable[[int, Generator], dict[str, Tensor]]
"""(step, generator) -> named terms; their sum is minimised. A name that starts with "_" is only reported."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage learns."""

    steps: int
    """Optimiser steps in all."""
    learning_rate: float
    """Peak rate; 100 steps of warm-up, then a cosine to 2% of it."""
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    """The averaged weights are what ships; the average itself warms up as (1 + n) / (10 + n)."""
    seed: int = 0
    save_every_seconds: float = 60.0


@dataclass(frozen=True)
class Progress:
    """Where a stage stands; terms are running means of the loss's terms."""

    stage: str
    step: int
    steps: int
    terms: dict[str, float]
    seconds_per_step: float

    def __str__(self) -> str:
        terms = " ".join(f"{k.lstrip('_')} {v:.4f}" for k, v in self.terms.items())
        left = (self.steps - self.step) * self.seconds_per_step / 60
        return f"{self.stage} {self.step}/{self.steps} | {terms} | {left:.0f} min left"


def learning_rate(plan: Plan, step: int) -> float:
    """The rate of one step."""
    warm = min(1.0, (step + 1) / 100)
    return plan.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / plan.steps)))


def fit(stage: str, modules: nn.ModuleDict, loss: Loss, plan: Plan, state_path: Path) -> Iterator[Progress]:
    """Trains `modules` in place, resuming from `state_path`; leaves the averaged weights in them at the end.

    Yields one Progress every 50 steps.
    """
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, plan.learning_rate, (0.9, 0.99), weight_decay=plan.weight_decay)
    ema = {k: t.detach().clone() for k, t in modules.state_dict().items()}
    step = 0
    if state_path.exists():
        state = read_torch(state_path)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        ema, step = state["ema"], state["step"]
    modules.train()
    saved_at = began = time.monotonic()
    first, means = step, dict[str, float]()
    while step < plan.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step)
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
        # for layers that draw by themselves (the VAE's posterior)
        torch.manual_seed(plan.seed * 1_000_003 + step)
        terms = loss(step, generator)
        total = torch.stack([t for k, t in terms.items() if not k.startswith("_")]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        _average(ema, modules, min(plan.ema_decay, (1 + step) / (10 + step)))
        for name, term in terms.items():
            means[name] = 0.98 * means.get(name, term.item()) + 0.02 * term.item()
        if step % 50 == 0 or step == plan.steps:
            yield Progress(stage, step, plan.steps, dict(means), (time.monotonic() - began) / (step - first))
        if step == plan.steps or time.monotonic() - saved_at > plan.save_every_seconds:
            _save(state_path, modules, optimizer, ema, step)
            saved_at = time.monotonic()
    modules.load_state_dict(ema)
    modules.eval()


@torch.no_grad()
def _average(ema: dict[str, Tensor], modules: nn.ModuleDict, decay: float) -> None:
    for name, tensor in modules.state_dict().items():
        if tensor.is_floating_point():
            ema[name].lerp_(tensor, 1 - decay)
        else:
            ema[name].copy_(tensor)


def _save(
    path: Path, modules: nn.ModuleDict, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor], step: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(
        {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema, "step": step},
        partial,
    )
    os.replace(partial, path)
