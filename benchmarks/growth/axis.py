"""An axis along which costs grow, and how they are measured: sizes and costs take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

Cost = Callable[[int], float]
"""The seconds that something takes at a size."""
Costs = Callable[[Sequence[int]], AbstractContextManager[Mapping[str, Cost]]]
"""Prepares some sizes; inside, each cost by its name."""


@dataclass(frozen=True)
class Axis:
    """One thing that grows.

    Attributes:
        name: as `--only` takes it.
        unit: what a size counts.
        quick: the sizes of a quick run.
    """

    name: str
    unit: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    costs: Costs


@dataclass(frozen=True)
class Measured:
    """One cost along an axis.

    Attributes:
        what: the cost's name.
        seconds: for each size, one number a turn.
    """

    what: str
    sizes: tuple[int, ...]
    seconds: list[list[float]]


def measure(axis: Axis, sizes: Sequence[int], num_turns: int) -> list[Measured]:
    """Every cost at every size, once a turn, after a warm-up; every other turn goes from large to small, so
    that a machine that becomes busier is unfair to all sizes alike.
    """
    taken: dict[str, dict[int, list[float]]] = {}
    with axis.costs(sizes) as costs:
        for turn in range(-1, num_turns):
            for size in sizes if turn % 2 else sizes[::-1]:
                for what, cost in costs.items():
                    seconds = cost(size)
                    if turn >= 0:
                        taken.setdefault(what, {}).setdefault(size, []).append(seconds)
    return [Measured(what, tuple(sizes), [rows[size] for size in sizes]) for what, rows in taken.items()]
