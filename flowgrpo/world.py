"""Several processes that learn as one: `accelerate launch` or `torchrun` starts them, one per device.

Whole groups go to one process, so that no group is ever split; seeds follow from a group's number, so the
samples are those of one process. Rewards are gathered before they become advantages, gradients are summed
before the step. Only the order of that sum differs from one process: the weights agree up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn

PATIENCE = timedelta(hours=6)
"""How long processes wait for the main one, which may draw a sample grid, wait for its device or save."""


class World:
    """The processes of a run. Made without arguments, it is one process alone.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def join(cls) -> World:
        """The world that the launcher's environment names; alone where there was no launcher."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        return cls(state.process_index, state.num_processes)

    @staticmethod
    def device(wanted: str) -> str:
        """Which device is this process's, where `auto` is asked for: each on a host has its own GPU."""
        local = os.environ.get("LOCAL_RANK", "0")
        return f"cuda:{local}" if wanted == "auto" and torch.cuda.is_available() else wanted

    @property
    def is_main(self) -> bool:
        """Whether this process writes rows and files."""
        return self.rank == 0

    def mine(self, count: int) -> list[int]:
        """Which of so many groups are this process's."""
        return list(range(self.rank, count, self.size))

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gather_groups(self, columns: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """Columns `(group, sample)` of this process's groups to those of all groups, in their order."""
        parts: Sequence[Mapping[str, Tensor]] = self.gather({k: v.cpu() for k, v in columns.items()})
        gathered: dict[str, Tensor] = {}
        for name, own in columns.items():
            whole = torch.empty(count, *own.shape[1:], dtype=own.dtype)
            for rank, part in enumerate(parts):
                whole[rank :: self.size] = part[name]
            gathered[name] = whole
        return gathered

    def total(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes; a name that one of them lacks counts as 0 there."""
        parts = self.gather(dict(sums))
        names = sorted({name for part in parts for name in part})
        return {name: sum(part.get(name, 0.0) for part in parts) for name in names}

    def peak(self, peaks: Mapping[str, float]) -> dict[str, float]:
        """Largest values over all processes."""
        parts = self.gather(dict(peaks))
        names = sorted({name for part in parts for name in part})
        return {name: max(part[name] for part in parts if name in part) for name in names}

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds up the gradients of all processes; one without a gradient counts as zeros."""
        if self.size == 1:
            return
        owners = list(parameters)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in owners]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for owner, part in zip(owners, flat.split([grad.numel() for grad in grads]), strict=True):
            owner.grad = part.view_as(owner).clone()

    def share(self, value: Any = None) -> Any:
        """The main process's value, in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def agree(self, flag: bool) -> bool:
        """Whether any process says so."""
        return any(self.gather(flag))

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.size > 1:
            dist.barrier()
