"""Uploads: the parts of a form written to files as they come, however many and however large they are.

A form that is larger than it may be is given up in the midst of it; nothing is ever held in memory whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ui.forms import Refused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD = 10_000
"""Bytes of a part that is no file."""
MAX_PARTS = 16
"""Parts that are no file; what is not held in memory whole could else be held in many pieces."""


@dataclass(frozen=True)
class Limits:
    """What an upload may have: files, and bytes in all."""

    files: int
    size: int


@dataclass(frozen=True)
class Received:
    """A form.

    Attributes:
        fields: name to text.
        files: what the browser calls each file, and where it is now.
    """

    fields: Mapping[str, str]
    files: Sequence[tuple[str, Path]]


async def receive(request: Request, folder: Path, limits: Limits) -> Received:
    """Reads a form of `multipart/form-data`; its files are numbered in `folder`, which is there.

    Raises:
        Refused: it is none, too large, or broken off.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Refused("An upload comes as a form with files: choose files, then send them.")
    sink = _Sink(folder, limits)
    try:
        parser = MultipartParser(options[b"boundary"], sink.callbacks())
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.size:
                raise Refused(_too_large(limits))
            await run_in_threadpool(parser.write, chunk)
        parser.finalize()
    except (FormParserError, ClientDisconnect) as error:
        raise Refused("The upload was broken off: send the files again.") from error
    finally:
        sink.close()
    return Received(sink.fields, sink.files)


def _too_large(limits: Limits) -> str:
    return (
        f"An upload may have {limits.size / 2**20:,.0f} MB at most: leave files out, or send them in parts."
    )


class _Sink:
    """Takes the parts of a form one after the other."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.fields: dict[str, str] = {}
        self.files: list[tuple[str, Path]] = []
        self._header, self._value, self._disposition = b"", b"", b""
        self._name, self._text = "", bytearray()
        self._open: BinaryIO | None = None
        self._num_fields = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _begin(self) -> None:
        self._disposition, self._text = b"", bytearray()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", errors="replace")
        if not options.get(b"filename"):  # a field, or a chooser of files in which none was chosen
            self._num_fields += 1
            if self._num_fields > MAX_PARTS:
                raise Refused(f"A form may have {MAX_PARTS} fields beside its files at most.")
            return
        if len(self.files) >= self.limits.files:
            raise Refused(f"An upload may have {self.limits.files:,} files at most: send them in parts.")
        path = self.folder / f"{len(self.files):06d}"
        self._open = path.open("xb")
        self.files.append((options[b"filename"].decode("utf-8", errors="replace"), path))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._open is not None:
            self._open.write(data[start:end])
        elif len(self._text) + end - start > MAX_FIELD:
            raise Refused(f"The field {self._name[:40]} is too long: it may have {MAX_FIELD:,} bytes.")
        else:
            self._text += data[start:end]

    def _end(self) -> None:
        if self._open is None:
            self.fields[self._name] = self._text.decode("utf-8", errors="replace")
        self.close()
