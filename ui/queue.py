"""What the studio is at: groups that are drawn or wait, and a run that has the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage import groups, jobs, runs, workers
from storage.engine import Database
from storage.groups import REUSABLE, GroupView
from storage.models import Run, User
from storage.models_judging import Job
from ui.components import render, span, strip
from ui.language import FIRST, catalog, t
from ui.services import Services, evaluations, shown

_WAITS = "waits for"
"""How the words of an engine begin that waits for its device (`flowgrpo.runs.worker`)."""
SHOWN = 6
"""Groups that the card lists; the others are a number."""


@dataclass(frozen=True)
class Line:
    """One group of the queue, as the card lists it."""

    view: GroupView
    where: str
    left: float | None
    """Seconds until it is done; None when nothing is known."""
    may_cancel: bool


def queue_html(services: Services, person: User) -> str:
    """Renders the card: a sentence where nothing waits."""
    waiting = groups.open_groups(services.db, REUSABLE)
    lines = _lines(services, waiting, person)
    mine = [line for line in lines if line.view.group.created_by == person.id]
    return render(
        "queue.html",
        lines=lines[:SHOWN],
        more=len(lines) - SHOWN,
        mine=len(mine),
        total=len(lines),
        left=lines[-1].left if lines else None,
        rest=_rest(services) if not lines else "",
        training=training_words(services.db) if _training(services.db) else "",
        jobs=[_job_words(job) for job in jobs.open_jobs(services.db)[:SHOWN]],
    )


def cancel(db: Database, group_id: str, person: User) -> None:
    """Cancels one group. Raises PermissionError with a sentence where it is somebody else's."""
    view = groups.get_group(db, group_id)
    if not may_cancel(view, person):
        raise PermissionError("This group was asked for by somebody else: only they or an admin cancel it.")
    groups.cancel_group(db, group_id)


def cancel_mine(db: Database, person: User) -> int:
    """Cancels all that this person asked for and that is not done; how many groups these were."""
    mine = [one for one in groups.open_groups(db, REUSABLE) if one.group.created_by == person.id]
    return sum(groups.cancel_group(db, one.group.id) for one in reversed(mine))


def may_cancel(view: GroupView, person: User) -> bool:
    """Whether it is theirs, or theirs to administer."""
    return view.group.created_by == person.id or person.role == "admin"


def training_words(db: Database) -> str:
    """What a group has to wait for while a run trains; empty when none does."""
    run = _training(db)
    if run is None:
        return ""
    beat = runs.beat_of(db, run.id)
    if any(one.state == "starting" and one.detail.startswith(_WAITS) for one in workers.worker_status(db)):
        return t("studio.training_alone", run=run.number)
    is_moving = run.stalled_at is None and beat is not None and beat.update < beat.num_updates
    if is_moving and beat is not None and beat.seconds_per_update:
        left = span(beat.seconds_per_update * (beat.num_updates - beat.update))
        return t("studio.training_left", run=run.number, left=left)
    return t("studio.training", run=run.number)


def _training(db: Database) -> Run | None:
    return next((one for one in runs.list_runs(db) if one.state in ("starting", "running")), None)


def _job_words(job: Job) -> str:
    """What a job is and how far; nothing that a blind test has to hide."""
    kind = f"studio.job_{job.kind}"
    name = t(kind if kind in catalog(FIRST) else "studio.job_other")
    if job.state == "queued":
        return t("studio.job_waits", name=name)
    return t("studio.job_done", name=name, done=job.done, total=job.total) if job.total else name


def _lines(services: Services, waiting: Sequence[GroupView], person: User) -> list[Line]:
    """Each with the time until its own end: what comes before it, and itself."""
    each, total = services.seconds_per_evaluation(), 0.0
    found = []
    for place, view in enumerate(waiting):
        total += _own_seconds(services, view, each) if each else 0.0
        found.append(Line(view, _where(view, place), total if each else None, may_cancel(view, person)))
    return found


def _own_seconds(services: Services, view: GroupView, each: float) -> float:
    work = each * evaluations(view.group)
    if view.group.started_at is None:
        return work
    return max(1.0, work - (services.now() - view.group.started_at).total_seconds())


def _where(view: GroupView, place: int) -> str:
    if view.group.state == "running":
        ready = t("studio.ready", ready=len(view.images), total=len(view.group.seeds))
        return f"{shown(view.group.phase or t('studio.starting'))[:-1]} · {ready}"
    return t("studio.next") if place == 0 else t("studio.ahead", n=place)


def _rest(services: Services) -> str:
    """A line for an empty queue, with what the last group took."""
    done = (view for view in services.recent() if view.group.state == "done")
    last = next((took for view in done if (took := strip.took(view))), None)
    return t("studio.empty_queue_took", time=span(last)) if last else t("studio.empty_queue")
