"""Evaluations on a page: what one would take, starting it, how far it is, and its table and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowgrpo.metrics.intervals import MIN_PROMPTS
from storage import evaluations, jobs, judged, lineage
from storage.models import User
from storage.models_judging import Job
from ui import blind_tests, forms, judging
from ui.components import render
from ui.components.interval_charts import Chart, chart, number
from ui.forms import Refused
from ui.judging import Bounds, Plan
from ui.language import catalog, t
from ui.services import SHOWN_ERRORS, Services, shown

BOUNDS = Bounds(least=1, most=evaluations.MAX_CHECKPOINTS, prompts=1000, images=evaluations.MAX_SEEDS)
IMAGES = 4
FORMS = ("markdown", "csv", "json", "latex", "plot")
"""Of the files of a finished evaluation, in the order of their links."""
_OPEN = ("queued", "running")
_MAX_STEPS, _MAX_SWEEP = 150, 8
_SHOWN = 30
"""Evaluations in the list."""


def check(services: Services, typed: Sequence[Any]) -> tuple[Plan, list[int]]:
    """(what is evaluated, numbers of steps of a sweep); raises `Refused`.

    Args:
        typed: the form, as `judging.check` takes it, and the sweep last.
    """
    *form, sweep = typed
    plan = judging.check(services, BOUNDS, *form)
    numbers = [one for one in str(sweep or "").replace(",", " ").split() if one]
    steps = [forms.whole(one, "A number of steps of the sweep", 1, _MAX_STEPS) for one in numbers]
    if len(set(steps)) != len(steps) or len(steps) > _MAX_SWEEP:
        raise Refused(f"A sweep has at most {_MAX_SWEEP} numbers of steps, each once: correct the list.")
    return plan, steps


def plan_html(services: Services, person: User, typed: Sequence[Any], note: str = "") -> str:
    """What the form would start, or what is wrong with it."""
    if not blind_tests.may_start(person):
        return ""
    try:
        plan, steps = check(services, typed)
    except SHOWN_ERRORS as error:
        return render("evaluation_plan.html", plan=None, problem=shown(error), note=note)
    plans = [_at(plan, one) for one in steps] or [plan]
    missing = [judging.missing(services, one) for one in plans]
    seconds = [judging.seconds_for(services, p.config, n) for p, n in zip(plans, missing, strict=True)]
    return render(
        "evaluation_plan.html",
        plan=plan,
        note=note,
        total=plan.num_images * len(plans),
        missing=sum(missing),
        seconds=sum(one for one in seconds if one is not None) or None,
        few=MIN_PROMPTS if len(plan.prompts) < MIN_PROMPTS else 0,
        learned=judging.learned(services, plan),
        trained_on=list(lineage.trained_on(services.db, plan.ids, plan.prompts).values()),
    )


def _at(plan: Plan, steps: int) -> Plan:
    config = plan.config.model_copy(update={"num_steps": steps})
    return Plan(plan.checkpoints, plan.prompts, plan.seeds, config)


def start(services: Services, person: User, typed: Sequence[Any]) -> str:
    """Queues an evaluation and returns the id of its job.

    Raises:
        Refused: something typed is wrong, or this person starts none.
        NotSavedError: the disk is full.
    """
    _check_may(person)
    plan, steps = check(services, typed)
    return evaluations.request_evaluation(services.db, plan.payload() | {"steps": steps}, person.id).id


def again(services: Services, person: User, job_id: str) -> str:
    """Asks once more for one that failed or was canceled; what is drawn is found. Returns the new id."""
    _check_may(person)
    payload = jobs.get_job(services.db, job_id).payload
    return evaluations.request_evaluation(services.db, payload, person.id).id


def cancel(services: Services, person: User, job_id: str) -> None:
    """Ends an evaluation; images that are there stay."""
    _check_may(person)
    jobs.cancel_job(services.db, job_id)


def _check_may(person: User) -> None:
    if not blind_tests.may_start(person):
        raise Refused("Evaluating takes the role artist, trainer or admin: ask an admin for it.")


# What there is


def list_html(services: Services, person: User, chosen: str, problem: str = "") -> str:
    """The chosen evaluation, else the newest that is done; and the list of all."""
    known = jobs.recent_jobs(services.db, evaluations.KIND, limit=_SHOWN)
    asked = _job(services, chosen) if chosen else next((one for one in known if one.result), None)
    asked = asked or (None if chosen else next(iter(known), None))
    ids = {one for job in known for one in job.payload.get("checkpoints", ())}
    names = {key: one.name for key, one in judged.checkpoints_of(services.db, ids).items()}
    return render(
        "evaluations.html",
        problem=problem,
        chosen=chosen,
        is_unknown=bool(chosen) and asked is None,
        may_start=blind_tests.may_start(person),
        shown_id=asked.id if asked else "",
        detail=detail(services, asked) if asked else None,
        jobs=[(job, _title(job), _names(job, names)) for job in known],
    )


def _job(services: Services, job_id: str) -> Job | None:
    try:
        job = jobs.get_job(services.db, job_id)
    except LookupError:
        return None
    return job if job.kind == evaluations.KIND else None


def _title(job: Job) -> str:
    return t("evaluations.number", n=job.seq)


def _names(job: Job, names: Mapping[str, str]) -> str:
    return ", ".join(names.get(one, "?") for one in job.payload.get("checkpoints", ()))


def detail(services: Services, job: Job) -> dict[str, Any]:
    """What a page tells of one evaluation."""
    told: dict[str, Any] = {"job": job, "title": _title(job), "is_open": job.state in _OPEN}
    told["when"] = job.created_at.strftime("%Y-%m-%d %H:%M UTC")
    if job.state in _OPEN:
        config = judging.config_of(job)
        left = judging.seconds_for(services, config, max(0, job.total - job.done)) if job.total else None
        ahead = jobs.jobs_ahead(services.db, job.id)
        return told | {"phase": job.phase, "ahead": ahead, "left": left}
    if job.result is None:
        return told | {"reason": shown(job.reason or "it was canceled")}
    return told | {
        "table": table(job.result),
        "files": [form for form in FORMS if form in job.result["files"]],
    }


def table(result: dict[str, Any]) -> dict[str, Any]:
    """The result of an evaluation as a page shows it: a line a metric, a column an entry."""
    rows = result["rows"]
    names = _entries(rows)
    had = [one for one in result["metrics"] if any(_has(row, one["name"]) for row in rows)]
    lines = [_line(metric, rows) for metric in had]
    charts = [_chart(metric, rows, names) for metric in had if not is_part(metric["name"])]
    return {
        "names": names,
        "against": names[0] if names else "",
        "lines": [line for line in lines if not is_part(line["name"])],
        "parts": [line for line in lines if is_part(line["name"])],
        "charts": [one for one in charts if one is not None],
        "num_prompts": len(result["prompts"]),
        "num_seeds": len(result["seeds"]),
        "seconds": [row["seconds"] for row in rows],
        "base": result["base"],
        "interval": result["interval"],
        "references": result["references"],
        "trained_on": list(result["trained_on"].values()),
        "absent": result["absent"],
        "failed": result["failed"],
    }


def is_part(name: str) -> bool:
    """Whether a metric is a part of another one: the judge's slots are."""
    return name.startswith("judge/")


def meaning(name: str) -> str:
    """A sentence on what a metric is and when to trust it."""
    key = f"evaluations.means_{name.replace('/', '_')}"
    return t(key if key in catalog("en") else "evaluations.means_other")


def _entries(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the columns; the number of steps too where that differs."""
    swept = len({row["steps"] for row in rows}) > 1
    return [
        t("evaluations.at", name=row["name"], steps=row["steps"]) if swept else row["name"] for row in rows
    ]


def _has(row: Mapping[str, Any], name: str) -> bool:
    return row["figures"].get(name, {}).get("value") is not None


def _line(metric: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cells = [row["figures"].get(metric["name"]) for row in rows]
    had = next(cell for cell in cells if cell and cell["value"] is not None)
    return {
        "name": metric["name"],
        "title": metric["title"] + (f", {metric['unit']}" if metric.get("unit") else ""),
        "better": metric["better"],
        "meaning": "" if is_part(metric["name"]) else meaning(metric["name"]),
        "extractor": had["extractor"],
        "n": had["num_images"],
        "note": had.get("note", ""),
        "cells": [_cell(cell) for cell in cells],
    }


def _cell(cell: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not cell or cell["value"] is None:
        return None
    change = cell.get("change")
    told: dict[str, Any] = {"value": number(cell["value"], cell["low"], cell["high"]), "ends": _ends(cell)}
    told["p"] = f"{cell['p']:.2g}" if "p" in cell else ""
    if change and change["value"] is not None:
        sign = "+" if change["value"] > 0 else ""
        told["change"] = sign + number(change["value"], change["low"], change["high"])
        told |= {"change_ends": _ends(change), "is_clear": change["is_clear"]}
    return told


def _ends(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return ""
    low, high = figure["low"], figure["high"]
    return t("evaluations.from_to", low=number(low, low, high), high=number(high, low, high))


def _chart(
    metric: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Chart | None:
    cells = [row["figures"].get(metric["name"], {}) for row in rows]
    return chart(metric, list(zip(names, cells, strict=True)))
