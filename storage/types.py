"""Column types that refuse what one of our databases would lose, and the ids of all rows."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
LongInteger = BigInteger().with_variant(Integer(), "sqlite")
"""Whole numbers above 2^31, such as unsigned 32-bit seeds; every whole number of SQLite is long."""
_id_lock = threading.Lock()
_last_id = 0


def new_id() -> str:
    """A UUIDv7 (RFC 9562) as text: sorts by time, and strictly upwards within one process."""
    global _last_id
    stamp = (time.time_ns() // 1_000_000) << 80
    random_bits = int.from_bytes(os.urandom(10))
    value = stamp | (0x7 << 76) | ((random_bits >> 68) << 64) | (0b10 << 62) | (random_bits & ((1 << 62) - 1))
    with _id_lock:
        # One step up stays inside the 62 random bits unless all of them are ones, which does not happen.
        value = max(value, _last_id + 1)
        _last_id = value
    return str(uuid.UUID(int=value))


def utc_now() -> datetime:
    """The time that goes into rows; leases compare it with itself."""
    return datetime.now(UTC)


def safe_text(text: str) -> str:
    """The text itself; ValueError for what a database or a file cannot hold (NUL, half a surrogate pair)."""
    if "\x00" in text:
        raise ValueError("the text holds a NUL character: remove it and try again")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half a character: type or paste it again") from error
    return text


def canonical_json(value: Any) -> str:
    """One text per value, keys sorted: what hashes and comparisons of configs use.

    Raises:
        ValueError: for NaN, infinity or NUL inside, or a value that JSON has no form for.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (ValueError, TypeError) as error:
        raise ValueError(f"expected finite JSON values, got {str(value)[:80]}: {error}") from error
    if _ESCAPED_NUL.search(text):
        raise ValueError("the text holds a NUL character: remove it and try again")
    return safe_text(text)


class UTCDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite drops the zone, so it is put back on reading, and naive times are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"expected a time with a zone, got {value!r}: use storage.types.utc_now()")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text that both databases can hold."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else safe_text(value)


class FiniteJSON(TypeDecorator[Any]):
    """JSON without NaN, infinity or NUL: Python writes them, PostgreSQL's JSONB refuses them."""

    impl = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is not None:
            canonical_json(value)
        return value
