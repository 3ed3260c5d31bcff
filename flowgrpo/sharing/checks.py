"""Values of a row that comes from elsewhere, or a sentence that names row and column."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from flowgrpo.sharing.told import SPLITS, Picture, Split

T = TypeVar("T")


class Row:
    """One row of a file.

    Args:
        number: from 1 on.
    """

    def __init__(self, file: str, number: int, values: object) -> None:
        self.where = f"{file}, row {number}"
        if not isinstance(values, dict):
            raise ValueError(f"{self.where}: expected an object with columns, got {str(values)[:80]}")
        self.values: Mapping[str, Any] = values

    def wrong(self, column: str, expected: str) -> ValueError:
        """The sentence for a column that does not fit."""
        got = "nothing" if self.values.get(column) is None else repr(self.values[column])[:80]
        return ValueError(f"{self.where}, column {column}: expected {expected}, got {got}")

    def get(self, column: str, kind: type[T] | tuple[type[T], ...], expected: str) -> T:
        """The value, of this type; True and False are no numbers."""
        value = self.values.get(column)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(column, expected)
        return value

    def text(self, column: str, default: str | None = None) -> str:
        """A text that says something; or the default, where there is one."""
        if default is not None and self.values.get(column) is None:
            return default
        value = self.get(column, str, "a text")
        if not value.strip() and default is None:
            raise self.wrong(column, "a text that is not empty")
        return value

    def number(self, column: str) -> float:
        """A number."""
        return float(self.get(column, (int, float), "a number"))

    def whole(self, column: str) -> int:
        """A whole number."""
        return self.get(column, int, "a whole number")

    def items(self, column: str, kind: type[T], expected: str) -> list[T]:
        """A list whose members all have this type."""
        value = self.values.get(column)
        if not isinstance(value, list | tuple) or not all(
            isinstance(one, kind) and (kind is bool or not isinstance(one, bool)) for one in value
        ):
            raise self.wrong(column, expected)
        return list(value)

    def time(self, column: str) -> datetime | None:
        """A moment in UTC; None where there is none."""
        value = self.values.get(column)
        if value is None:
            return None
        try:
            at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            raise self.wrong(column, "a time such as 2026-01-31T12:00:00+00:00") from None
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    def picture(self, column: str, name: str, roots: list[Path]) -> Picture:
        """The image of a relative path, in the first of some folders that has it."""
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name or "\\" in name:
            raise self.wrong(column, "the path of an image inside the folder")
        for root in roots:
            path = (root / parts).resolve()
            if path.is_relative_to(root.resolve()) and path.is_file():
                return Picture(f"{self.where}, column {column}", path=path)
        looked = " or ".join(str(root) for root in roots)
        raise ValueError(
            f"{self.where}, column {column}: there is no image {name[:120]} in {looked}; "
            "name the folder of the images with --images"
        )


def split_of_file(path: Path) -> Split:
    """As its name says: train.parquet, test-00000-of-00002.parquet, train_unpaired.jsonl; else train."""
    return next((split for split in SPLITS if path.name.lower().startswith(split)), "train")


def lines(path: Path) -> Iterator[Row]:
    """The rows of a .jsonl file."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield Row(path.name, number, _json(path.name, number, line))


def listed(path: Path) -> Iterator[Row]:
    """The rows of a .json file that is a list."""
    found = _json(path.name, 1, path.read_text(encoding="utf-8"))
    if not isinstance(found, list):
        raise ValueError(f"{path.name}: expected a list of objects")
    yield from (Row(path.name, number, one) for number, one in enumerate(found, start=1))


def _json(name: str, number: int, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}, row {number}: this is not JSON ({error}): export it again") from error
