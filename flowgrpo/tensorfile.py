"""Reads and writes safetensors, and nothing else: a damaged file, one that is not finite or a pickle gets a
sentence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowgrpo.tensorheader import PICKLES, Header, read_header

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def refuse_pickle(path: Path) -> None:
    """Raises ValueError for a name that only pickles have; nothing is opened."""
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path.name} is a pickle, which can run programs when it is opened; FlowGRPO reads "
            "safetensors only: convert the file, or get it as .safetensors"
        )


def header_of(path: Path) -> Header:
    """The checked header of a file that is there; nothing of its tensors is read.

    Raises LookupError where there is no file, ValueError for a pickle or a damaged one.
    """
    refuse_pickle(path)
    if not path.is_file():
        raise LookupError(f"there is no file {path}: name a .safetensors file")
    return read_header(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by name, on the CPU, and its metadata.

    Raises LookupError where there is no file, ValueError for one that is damaged, or holds numbers that are
    not finite.
    """
    metadata = dict(header_of(path).metadata)
    try:
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged or cut short: get it again ({error})") from error
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise ValueError(
                f"{name} of {path.name} holds numbers that are not finite: it is damaged, choose another file"
            )
    return tensors, metadata


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a file.

    Raises:
        OSError: the disk is full, or whatever else the system refuses it for: safetensors has an error of its
            own for that, which nobody who waits for a full disk would know.
    """
    try:
        save_file(dict(tensors), path, metadata=dict(metadata) if metadata else None)
    except SafetensorError as error:
        said = _OS_ERROR.search(str(error))
        if said is None:
            raise
        number = int(said.group(1))
        raise OSError(number, os.strerror(number), str(path)) from error


def _is_finite(tensor: Tensor) -> bool:
    """Of any type: torch itself does not ask numbers of 8 bits."""
    wide = tensor.float() if tensor.is_floating_point() and tensor.element_size() < 2 else tensor
    return bool(wide.isfinite().all())
