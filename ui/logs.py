"""The log of the web: plain for people, or one JSON object a line for programs; a line is one line always.

What strangers wrote is in messages and in errors: it can neither begin a line of its own nor move the cursor
of a terminal. What is secret is blacked out.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from storage.masking import mask

FORMATS: Final = ("plain", "json")
_current: ContextVar[str] = ContextVar("request_id", default="")


@contextmanager
def request_id() -> Iterator[str]:
    """Inside, lines of the log carry this id of the request that they are about."""
    given = uuid.uuid4().hex[:12]
    token = _current.set(given)
    try:
        yield given
    finally:
        _current.reset(token)


def set_up(form: str = "", level: int = logging.WARNING) -> None:
    """Sends all of this process's log to stderr in one form; uvicorn's too, unless it is set up otherwise.

    Args:
        form: one of FORMATS; empty for what FLOWGRPO_LOG says, or plain.

    Raises:
        ValueError: it is none.
    """
    form = form or os.environ.get("FLOWGRPO_LOG", "") or "plain"
    if form not in FORMATS:
        raise ValueError(
            f"a log is {' or '.join(FORMATS)}, not {form!r}: say so with --log-format or FLOWGRPO_LOG"
        )
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def one_line(text: str) -> str:
    """Text in which nothing but letters and blanks is left of what could move a cursor or end a line."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
        for one in text
    )


class PlainLines(logging.Formatter):
    """`WARNING name: message`; the lines of an error stand behind a mark, so that none looks like another."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and those of the error below it."""
        about = f" [{_current.get()}]" if _current.get() else ""
        said = one_line(mask(record.getMessage()))
        told = f"{record.levelname} {record.name}{about}: {said}"
        lines = _error_of(self, record).splitlines()
        return "\n".join([told, *(f"  | {one_line(line)}" for line in lines)])


class JsonLines(logging.Formatter):
    """One JSON object: time, level, logger, message, request, and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, in one line."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": one_line(mask(record.getMessage())),
            "request_id": _current.get() or None,
        }
        if error := _error_of(self, record):
            document["error"] = error
        return json.dumps(document, ensure_ascii=True)


def _error_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    return mask(formatter.formatException(record.exc_info))
