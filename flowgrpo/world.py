"""Several processes that learn as one: `accelerate launch` or `torchrun` starts them, one per device.

Whole groups go to one process, so that no group is ever split; seeds follow from a group's number, so the
samples are those of one process. Rewards are gathered before they become advantages, gradients are summed
before the step. Only the order of that sum differs from one process: the weights agree up to rounding.

Where the base is sharded (`flowgrpo/sharding.py`), no process can call the network alone: each call brings
the shares of all together. So nobody waits idly here. Whoever has come to a meeting (to gather, to share, to
sum) before the others takes part in the calls that they still make, until all have come.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

PATIENCE = timedelta(hours=6)
"""How long processes wait for the main one, which may draw a sample grid, wait for its device or save."""
SHARDING_VARIABLE = "ACCELERATE_USE_FSDP"
"""Set by accelerate's launcher where its configuration says `distributed_type: FSDP`."""
SHARDING = {
    "fsdp_version": "2",
    "fsdp_reshard_after_forward": "true",
    "fsdp_offload_params": "false",
    "fsdp_cpu_ram_efficient_loading": "false",
    "fsdp_activation_checkpointing": "false",
}
"""The only values of these settings that we do; the launcher hands them on as variables, in capitals."""


class World:
    """The processes of a run. Made without arguments, it is one process alone.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        mesh: The devices that share the base's weights; None where each has all of them.
        take_part: Makes a network call that only others need, with a backward pass where they learn from it.
        is_calling: Whether a network call has begun and not ended: where it broke, the others hang in it.
    """

    def __init__(self, rank: int = 0, size: int = 1, mesh: DeviceMesh | None = None) -> None:
        self.rank, self.size, self.mesh = rank, size, mesh
        self.take_part: Callable[[bool], None] | None = None
        self.is_calling = False

    @classmethod
    def join(cls) -> World:
        """The world that the launcher's environment names; alone where there was no launcher.

        Raises ValueError where the launcher asks for a kind of sharding that there is not.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        is_sharded = _wants_sharding()
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        # Made here, where all processes are: making it is work that they do together.
        mesh = init_device_mesh(state.device.type, (state.num_processes,)) if is_sharded else None
        return cls(state.process_index, state.num_processes, mesh)

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

    def call(self, *, learns: bool) -> None:
        """Comes before each call of a sharded network; the others begin the same call, or take part in it."""
        self._ask(learns)

    def _meet(self) -> None:
        """Returns when nobody has network calls left; until then takes part in those of the others."""
        if self.mesh is None:
            return
        while (learns := self._ask(None)) is not None:
            assert self.take_part is not None
            self.take_part(learns)

    def _ask(self, learns: bool | None) -> bool | None:
        """What all do next: a network call that is learned from, one that is not, or None, nothing more."""
        assert self.mesh is not None
        votes = torch.tensor([learns is False, learns is True], dtype=torch.int32)
        votes = votes.to(self.mesh.device_type)
        dist.all_reduce(votes)
        forwards, learning = votes.tolist()
        assert not (forwards and learning), "some processes learn from a network call and some do not"
        self.is_calling = forwards + learning > 0
        return learning > 0 if self.is_calling else None

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        self._meet()
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
        self._meet()
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
        self._meet()
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def agree(self, flag: bool) -> bool:
        """Whether any process says so."""
        return any(self.gather(flag))

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.size > 1:
            self._meet()
            dist.barrier()


def leave(code: int) -> NoReturn:
    """Ends this process; in a world of several without Python's tidying up.

    A thread of gloo may still hold the last exchange's tensor, and to give it back to an interpreter that is
    closing aborts the process: so ended 3 of 30 bare programs of two processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wants_sharding() -> bool:
    """Whether the launcher asks that the base's weights be shared; raises ValueError as `World.join` does."""
    if os.environ.get(SHARDING_VARIABLE, "false").lower() != "true":
        return False
    for name, wanted in SHARDING.items():
        got = os.environ.get(name.upper(), wanted)
        if got.lower() != wanted:
            raise ValueError(
                f"a sharded base needs {name}: {wanted} in the launcher's configuration, got {got}: see "
                "configs/fsdp.yaml"
            )
    return True
