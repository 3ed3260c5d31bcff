"""Secrets as rows know them: drawn here, given out once, and kept as their SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets

BITS = 256


def new_secret(prefix: str = "") -> str:
    """A secret of 256 random bits, as text that fits into an address and a header."""
    return prefix + secrets.token_urlsafe(BITS // 8)


def hash_of(secret: str) -> str:
    """What a row holds of it. So many random bits cannot be guessed, so no slow hash is needed."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
