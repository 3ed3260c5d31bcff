"""What several nouns need: rows that must exist, hashes of prompts, the next number."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.models import MAX_PROMPT_LENGTH, Record
from storage.types import canonical_json, safe_text

R = TypeVar("R", bound=Record)


def required(session: Session, kind: type[R], key: Any, noun: str) -> R:
    """The row with this primary key; LookupError with a sentence when there is none."""
    found = session.get(kind, key)
    if found is None:
        raise LookupError(f"there is no {noun} with the id {key}: reload the list and choose one that exists")
    return found


def next_number(session: Session, column: InstrumentedAttribute[int]) -> int:
    """One more than the highest; safe because writes are serialised and rows are never deleted."""
    return (session.scalar(select(func.max(column))) or 0) + 1


def checked_prompt(prompt: str) -> str:
    """The prompt, verbatim; ValueError when it is empty or longer than an encoder's interface takes."""
    if not prompt.strip():
        raise ValueError("the prompt is empty: write what the image should show")
    if len(prompt) > MAX_PROMPT_LENGTH:
        raise ValueError(f"the prompt has {len(prompt)} characters: shorten it to {MAX_PROMPT_LENGTH}")
    return safe_text(prompt)


def prompt_hash(prompt: str) -> str:
    """Equal for prompts that differ only in case, width and spacing."""
    normal = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
    return hashlib.sha256(normal.encode()).hexdigest()


def config_hash(config: dict[str, Any]) -> str:
    """Equal for equal configs, whatever the order of their keys."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()
