"""Bases: what can generate before anything is tuned, and the form that adds one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import catalog, jobs
from storage.catalog import BaseView
from storage.models import User
from storage.models_judging import Job
from ui.forms import Refused, check_line
from ui.language import t
from ui.library.shelf import Done, Fields, Query, Tab, size_words, text_of
from ui.library.sizes import hub_folder, is_hub, size_of
from ui.services import Services

JOB = "base"
"""The kind of job that looks at a base, gets its files, and notes it."""
MAX_TEXT = 1_000
_PREDICTIONS = ("epsilon", "v_prediction")
_SHOWN_JOBS = 8


@dataclass(frozen=True)
class Shelved:
    """A base with where it is and what it takes on the disk."""

    view: BaseView
    is_hub: bool
    size: str
    is_there: bool


def view(services: Services, query: Query) -> dict[str, Any]:
    """Every base, what is being added, and the form."""
    return {
        "bases": [_shelved(one) for one in catalog.view_bases(services.db)],
        "work": [
            (one, _percent(one), jobs.jobs_ahead(services.db, one.id))
            for one in jobs.recent_jobs(services.db, JOB, _SHOWN_JOBS)
            if one.state != "canceled"
        ],
        "predictions": _PREDICTIONS,
    }


def _shelved(one: BaseView) -> Shelved:
    is_from_hub = is_hub(one.row.source)
    size = size_of(hub_folder(one.row.source) if is_from_hub else Path(one.row.source))
    return Shelved(one, is_from_hub, size_words(size) if size is not None else "", size is not None)


def _percent(job: Job) -> int:
    return round(100 * job.done / job.total) if job.total else 0


# What can be done


def ask(services: Services, person: User, fields: Fields) -> Done:
    """Asks the engine to look at a source, or to get its files and note it as a base."""
    source = text_of(fields, "source")
    if not source:
        raise Refused("Say where the base is: a diffusers folder, a .safetensors file, or a hub id.")
    for name in ("source", "name", "config"):
        check_line(text_of(fields, name), f"The {name}", MAX_TEXT)
    prediction = text_of(fields, "prediction")
    if prediction and prediction not in _PREDICTIONS:
        raise Refused(f"A network predicts {' or '.join(_PREDICTIONS)}, not {prediction[:40]}: choose one.")
    payload = {
        "source": source,
        "name": text_of(fields, "name") or None,
        "prediction": prediction or None,
        "config": text_of(fields, "config") or None,
        "look": text_of(fields, "way") == "look",
    }
    jobs.request_job(services.db, JOB, payload, person.id)
    return Done(t("library.asked_base", source=source))


def cancel(services: Services, person: User, fields: Fields) -> Done:
    """Gives up what is queued or being fetched; what has arrived stays on the disk."""
    if not jobs.cancel_job(services.db, text_of(fields, "id")):
        raise Refused("That has ended already: there is nothing to cancel.")
    return Done(t("library.base_canceled"))


TAB = Tab("bases", view, {"base": ask, "cancel-base": cancel}, is_live=True)
