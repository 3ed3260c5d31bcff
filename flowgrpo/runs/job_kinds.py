"""The kinds of jobs that a worker does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowgrpo.runs import heads, judging
from flowgrpo.runs.evaluating import evaluate
from flowgrpo.runs.jobs import Work
from storage.evaluations import KIND as EVALUATE

KINDS: Final[Mapping[str, Work]] = {
    "calibrate": judging.calibrate_job,
    "agreement": judging.agreement_job,
    "leaderboard": judging.leaderboard_job,
    "fit_head": heads.fit_head_job,
    EVALUATE: evaluate,
}
"""Kind, as its row names it, to what does it."""
