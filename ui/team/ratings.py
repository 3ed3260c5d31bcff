"""Ratings for other programs and of others: an archive of all that people said, written by the engine and
fetched here; and what became of those that were sent here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage import imports, jobs, ratings_files
from storage.models_judging import Job
from storage.ratings_files import RatingsFile
from ui.components import render
from ui.language import t
from ui.services import shown
from ui.team.common import Desk, Fields, Seen, ago, check_admin
from ui.team.storing import size

_ACTIVE = ("queued", "running")
_BROUGHT = 5
"""Imports that are told of, the newest."""


@dataclass(frozen=True)
class Brought:
    """An import, and what became of it."""

    origin: str
    ago: str
    words: str
    is_failed: bool


def address_of(job: Job) -> str:
    """Where the archive of a job is fetched."""
    return f"/exports/ratings/{job.id}.zip"


def form(desk: Desk, seen: Seen) -> str:
    """What an archive may have; for admins."""
    del seen
    return render("team_ratings_form.html", forms=ratings_files.FORMS, is_admin=desk.is_admin)


def body(desk: Desk, seen: Seen) -> str:
    """The archive that is there, and what becomes of the one that was asked for last."""
    del seen
    if not desk.is_admin:
        return render("team_ratings.html", is_closed=True)
    newest = ratings_files.newest_job(desk.services.db)
    found = ratings_files.ratings_file(desk.services.db)
    return render(
        "team_ratings.html",
        is_closed=False,
        words=_under_way(desk, newest) if newest is not None and newest.state in _ACTIVE else "",
        job=newest,
        trouble=shown(newest.reason or "") if newest is not None and newest.state == "failed" else "",
        file=found,
        about=_about(desk, found) if found is not None else "",
        address=address_of(found.job) if found is not None else "",
        brought=_brought(desk),
    )


def _under_way(desk: Desk, job: Job) -> str:
    if job.state == "running":
        return t("team.ratings_at_work", phase=job.phase or t("judging.starting"))
    return t("team.ratings_wait", ahead=jobs.jobs_ahead(desk.services.db, job.id))


def _brought(desk: Desk) -> list[Brought]:
    """The imports, the newest first."""
    return [_one(desk, job) for job in jobs.recent_jobs(desk.services.db, imports.RATINGS, _BROUGHT)]


def _one(desk: Desk, job: Job) -> Brought:
    is_failed = job.state == "failed"
    if is_failed:
        words = shown(job.reason or "")
    elif job.state == "done":
        words = t("team.ratings_in_done", **_facts(job))
    elif job.state == "canceled":
        words = t("library.canceled")
    else:
        words = _under_way(desk, job)
    return Brought(job.payload["origin"], ago(job.created_at, desk.services.now()), words, is_failed)


def _about(desk: Desk, found: RatingsFile) -> str:
    """What is in it, in a sentence."""
    written = ago(found.written, desk.services.now())
    return t("team.ratings_there", ago=written, size=size(found.size), **_facts(found.job))


def _facts(job: Job) -> dict[str, str]:
    """What came out, by name."""
    return {name: f"{value:,}" for name, value in (job.result or {}).items()}


def ask(desk: Desk, target: str, fields: Fields) -> str:
    """Has an archive written."""
    del target
    check_admin(desk, "take the ratings out")
    ratings_files.request_ratings_file(desk.services.db, str(fields.get("format", "")), desk.me.id)
    return t("team.ratings_asked")


def cancel(desk: Desk, target: str, fields: Fields) -> str:
    """Gives the one under way up."""
    del fields
    check_admin(desk, "cancel this")
    if jobs.get_job(desk.services.db, target).kind != ratings_files.KIND:
        raise LookupError("this is no file of ratings: reload the page")
    jobs.cancel_job(desk.services.db, target)
    return t("team.ratings_canceled")


ACTS: dict[str, Any] = {"ratings": ask, "cancel_ratings": cancel}
