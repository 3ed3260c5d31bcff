"""What the Train page shows of people's ratings as teachers: weights fitted to them, a head that learned a
taste, a run from the rated groups alone. Each with the votes behind it, and each can be taken back. Plain
functions over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from storage import jobs, snapshots
from storage.engine import Database
from storage.models import Run
from storage.models_judging import PreferenceFit
from storage.rated import rated_groups
from ui import learning
from ui.components import render
from ui.forms import Refused
from ui.language import t
from ui.services import LOCAL_USER, Services, shown

Kind = Literal["weights", "head"]
JOBS: dict[Kind, str] = {"weights": "calibrate", "head": "fit_head"}
"""The job that fits each."""
NUM_UPDATES = 60
"""Of a run from ratings alone; minutes on the starter."""
MIN_PAIRS = 50
"""Below these a head is silent (docs/people.md)."""
_OPEN = ("queued", "running")
_MAX_LEFT_OUT = 3


@dataclass(frozen=True)
class Teacher:
    """One way from ratings to reward, as a line of the page.

    Attributes:
        words: What was fitted last, how well it foresees people, and whether it is in use.
        notes: What else is to be said, a sentence each.
        buttons: (act, its id, label) of what can be done now.
    """

    title: str
    words: str
    notes: Sequence[str]
    buttons: Sequence[tuple[str, str, str]]


def teaching_html(db: Database) -> str:
    """The section; empty where nobody has rated anything, since the agreement above says what to do."""
    if not rated_groups(db, 1):
        return ""
    return render("teaching.html", teachers=[weights_of(db), head_of(db)], num_updates=NUM_UPDATES)


def weights_of(db: Database) -> Teacher:
    """The newest weights that were fitted to ratings."""
    fit = next(iter(snapshots.fits(db, "weights", limit=1)), None)
    words = t("train.weights_words")
    notes: list[str] = []
    if fit is not None:
        numbers = {str(name): float(value) for name, value in fit.detail["weights"].items()}
        listed = ", ".join(f"{name} {value:.2g}" for name, value in numbers.items() if value)
        words = f"{_state(fit)}: {listed or 'no reward at all'}. {_foresight(fit)}"
        if fit.baseline is not None:
            words += f" The weights in use then: {fit.baseline:.0%}."
        left_out = list(fit.detail.get("left_out", {}).items())
        notes = [f"{name} is left out: {why}." for name, why in left_out[:_MAX_LEFT_OUT]]
        if len(left_out) > _MAX_LEFT_OUT:
            notes.append(f"{len(left_out) - _MAX_LEFT_OUT} more are left out.")
    return _teacher(db, "weights", fit, t("train.weights_title"), words, notes)


def head_of(db: Database) -> Teacher:
    """The newest head: what it foresees, and whether it speaks."""
    fit = next(iter(snapshots.fits(db, "head", limit=1)), None)
    words = t("train.taste_words")
    notes: list[str] = []
    if fit is not None:
        words = f"{_state(fit)}. {_foresight(fit)}"
        if fit.num_pairs < MIN_PAIRS:
            notes.append(f"It is silent until it has {MIN_PAIRS} comparisons.")
        elif fit.accuracy is None:
            notes.append("It is silent: all comparisons are about one prompt. Rate groups of others too.")
        if fit.detail.get("why"):
            notes.append(str(fit.detail["why"]))
    return _teacher(db, "head", fit, t("train.taste_title"), words, notes)


def acted(services: Services, act: str, target: str, checkpoint: object, who: str = LOCAL_USER) -> Run | None:
    """One click; returns the run that it started, if any.

    Args:
        target: The fit to apply or to withdraw, or the kind to fit.
        checkpoint: Where a run from ratings starts.
        who: The person who clicked.

    Raises:
        LookupError, ValueError: It cannot be done; the message is for the person who clicked.
    """
    if act == "fit" and target in JOBS:
        _request(services.db, "weights" if target == "weights" else "head", who)
    elif act in ("apply", "withdraw"):
        snapshots.set_fit_state(services.db, target, "applied" if act == "apply" else "withdrawn")
    elif act == "learn":
        return learning.start(services, checkpoint, "nft", NUM_UPDATES, 0, "", who).run
    else:
        raise Refused("This page has no such button any more: reload it.")
    return None


def _request(db: Database, kind: Kind, who: str) -> None:
    """Asks for a fit, once."""
    newest = _newest_job(db, kind)
    if newest is None or newest.state not in _OPEN:
        payload: dict[str, Any] = {"allow_negative": False} if kind == "weights" else {}
        jobs.request_job(db, JOBS[kind], payload, who)


def _teacher(
    db: Database, kind: Kind, fit: PreferenceFit | None, title: str, words: str, notes: list[str]
) -> Teacher:
    job = _newest_job(db, kind)
    if job is not None and job.state in _OPEN:
        where = job.phase if job.state == "running" and job.phase else "waits for the engine"
        return Teacher(title, words, [*notes, f"Fitting: {where}."], _standing(fit))
    if job is not None and job.state == "failed" and (fit is None or fit.created_at < job.created_at):
        notes = [*notes, f"The last fit failed: {shown(job.reason or 'no reason is known')}"]
    label = t("train.fit_again") if fit else t("train.fit")
    return Teacher(title, words, notes, [*_standing(fit), ("fit", kind, label)])


def _newest_job(db: Database, kind: Kind) -> Any:
    return next(iter(jobs.recent_jobs(db, JOBS[kind], limit=1)), None)


def _standing(fit: PreferenceFit | None) -> list[tuple[str, str, str]]:
    """What can be done with a fit as it stands."""
    if fit is None:
        return []
    if fit.state == "applied":
        return [("withdraw", fit.id, t("train.take_back"))]
    return [("apply", fit.id, t("train.put_to_use"))]


def _state(fit: PreferenceFit) -> str:
    return t(f"train.fit_{fit.state}")


def _foresight(fit: PreferenceFit) -> str:
    """How well it foresees people, and from which votes."""
    votes = f"{fit.num_pairs:,} comparisons, snapshot {str(fit.detail['snapshot_hash'])[:8]}"
    if fit.accuracy is None:
        return f"From {votes}."
    ends = "" if fit.low is None or fit.high is None else f" ({100 * fit.low:.0f} to {fit.high:.0%})"
    return f"Foresees {fit.accuracy:.0%}{ends} of choices that it has not seen; from {votes}."
