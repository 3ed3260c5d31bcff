"""A page never waits for the disk to be measured: it shows the last measure, and one is taken beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from storage.types import utc_now
from storage.usage import Measured
from ui.usage import FRESH, Usage


class Slow:
    """A measure that takes until it is let go, and counts how often it was asked for."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.times = 0
        self.age = timedelta()

    def __call__(self, home: Path) -> Measured:
        self.times += 1
        assert self.go.wait(10)
        return Measured(utc_now() - self.age, {"other": self.times}, {}, 1, 2)


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.go.set()


def settled(usage: Usage) -> None:
    for thread in threading.enumerate():
        if thread.name == "storage use":
            thread.join(10)
    assert not usage.is_measuring()


def test_looking_returns_at_once_however_often_and_one_measure_is_taken(tmp_path: Path, slow: Slow) -> None:
    usage = Usage(tmp_path, slow)
    assert [usage.look() for _ in range(5)] == [None] * 5
    assert usage.is_measuring() and slow.times == 1
    slow.go.set()
    settled(usage)
    found = usage.look()
    assert found is not None and found.parts == {"other": 1} and slow.times == 1


def test_an_old_measure_is_shown_while_a_new_one_is_taken(tmp_path: Path, slow: Slow) -> None:
    usage = Usage(tmp_path, slow)
    slow.age = FRESH + timedelta(seconds=1)
    slow.go.set()
    usage.look()
    settled(usage)
    slow.go.clear()
    shown = usage.look()
    assert shown is not None and shown.parts == {"other": 1} and slow.times == 2
