"""The kinds of jobs that a worker does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowgrpo.runs import heads, judging
from flowgrpo.runs.adding import KIND as BASE
from flowgrpo.runs.adding import base_job
from flowgrpo.runs.blind_drawing import blind_job
from flowgrpo.runs.evaluating import evaluate
from flowgrpo.runs.export import export_job
from flowgrpo.runs.importing import import_job
from flowgrpo.runs.jobs import Work
from flowgrpo.runs.plan_job import plan_job
from flowgrpo.runs.ratings_job import ratings_in_job, ratings_job
from storage.blind_requests import KIND as BLIND
from storage.evaluations import KIND as EVALUATE
from storage.exports import KIND as EXPORT
from storage.imports import KIND as IMPORT
from storage.imports import RATINGS as RATINGS_IN
from storage.plans import KIND as PLAN
from storage.ratings_files import KIND as RATINGS_OUT

KINDS: Final[Mapping[str, Work]] = {
    "calibrate": judging.calibrate_job,
    "agreement": judging.agreement_job,
    "leaderboard": judging.leaderboard_job,
    "fit_head": heads.fit_head_job,
    EVALUATE: evaluate,
    EXPORT: export_job,
    IMPORT: import_job,
    PLAN: plan_job,
    BASE: base_job,
    BLIND: blind_job,
    RATINGS_OUT: ratings_job,
    RATINGS_IN: ratings_in_job,
}
"""Kind, as its row names it, to what does it."""
