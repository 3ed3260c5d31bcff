"""What `make soak` measures: each promise says its number, and all of them stand at the end of the output."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs.conftest import base, db, dispatch, pipeline, run, tiny

__all__ = ["base", "db", "dispatch", "pipeline", "run", "tiny"]
FIGURES = Path(os.environ.get("SOAK_FIGURES", "soak.jsonl"))


@pytest.fixture
def figure() -> Callable[[str, str], None]:
    """Keeps what was measured of one promise: `figure("no acknowledged rating is lost", "0 of 812")`."""

    def keep(promise: str, number: str) -> None:
        with FIGURES.open("a") as file:
            file.write(json.dumps({"promise": promise, "number": number}) + "\n")

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints every figure that there is."""
    for line in FIGURES.read_text().splitlines() if FIGURES.exists() else ():
        terminalreporter.write_line("{promise}: {number}".format(**json.loads(line)))
