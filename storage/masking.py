"""Secrets stay out of logs and rows: what is written passes here first.

A secret is the value of an environment variable whose name says so, the password of an address, or what looks
like one: a token of the hub, an Authorization header. The writer of every log calls `mask`, and so does
whoever keeps a reason in a row.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import TextIO
from urllib.parse import unquote

MASK = "***"
MIN_LENGTH = 6
"""A shorter value is no secret worth the name, and masking "1" would make every log unreadable."""
_SECRET_NAME = re.compile(
    r"TOKEN(?!I[ZS]ER)|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|API_?KEY|(^|_)KEY($|_)|KEY$|AUTHORIZATION",
    re.I,
)
_ADDRESS = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)@")
_LOOKS = (
    (_ADDRESS, rf"\1:{MASK}@"),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), f"hf_{MASK}"),
    (
        re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?)((?:bearer|basic|token)\s+)?[^\s\"',}]+"),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{16,}"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(cookie: )[^\r\n]+"), rf"\1{MASK}"),
    (
        re.compile(r"(?i)\b((?:password|passwd|secret|api_key|token)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+"),
        rf"\1{MASK}",
    ),
)


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secret values of an environment, the longest first, so that no part of one stays behind."""
    found = {value for name, text in environment.items() for value in _values(name, text)}
    return sorted((one for one in found if len(one) >= MIN_LENGTH), key=lambda one: (-len(one), one))


def _values(name: str, text: str) -> Iterator[str]:
    if is_secret_name(name):
        yield text.strip()
        yield from (
            line.strip() for line in text.splitlines()
        )  # a key of several lines is logged line by line
    for _, password in _ADDRESS.findall(text):
        yield password
        yield unquote(password)


class Masker:
    """Masks the secrets of one environment, and whatever looks like one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        values = secrets_of(os.environ if environment is None else environment)
        self._known = re.compile("|".join(map(re.escape, values))) if values else None

    def mask(self, text: str) -> str:
        """The text with every secret replaced; all else stays as it is."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for look, instead in _LOOKS:
            text = look.sub(instead, text)
        return text


def mask(text: str) -> str:
    """The text without the secrets of this process's environment as it is now."""
    return Masker().mask(text)


class MaskingFormatter(logging.Formatter):
    """Lines of a log without secrets, those in tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class MaskedStream(io.TextIOBase):
    """A stream to which whatever is written is masked: tracebacks that go past the log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(mask(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()


def log_to(handler: logging.Handler, form: str, level: int = logging.INFO) -> None:
    """Sends the log of this process to one handler, masked."""
    handler.setFormatter(MaskingFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
