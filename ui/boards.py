"""The leaderboard of all revealed blind tests: the engine counts it, the page shows the last count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage import blind, jobs
from storage.models_judging import Job
from ui.components import render, span
from ui.services import LOCAL_USER, Services, shown

KIND = "leaderboard"
_ENOUGH = 50
"""Jobs that are looked through for the last count; those of single tests are among them."""
_MARGIN = 0.06
"""Of the range of ratings, left free at both ends of the bars."""


@dataclass(frozen=True)
class Place:
    """A row of the table; `left`, `width` and `dot` are percents of the track, None where not comparable."""

    name: str
    rating: Sequence[float | None] | None
    win_rate: Sequence[float | None] | None
    votes: int
    is_base: bool
    is_preliminary: bool
    left: float = 0.0
    width: float = 0.0
    dot: float | None = None


@dataclass(frozen=True)
class Cell:
    """Row against column: votes won, lost and drawn (of which `bad` found neither any good)."""

    wins: int
    losses: int
    ties: int
    bad: int

    @property
    def votes(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.ties

    @property
    def share(self) -> int:
        """Percent that the row won, ties as halves."""
        return round(100 * (self.wins + self.ties / 2) / self.votes)


def counts(services: Services) -> list[Job]:
    """Jobs that counted all revealed tests together, newest first."""
    return [job for job in jobs.recent_jobs(services.db, KIND, limit=_ENOUGH) if not job.payload.get("test")]


def last_reveal(services: Services) -> datetime | None:
    """Since when the votes have not changed: only a reveal makes votes count."""
    revealed = [one.revealed_at for one in blind.list_tests(services.db, limit=1000) if one.revealed_at]
    return max(revealed, default=None)


def ask(services: Services, by: str = LOCAL_USER) -> bool:
    """Has the votes counted where none of the counts knows the last reveal; whether it asked."""
    since = last_reveal(services)
    if since is None:
        return False
    for job in counts(services):
        if job.state == "queued" or (job.created_at >= since and job.state in ("running", "done", "failed")):
            return False
    jobs.request_job(services.db, KIND, {}, by)
    return True


def count_again(services: Services, by: str) -> None:
    """Asks once more, after a count that failed."""
    if not any(job.state in ("queued", "running") for job in counts(services)):
        jobs.request_job(services.db, KIND, {}, by)


def board_html(services: Services) -> str:
    """The last count with its age, what is under way, or what to do where there are no votes."""
    known = counts(services)
    done = next((job for job in known if job.state == "done" and job.result), None)
    newest = known[0] if known else None
    is_open = newest is not None and newest.state in ("queued", "running")
    return render(
        "leaderboard.html",
        is_empty=last_reveal(services) is None,
        result=done.result if done else None,
        age=_age(services, done),
        places=places(done.result) if done and done.result else [],
        matrix=matrix(done.result) if done and done.result else [],
        counting=newest if is_open else None,
        ahead=jobs.jobs_ahead(services.db, newest.id) if newest and is_open else 0,
        failure=shown(newest.reason or "") if newest and newest.state == "failed" else "",
    )


def _age(services: Services, job: Job | None) -> str:
    """In whole minutes, so that a page is not redrawn every second for it."""
    if job is None or job.finished_at is None:
        return ""
    minutes = int((services.now() - job.finished_at).total_seconds() // 60)
    return span(60 * minutes) if minutes >= 1 else ""


def places(result: dict[str, Any]) -> list[Place]:
    """Rows as the engine sorted them: by the lower end, those that are not comparable last."""
    ends = [end for one in result["entries"] for end in one["rating"] or () if end is not None]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = _MARGIN * max(high - low, 1.0)
    low, high = low - room, high + room
    return [_place(one, result["base"], low, high) for one in result["entries"]]


def _place(entry: dict[str, Any], base: str, low: float, high: float) -> Place:
    own = (entry["name"], entry["rating"], entry["win_rate"], entry["num_votes"])
    is_base = entry["checkpoint"] == base
    if entry["rating"] is None:
        return Place(*own, is_base, entry["preliminary"])
    value, least, most = entry["rating"]
    start = _percent(low if least is None else least, low, high)
    end = _percent(high if most is None else most, low, high)
    return Place(*own, is_base, entry["preliminary"], start, end - start, _percent(value, low, high))


def _percent(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 1)


def matrix(result: dict[str, Any]) -> list[list[Cell | None]]:
    """Row against column in the order of the table; None where they never met, and on the diagonal."""
    wins, ties, bad = result["wins"], result["ties"], result["bad"]
    size = range(len(wins))
    return [
        [
            Cell(wins[i][j], wins[j][i], ties[i][j], bad[i][j])
            if i != j and wins[i][j] + wins[j][i] + ties[i][j]
            else None
            for j in size
        ]
        for i in size
    ]
