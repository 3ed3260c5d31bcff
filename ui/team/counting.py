"""The engine's count of how people agree: the last one there is, and when a new one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage import jobs, snapshots
from storage.models_judging import Job
from ui.language import t
from ui.team.common import Desk, Fields, ago, check_admin

KIND = "agreement"
_ACTIVE = ("queued", "running")
_LOOKED_BACK = 10


@dataclass(frozen=True)
class Count:
    """What the page knows.

    Attributes:
        result: of the last count that was finished; None before the first.
        words: its age, and what a newer one is waiting for; empty while nobody has voted.
        trouble: why the newest one failed, or empty.
        may_ask: whether none is under way.
    """

    result: Mapping[str, Any] | None
    words: str
    trouble: str
    may_ask: bool


def read(desk: Desk) -> Count:
    """The last count and what is under way."""
    db, now = desk.services.db, desk.services.now()
    known = jobs.recent_jobs(db, KIND, limit=_LOOKED_BACK)
    done = next((job for job in known if job.state == "done"), None)
    newest = known[0] if known else None
    words = []
    if done is not None:
        votes = int((done.result or {}).get("num_votes", 0))
        words.append(t("team.counted", ago=ago(done.finished_at, now), votes=votes))
        if done.payload.get("stamp") != snapshots.stamp(db):
            words.append(t("team.votes_since"))
    is_active = newest is not None and newest.state in _ACTIVE
    if newest is not None and is_active:
        words.append(_waits(desk, newest))
    trouble = str(newest.reason or "") if newest is not None and newest.state == "failed" else ""
    return Count(done.result if done else None, " ".join(words), trouble, not is_active)


def _waits(desk: Desk, job: Job) -> str:
    if job.state == "running":
        return t("team.counting")
    return t("team.count_waits", ahead=jobs.jobs_ahead(desk.services.db, job.id))


def ask_if_new(desk: Desk) -> None:
    """When somebody looks: asks for a count where the votes are others than when one was asked for last."""
    db = desk.services.db
    newest = next(iter(jobs.recent_jobs(db, KIND, limit=1)), None)
    if not snapshots.num_votes(db) or (newest is not None and newest.state in _ACTIVE):
        return
    if newest is None or newest.payload.get("stamp") != snapshots.stamp(db):
        jobs.request_job(db, KIND, {"stamp": snapshots.stamp(db)}, desk.me.id)


def again(desk: Desk, target: str, fields: Fields) -> str:
    """Asks for a count, whatever there is."""
    check_admin(desk, "ask for a count")
    if read(desk).may_ask:
        jobs.request_job(desk.services.db, KIND, {"stamp": snapshots.stamp(desk.services.db)}, desk.me.id)
    return t("team.asked")


ACTS: dict[str, Any] = {"count": again}
