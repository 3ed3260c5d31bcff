"""Messages between a process and the child that scores for it: a JSON header and raw bytes, no code.

A frame is `FGRW`, two lengths (big-endian, 4 and 8 bytes), the header as UTF-8 JSON, the bytes. Images travel
as uint8 and values as little-endian float32, so NaN and infinity arrive as they are.
"""

from __future__ import annotations

import json
import os
import selectors
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import UInt8
from torch import Tensor

from flowgrpo.rewards.base import Abstained, ScoreBatch, ScoreResult

Header = dict[str, Any]
_MAGIC: Final = b"FGRW"
_LENGTHS: Final = struct.Struct(">4sIQ")
_MAX_HEADER: Final = 64 * 2**20
_MAX_BYTES: Final = 8 * 2**30
_PIECE: Final = 2**20


class BrokenFrameError(ValueError):
    """What came is no message of this protocol."""


@dataclass
class Pipes:
    """Both directions of a pair of pipes; with a deadline where one is set.

    Attributes:
        source, sink: File descriptors to read from and to write to. A deadline holds while writing only where
            the sink does not block.
        deadline: `time.monotonic()` at which reading and writing give up; None: never.
    """

    source: int
    sink: int
    deadline: float | None = None

    def send(self, header: Mapping[str, Any], data: bytes = b"") -> None:
        """Writes one message.

        Raises:
            TimeoutError: The deadline has passed.
            BrokenPipeError: Nobody reads any more.
        """
        said = json.dumps(header, allow_nan=False).encode()
        for part in (_LENGTHS.pack(_MAGIC, len(said), len(data)), said, data):
            self._write(memoryview(part))

    def receive(self) -> tuple[Header, bytes]:
        """Reads one message.

        Raises:
            EOFError: The other end has closed, between two messages or in the midst of one.
            BrokenFrameError: What came is no message.
            TimeoutError: The deadline has passed.
        """
        magic, length, size = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if magic != _MAGIC or length > _MAX_HEADER or size > _MAX_BYTES:
            raise BrokenFrameError("what came is no message of the protocol")
        try:
            header = json.loads(self._read(length))
        except ValueError as error:
            raise BrokenFrameError(f"the header of a message is no JSON: {error}") from error
        if not isinstance(header, dict):
            raise BrokenFrameError("the header of a message is no JSON object")
        return header, self._read(size)

    def _write(self, data: memoryview) -> None:
        while data:
            self._wait(self.sink, selectors.EVENT_WRITE)
            data = data[os.write(self.sink, data[:_PIECE]) :]

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait(self.source, selectors.EVENT_READ)
            part = os.read(self.source, min(count - len(parts), _PIECE))
            if not part:
                raise EOFError("the other end has closed")
            parts += part
        return bytes(parts)

    def _wait(self, descriptor: int, event: int) -> None:
        if self.deadline is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if not selector.select(max(0.0, self.deadline - time.monotonic())):
                raise TimeoutError("the deadline has passed")


def batch_message(batch: ScoreBatch) -> tuple[Header, bytes]:
    """A batch as a message; `read_batch` undoes it."""
    header: Header = {
        "shape": list(batch.images.shape),
        "prompts": list(batch.prompts),
        "groups": list(batch.groups),
        "has_references": batch.references is not None,
    }
    parts = [batch.images] if batch.references is None else [batch.images, batch.references]
    return header, b"".join(part.cpu().contiguous().numpy().tobytes() for part in parts)


def read_batch(header: Header, data: bytes) -> ScoreBatch:
    """The batch of a message.

    Raises:
        ValueError, KeyError, TypeError: The message does not hold one.
    """
    shape = [int(size) for size in header["shape"]]
    count = shape[0] * shape[1] * shape[2] * shape[3]
    images = _pixels(data[:count], shape)
    references = _pixels(data[count:], shape) if header["has_references"] else None
    return ScoreBatch(images, list(header["prompts"]), [int(g) for g in header["groups"]], references)


def _pixels(data: bytes, shape: list[int]) -> UInt8[Tensor, "sample 3 height width"]:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape)


def result_message(result: ScoreResult) -> tuple[Header, bytes]:
    """A column as a message; `read_result` undoes it. Details of another length than the column stay here."""
    values = _floats(result.values)
    details = {name: _floats(column) for name, column in result.details.items()}
    details = {name: column for name, column in details.items() if column.shape == values.shape}
    header: Header = {
        "shape": list(values.shape),
        "reasons": [None if reason is None else str(reason) for reason in result.reasons],
        "abstained": [isinstance(reason, Abstained) for reason in result.reasons],
        "details": list(details),
        "warning": result.warning,
    }
    return header, b"".join(column.numpy().tobytes() for column in (values, *details.values()))


def _floats(values: Tensor) -> Tensor:
    return values.detach().cpu().float().contiguous()


def read_result(header: Header, data: bytes) -> ScoreResult:
    """The column of a message.

    Raises:
        ValueError, KeyError, TypeError: The message does not hold one.
    """
    shape = [int(size) for size in header["shape"]]
    table = torch.frombuffer(bytearray(data), dtype=torch.float32) if data else torch.zeros(0)
    columns = table.reshape(1 + len(header["details"]), *shape)
    reasons = tuple(
        None if reason is None else Abstained(reason) if abstained else str(reason)
        for reason, abstained in zip(header["reasons"], header["abstained"], strict=True)
    )
    details = {str(name): column for name, column in zip(header["details"], columns[1:], strict=True)}
    warning = header["warning"]
    return ScoreResult(columns[0], reasons, details, None if warning is None else str(warning))
