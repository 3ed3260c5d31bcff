"""Reads safetensors, and nothing else: a damaged file, one that is not finite or a pickle gets a sentence."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def refuse_pickle(path: Path) -> None:
    """Raises ValueError for a name that only pickles have; nothing is opened."""
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path.name} is a pickle, which can run programs when it is opened; FlowGRPO reads "
            "safetensors only: convert the file, or get it as .safetensors"
        )


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by name, on the CPU, and its metadata.

    Raises LookupError where there is no file, ValueError for one that is damaged, or holds numbers that are
    not finite.
    """
    refuse_pickle(path)
    if not path.is_file():
        raise LookupError(f"there is no file {path}: name a .safetensors file")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged or cut short: get it again ({error})") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{name} of {path.name} holds numbers that are not finite: it is damaged, choose another file"
            )
    return tensors, metadata
