"""Passwords: argon2id, two at a time, and as slow for a name that nobody has as for a wrong guess."""

from __future__ import annotations

import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from ui.forms import Refused

MIN_LENGTH, MAX_LENGTH = 10, 256
_AT_ONCE = threading.Semaphore(2)
"""Each takes 64 MiB and a core for some tens of milliseconds."""


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()  # the library's own choice follows RFC 9106


@cache
def _nobodys() -> str:
    return _hasher().hash("nobody has this password")


def hashed(password: str) -> str:
    """What a row holds of a password.

    Raises:
        Refused: it is too short or too long.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Refused(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters: choose another one.")
    with _AT_ONCE:
        return _hasher().hash(_bytes(password))


def is_right(kept: str | None, password: str) -> bool:
    """Whether a password is the one of a row; takes its time where there is no row, too."""
    if len(password) > MAX_LENGTH:
        password = ""
    with _AT_ONCE:
        try:
            return _hasher().verify(kept or _nobodys(), _bytes(password)) and kept is not None
        except (VerifyMismatchError, InvalidHashError):
            return False


def _bytes(password: str) -> bytes:
    """Half characters, which some keyboards send, are as good as any other."""
    return password.encode(errors="surrogatepass")
