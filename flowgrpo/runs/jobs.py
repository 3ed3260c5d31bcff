"""Work of the engine that is no group: evaluations, fits to the votes.

Between two units of it, groups that people wait for at the screen come first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowgrpo.runs.generation import CanceledError, InterruptedDrawingError, Painter
from storage import jobs
from storage.engine import Database
from storage.models_judging import Job

REPORT_SECONDS = 0.5
"""How often progress is written: often enough to see it move, seldom enough to cost nothing."""


@dataclass
class Bench:
    """What a job works with.

    Attributes:
        painter: draws and scores groups; its shelf has the policies, its stack the rewards.
        weights: folder of the embedded rewards and the judge.
        turn: holds the device for one unit of work; `tick` is called outside of it.
        between: called between two units of work; draws what people wait for at the screen.
        is_ending: asked there whether this process has to end.
    """

    db: Database
    job: Job
    painter: Painter
    device: torch.device
    weights: Path
    turn: Callable[[], AbstractContextManager[None]]
    between: Callable[[], None]
    is_ending: Callable[[], bool]
    _reported: float = 0.0

    def tick(self, phase: str, done: int, total: int) -> None:
        """Says how far the job is, between two units of work.

        Raises:
            CanceledError: nobody wants it any more.
            InterruptedDrawingError: this process has to end; the job starts again in another one.
        """
        if self.is_ending():
            raise InterruptedDrawingError
        self.between()
        if done in (0, total) or time.monotonic() - self._reported > REPORT_SECONDS:
            self._reported = time.monotonic()
            if not jobs.report_progress(self.db, self.job.id, phase, done, total):
                raise CanceledError


Work = Callable[[Bench], dict[str, Any]]
"""Does a job and returns its result, which must be JSON; ValueError and LookupError are told to people."""


def do(bench: Bench, kinds: Mapping[str, Work]) -> None:
    """Does one job and keeps its result.

    Raises what `Bench.tick` raises, and ValueError or LookupError with a sentence for who asked.
    """
    work = kinds.get(bench.job.kind)
    if work is None:
        raise ValueError(f"this studio has no job of the kind {bench.job.kind}: {', '.join(sorted(kinds))}")
    jobs.finish_job(bench.db, bench.job.id, work(bench))
