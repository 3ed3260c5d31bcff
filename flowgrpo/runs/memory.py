"""Running out of memory: what it looks like, and how a run goes on in smaller pieces.

The loss of an update is a sum over its samples, divided by their number: cut into smaller micro-batches it
has the same gradient, and the effective batch stays.
"""

from __future__ import annotations

import gc

import torch

from flowgrpo.config import RunConfig
from flowgrpo.runs import exits
from flowgrpo.runs.position import Position

MAX_CUTS = 3
PATIENCE = 2
"""Times in a row that memory may run out before the micro-batches are made smaller."""
ERRORS = (MemoryError, RuntimeError)
"""What running out of memory may be raised as; `is_shortage` tells it from the rest."""


def is_shortage(error: Exception) -> bool:
    """Whether an error says that memory ran out: on a GPU by its class, on a CPU by the allocator's words."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free() -> None:
    """Gives back what the failed work held, and what the allocator keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def after_shortage(position: Position, config: RunConfig) -> str:
    """Counts a shortage and makes the micro-batches smaller where it was not the first; says what follows.

    Raises:
        EndedError: they cannot be made smaller, or were so often enough.
    """
    position.shortages += 1
    now = min(position.micro_batch or config.update.micro_batch_size, config.rollout.group_size)
    if position.shortages < PATIENCE:
        return "its images were thrown away"
    if position.cuts >= MAX_CUTS or now == 1:
        raise exits.EndedError(exits.OUT_OF_MEMORY, what_to_lower(config, now))
    position.shortages, position.cuts, position.micro_batch = 0, position.cuts + 1, now // 2
    return (
        f"from here on micro-batches hold at most {position.micro_batch} images instead of {now}; an update "
        "still learns from as many"
    )


def what_to_lower(config: RunConfig, now: int) -> str:
    """What a person can do about it, where micro-batches hold `now` images."""
    size = f"{config.rollout.width} x {config.rollout.height}"
    return (
        f"The device ran out of memory again, with micro-batches of {now}. Free memory that other programs "
        f"hold and resume, or start a run with smaller images (now {size}), an adapter of a lower rank or "
        "gradient checkpointing."
    )
