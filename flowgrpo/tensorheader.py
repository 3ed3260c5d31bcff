"""The header of a safetensors file, read and checked before anything loads a tensor of it. No torch.

A header is what a stranger wrote: its length, names, shapes and offsets are believed only where they agree
with each other and with the length of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAX_HEADER: Final = 8 * 2**20
"""Bytes; the largest published base has less than one MiB, trainers note some more of their data sets."""
MAX_TENSORS: Final = 32_768
MAX_RANK: Final = 256
"""Of an adapter; what `flowgrpo.config.LoraConfig` takes."""
MAX_NAME: Final = 512
MAX_AXES: Final = 8
PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
"""Endings of files that can run programs when they are opened."""
BITS: Final[Mapping[str, int]] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Type of a tensor to the bits of one number."""
ADAPTER_TYPES: Final = ("F16", "BF16", "F32", "F64")
DOWN: Final = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight")
"""How the names of the halves end whose first axis is the rank."""
UP: Final = (".lora_B.weight", ".lora_up.weight", ".lora.up.weight")
"""How those end whose second axis is the rank."""
JOINED: Final = ("_qkv", "_linear1")
"""How kohya's names end of modules that are up to four of ours, whose ranks add up."""
_METADATA = "__metadata__"


@dataclass(frozen=True)
class Entry:
    """One tensor: its type, its shape, and the bytes after the header where it begins and ends."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """The tensors of a file by name, and what its writer noted beside them, which is anybody's text."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]


def read_header(path: Path, name: str | None = None) -> Header:
    """The header of a file whose every part fits every other; no tensor is read.

    Args:
        name: What sentences call the file; by default its own name.

    Raises ValueError with a sentence for any other file, OSError where it cannot be read.
    """
    name = name or path.name
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or not 2 <= length <= size - 8:
            raise _damaged(name, "it does not begin as safetensors do")
        if length > MAX_HEADER:
            raise ValueError(
                f"the header of {name} has {length:,} bytes, and {MAX_HEADER:,} are read: it is no model"
            )
        document = _document(file.read(length), name)
    metadata = _metadata(document.pop(_METADATA, {}), name)
    if len(document) > MAX_TENSORS:
        raise ValueError(
            f"{name} has {len(document):,} tensors, and {MAX_TENSORS:,} are read: it is no model"
        )
    tensors = {_checked_name(key, name): _entry(key, value, name) for key, value in document.items()}
    _check_places(tensors, size - 8 - length, name)
    return Header(tensors, metadata)


def check_adapter(header: Header, name: str) -> None:
    """Raises ValueError with a sentence unless the tensors are those of a LoRA, of a rank that is taken."""
    if not header.tensors:
        raise ValueError(f"{name} holds no adapter: it has no tensors")
    for key, entry in header.tensors.items():
        if key.endswith(".alpha"):
            if math.prod(entry.shape) != 1:
                raise ValueError(f"{key} of {name} is no single number: choose another file")
            continue
        _check_rank(key, entry, name)


def _check_rank(key: str, entry: Entry, name: str) -> None:
    if not key.endswith(DOWN + UP):
        raise ValueError(f"{name} is no plain LoRA: it holds {key}")
    if entry.dtype not in ADAPTER_TYPES:
        known = ", ".join(ADAPTER_TYPES)
        raise ValueError(f"{key} of {name} is of the type {entry.dtype}, and a LoRA's are {known}")
    if len(entry.shape) not in (2, 4):
        raise ValueError(f"{key} of {name} has {len(entry.shape)} axes, and a LoRA's have 2 or 4")
    rank = entry.shape[0 if key.endswith(DOWN) else 1]
    highest = MAX_RANK * (4 if key.partition(".")[0].endswith(JOINED) else 1)
    if not 1 <= rank <= highest:
        told = "so it changes nothing" if rank == 0 else f"and {highest} is the highest that is read"
        raise ValueError(f"{name} has rank {rank:,} at {key}, {told}: choose another file")


def _document(raw: bytes, name: str) -> dict[str, Any]:
    try:
        read = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, "its header cannot be read") from error
    if not isinstance(read, dict):
        raise _damaged(name, "its header cannot be read")
    return read


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _metadata(value: object, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise _damaged(name, "its metadata are no texts")
    return value


def _checked_name(key: str, name: str) -> str:
    if not 1 <= len(key) <= MAX_NAME or not key.isprintable():
        raise _damaged(name, "a tensor has a name that no model has")
    return key


def _entry(key: str, value: object, name: str) -> Entry:
    """Raises ValueError unless type, shape and offsets of a tensor say the same."""
    damaged = _damaged(name, f"its header contradicts itself at {key}")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise damaged
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"{key} of {name} is of a type that is not read here: choose another file")
    if not _is_sizes(shape) or len(shape) > MAX_AXES or not _is_sizes(offsets) or len(offsets) != 2:
        raise damaged
    begin, end = offsets
    if begin > end or math.prod(shape) * BITS[dtype] != 8 * (end - begin):
        raise damaged
    return Entry(dtype, tuple(shape), begin, end)


def _is_sizes(value: object) -> bool:
    """Whole numbers that a file's offsets can be."""
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 2**63 for one in value)


def _check_places(tensors: Mapping[str, Entry], size: int, name: str) -> None:
    """Every byte behind the header belongs to one tensor."""
    end = 0
    for key, entry in sorted(tensors.items(), key=lambda one: (one[1].begin, one[1].end)):
        if entry.begin != end:
            raise _damaged(name, f"tensors overlap or leave gaps at {key}")
        end = entry.end
    if end != size:
        raise _damaged(name, "its length is not what its header says")


def _damaged(name: str, why: str) -> ValueError:
    return ValueError(f"{name} is damaged or cut short: get it again ({why})")
