"""Checkpoints: the list, and one with its lineage, its figures, its files, and what can be made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from storage import ancestry, catalog, checkpoints, exports, jobs
from storage.ancestry import Lineage
from storage.catalog import CheckpointView
from storage.models import User
from storage.models_judging import Evaluation, Job
from ui.forms import Refused
from ui.language import t
from ui.library.adapters import formats_of, importing
from ui.library.shelf import Done, Fields, Query, Tab, text_of
from ui.services import Services

SHOWN = 200
"""Checkpoints of the list; a search finds the others."""
FIGURES = 40
"""Figures of one checkpoint, the newest."""
_LOOKED_AT = 50
"""Export jobs, the newest, among which those of one checkpoint are looked for."""


@dataclass(frozen=True)
class Figure:
    """One measured figure in words."""

    metric: str
    words: str
    doubt: str
    note: str


def view(services: Services, query: Query) -> dict[str, Any]:
    """The list, the form that imports a file, or one checkpoint."""
    if query.get("checkpoint"):
        return _one(services, query["checkpoint"])
    if query.get("import"):
        return {"shows": "import", **importing(services)}
    known = catalog.view_checkpoints(services.db)
    wanted = query.get("q", "").casefold()
    is_all = bool(query.get("all") or wanted)
    shown = [one for one in known if (is_all or _is_listed(one)) and wanted in _searched(one)]
    return {
        "shows": "list",
        "found": shown[:SHOWN],
        "total": len(known),
        "hidden": 0 if is_all else len(known) - len(shown),
        "asked": query.get("q", ""),
    }


def _is_listed(one: CheckpointView) -> bool:
    """Bases, imports, candidates, and the last of each run; what a run saved on its way is behind a link."""
    return one.newest or one.row.promoted_at is not None


def _searched(one: CheckpointView) -> str:
    run = f"run {one.run.number} {one.run.name}" if one.run else ""
    return f"{one.row.name} {one.base.name} {run}".casefold()


def _one(services: Services, checkpoint_id: str) -> dict[str, Any]:
    try:
        found = catalog.view_checkpoint(services.db, checkpoint_id)
    except LookupError as error:
        raise Refused("There is no checkpoint with this id: choose one from the list.") from error
    behind = ancestry.lineage_of(services.db, checkpoint_id)
    base = behind.steps[-1].checkpoint
    return {
        "shows": "one",
        "one": found,
        "behind": behind,
        "steps": behind.steps[::-1],
        "siblings": _siblings(services, found),
        "figures": [_figure(one) for one in behind.figures[::-1][:FIGURES]],
        "pair": "" if found.is_base else urlencode({"checkpoints": f"{base.id},{found.row.id}"}),
        **_files(services, found, behind),
    }


def _siblings(services: Services, found: CheckpointView) -> Sequence[Any]:
    """What the same run saved, oldest first."""
    if found.row.run_id is None:
        return []
    return checkpoints.checkpoints_of_run(services.db, found.row.run_id)


def _figure(one: Evaluation) -> Figure:
    doubt = "" if one.low is None or one.high is None else f"{one.low:.3f} – {one.high:.3f}"
    words, doubt = (text.replace("-", "−") for text in (f"{one.value:.3f}", doubt))
    return Figure(one.metric, words, doubt, f"n = {one.n:,} · {one.extractor}")


def _files(services: Services, found: CheckpointView, behind: Lineage) -> dict[str, Any]:
    """What is exported and what is being exported, with how other programs take it."""
    written = {one.layout: one for one in behind.exports}
    return {
        "formats": [
            (one, written.get(one.layout), _export_job(services, found, one.layout))
            for one in formats_of(found)
        ]
    }


def _export_job(services: Services, found: CheckpointView, layout: str) -> Job | None:
    """The newest job that writes this file, unless it is done or was given up."""
    for job in jobs.recent_jobs(services.db, exports.KIND, _LOOKED_AT):
        if job.payload.get("checkpoint") == found.row.id and job.payload.get("layout") == layout:
            return job if job.state in ("queued", "running", "failed") else None
    return None


# What can be done


def rename(services: Services, person: User, fields: Fields) -> Done:
    """Gives a checkpoint another name."""
    checkpoint_id, name = text_of(fields, "checkpoint"), text_of(fields, "name")
    made = catalog.rename_checkpoint(services.db, checkpoint_id, name, person.id)
    return Done(t("library.renamed", name=made.name))


def promote(services: Services, person: User, fields: Fields) -> Done:
    """Makes a checkpoint the candidate of its base."""
    made = catalog.promote(services.db, text_of(fields, "id"), by=person.id)
    return Done(t("library.promoted", name=made.name))


def withdraw(services: Services, person: User, fields: Fields) -> Done:
    """Takes the promotion back."""
    made = catalog.promote(services.db, text_of(fields, "id"), is_candidate=False, by=person.id)
    return Done(t("library.withdrawn", name=made.name))


def pin(services: Services, person: User, fields: Fields) -> Done:
    """Keeps its files whatever is pruned."""
    made = catalog.pin(services.db, text_of(fields, "id"), by=person.id)
    return Done(t("library.pinned", name=made.name))


def unpin(services: Services, person: User, fields: Fields) -> Done:
    """Takes that back."""
    made = catalog.pin(services.db, text_of(fields, "id"), is_pinned=False, by=person.id)
    return Done(t("library.unpinned", name=made.name))


def export(services: Services, person: User, fields: Fields) -> Done:
    """Asks the engine to write the adapter as a file for other programs."""
    exports.request_export(services.db, text_of(fields, "id"), text_of(fields, "layout"), person.id)
    return Done(t("library.export_asked"))


TAB = Tab(
    "checkpoints",
    view,
    {
        "rename": rename,
        "promote": promote,
        "withdraw": withdraw,
        "pin": pin,
        "unpin": unpin,
        "export": export,
    },
    is_live=True,
)
