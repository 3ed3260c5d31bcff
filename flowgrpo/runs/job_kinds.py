"""The kinds of jobs that a worker does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowgrpo.runs.jobs import Work

KINDS: Final[Mapping[str, Work]] = {}
"""Kind, as its row names it, to what does it."""
