"""Our own reading of a safetensors header says what the library's does; more refusals are in tests/faults."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flowgrpo.tensorheader import MAX_RANK, check_adapter, read_header

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def test_names_shapes_and_metadata_are_those_that_the_library_reads(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    tensors = {f"a.{number}": torch.zeros(number, 3).to(kind) for number, kind in enumerate(DTYPES)}
    save_file(tensors | {"scalar": torch.tensor(1.0)}, path, metadata={"told": "<b>"})
    header = read_header(path)
    with safe_open(path, framework="pt") as opened:
        assert dict(header.metadata) == opened.metadata()
        assert set(header.tensors) == set(opened.keys())
        for name, entry in header.tensors.items():
            assert list(entry.shape) == opened.get_slice(name).get_shape()
            assert entry.dtype == opened.get_slice(name).get_dtype()


def test_every_shipped_file_of_weights_is_read() -> None:
    shipped = sorted((Path(__file__).parents[2] / "flowgrpo" / "starter" / "weights").rglob("*.safetensors"))
    assert shipped
    assert all(read_header(path).tensors for path in shipped)


def test_every_cut_of_a_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"a\.safetensors is damaged or cut short: get it again"):
            read_header(path)


def test_a_damaged_byte_of_the_header_is_refused_or_still_fits(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a.lora_A.weight": torch.zeros(2, 3), "a.lora_B.weight": torch.zeros(3, 2)}, path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    refused = 0
    for at in range(8 + length):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            header = read_header(path)
        except ValueError:
            refused += 1
        else:
            ends = max(entry.end for entry in header.tensors.values())
            assert 8 + length + ends == len(whole), "what is read is inside the file"
    assert refused > length / 2


def test_the_highest_rank_is_read_and_one_more_is_not(tmp_path: Path) -> None:
    for rank in (MAX_RANK, MAX_RANK + 1):
        path = tmp_path / f"{rank}.safetensors"
        save_file({"a.lora_down.weight": torch.zeros(rank, 1), "a.alpha": torch.tensor(4)}, path)
    check_adapter(read_header(tmp_path / f"{MAX_RANK}.safetensors"), "a")
    with pytest.raises(ValueError, match=r"has rank 257 at a\.lora_down\.weight, and 256 is the highest"):
        check_adapter(read_header(path), "a")
