"""Parquet files, written and read a few rows at a time, however large they are.

By arro3: pandas would load pyarrow into the web process merely because it is installed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import read_parquet, write_parquet

Columns: TypeAlias = Mapping[str, DataType]
TEXT: Final = DataType.string()
BYTES: Final = DataType.binary()
FLAG: Final = DataType.bool()
REAL: Final = DataType.float64()
WHOLE: Final = DataType.int64()
TIME: Final = DataType.timestamp("ns")
ROW_GROUP: Final = 100
"""Rows: what a reader of images takes into memory at once."""
_BATCH: Final = 20
_MAGIC: Final = b"PAR1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def write(path: Path, columns: Columns, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes rows as they come, and returns how many there were; no file where there was none.

    Raises whatever `rows` raises.
    """
    left = iter(rows)
    first = next(left, None)
    if first is None:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = _Stream(columns, chain([first], left))
    reader = RecordBatchReader.from_batches(stream.schema, stream)
    images: dict[str | Sequence[str], bool] = {name: False for name, kind in columns.items() if kind == BYTES}
    try:
        write_parquet(
            reader, str(path), compression="snappy", max_row_group_size=ROW_GROUP,
            column_dictionary_enabled=images or None,
        )  # fmt: skip
    finally:
        if stream.error is not None:  # what arro3 makes of it has lost its type
            raise stream.error
    return stream.count


class _Stream:
    """Rows as batches, that remembers how many there were, and what went wrong with them."""

    def __init__(self, columns: Columns, rows: Iterator[Mapping[str, Any]]) -> None:
        self.columns, self.rows = columns, rows
        self.schema = Schema([Field(name, kind) for name, kind in columns.items()])
        self.count = 0
        self.error: Exception | None = None

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> RecordBatch:
        try:
            part = list(islice(self.rows, _BATCH))
        except (OSError, ValueError) as error:
            self.error = error
            raise
        if not part:
            raise StopIteration
        self.count += len(part)
        arrays = [_array([row[name] for row in part], kind) for name, kind in self.columns.items()]
        return RecordBatch.from_arrays(arrays, schema=self.schema)


def _array(values: list[Any], kind: DataType) -> Array:
    if kind == TIME:
        return Array(np.array([nanoseconds(one) for one in values], dtype=np.int64)).cast(TIME)
    return Array(values, kind)


def nanoseconds(at: datetime) -> int:
    """Since 1970, exact to the microsecond."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def columns_of(path: Path) -> dict[str, DataType]:
    """Its columns and their types. Raises ValueError for a file that is no Parquet."""
    schema = _opened(path).schema
    return {name: schema.field(name).type for name in schema.names}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Its rows, one by one. Raises ValueError for a file that is no Parquet, or a damaged one."""
    batches = _opened(path)
    while True:
        with _Readable(path):
            batch = next(batches, None)
            if batch is None:
                return
            batch = RecordBatch.from_arrow(batch)
            columns = {name: _values(batch.column(name)) for name in batch.schema.names}
        for number in range(batch.num_rows):
            yield {name: values[number] for name, values in columns.items()}


def _values(column: Array) -> list[Any]:
    return [column[place].as_py() for place in range(len(column))]


def _opened(path: Path) -> RecordBatchReader:
    _check_ends(path)
    with _Readable(path):
        return read_parquet(str(path), batch_size=_BATCH)


def _check_ends(path: Path) -> None:
    """The reader aborts where the last bytes point out of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if size < 12 or head != _MAGIC or tail[4:] != _MAGIC or struct.unpack("<I", tail[:4])[0] > size - 12:
        raise ValueError(f"{path.name} is no whole Parquet file: download or export it again")


class _Readable:
    """What arro3 says of a damaged file, as a ValueError: it raises Exception itself, nothing narrower."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        """Nothing to begin with."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Leaves alone whatever is of a type of its own."""
        if kind is Exception:
            said = str(error)[:200]
            raise ValueError(f"{self.path.name} is damaged ({said}): download or export it again") from error
