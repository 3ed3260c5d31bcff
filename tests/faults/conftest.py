"""The data folder with a tiny base of the tests of runs, for trainers that are killed."""

from __future__ import annotations

from tests.runs.conftest import base, db, pipeline, run, tiny

__all__ = ["base", "db", "pipeline", "run", "tiny"]
