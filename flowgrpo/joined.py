"""Adapters of SD3 and FLUX.1 in kohya's layout, where queries, keys and values are one module.

The adapters of such parts become one of them all: their A below each other, their B as blocks along a
diagonal. That is the same change of the same weights, at the sum of their ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor

from flowgrpo import flux_names, sd3_names

FAMILIES: dict[str, ModuleType] = {"sd3": sd3_names, "flux": flux_names}
"""Family to the names of its modules."""
_WIDER = {"proj_mlp": 4}
"""Parts that have more rows than the queries beside them, and how many times as many."""
_SWAPPED = ("norm_out.linear",)
"""Modules whose halves change places between the two programs."""
Pair = tuple[Tensor, Tensor]
"""A and B of one module."""


def join(tensors: Mapping[str, Tensor], family: str) -> dict[str, Pair]:
    """Module of the first program to its adapter.

    Args:
        tensors: of an adapter in diffusers' names, with its scale folded into B.

    Raises ValueError for a family or a module that kohya's layout has no names for.
    """
    if family not in FAMILIES:
        raise ValueError(f"kohya's layout has no names for {family}: export with layout diffusers")
    halves = {name.partition(".lora_")[0]: _pair(tensors, name.partition(".lora_")[0]) for name in tensors}
    joined: dict[str, Pair] = {}
    for part in halves:
        module = None if part in _SWAPPED else FAMILIES[family].module_of(part)
        if module is None:
            raise ValueError(
                f"{part} has no place in kohya's layout of {family}: export with layout diffusers, which "
                "ComfyUI reads too"
            )
        parts: tuple[str, ...] = FAMILIES[family].parts_of(module)
        joined.setdefault(module, _together([halves.get(one) for one in parts], parts))
    return joined


def _pair(tensors: Mapping[str, Tensor], part: str) -> Pair:
    return tensors[f"{part}.lora_A.weight"], tensors[f"{part}.lora_B.weight"]


def _together(halves: Sequence[Pair | None], parts: Sequence[str]) -> Pair:
    """Parts without an adapter get rows of zeros."""
    times = [_WIDER.get(part.rpartition(".")[2], 1) for part in parts]
    width = next(
        pair[1].shape[0] // times for pair, times in zip(halves, times, strict=True) if pair is not None
    )
    there = [pair for pair in halves if pair is not None]
    low = torch.cat([down for down, _ in there])
    high = there[0][1].new_zeros(width * sum(times), len(low), *there[0][1].shape[2:])
    row = column = 0
    for pair, many in zip(halves, times, strict=True):
        if pair is not None:
            rows, rank = pair[1].shape[:2]
            high[row : row + rows, column : column + rank] = pair[1]
            column += rank
        row += width * many
    return low, high


def known(modules: Iterable[str], family: str, name_of: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """Name of a module in a file to the modules of diffusers that it is.

    Args:
        modules: of the network.
        name_of: the first program's module to what a file calls it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for part in modules if family in FAMILIES else ():
        module = None if part in _SWAPPED else FAMILIES[family].module_of(part)
        if module is not None:
            found[name_of(module)] = FAMILIES[family].parts_of(module)
    return found


def split(low: Tensor, high: Tensor, rows: Sequence[int]) -> list[Pair | None]:
    """The adapter of each part; None for one that nothing changes. What is zero in a part has no rank there.

    Args:
        rows: of each part.

    Raises ValueError where B does not have so many.
    """
    if high.shape[0] != sum(rows):
        raise ValueError(f"{high.shape[0]} rows, expected {sum(rows)}")
    if len(rows) == 1 or not high.any():
        return [(low, part) for part in high.split(list(rows))]
    return [_own(low, part) for part in high.split(list(rows))]


def _own(low: Tensor, high: Tensor) -> Pair | None:
    used = high.flatten(2).any(dim=2).any(dim=0) if high.dim() > 2 else high.any(dim=0)
    return (low[used], high[:, used].contiguous()) if used.any() else None
