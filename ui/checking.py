"""What the form of a new run says of itself: the preflight list, a line beside Start, the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowgrpo.config import RunConfig
from flowgrpo.presets import STARTER_PRESETS
from flowgrpo.work import images_of, work_of
from storage import jobs, plans
from storage.models_judging import Job
from storage.rated import rated_groups
from ui import fixes, recipes, teaching, tuning
from ui.components import render, span
from ui.defaults import starter_prompts
from ui.forms import FIRST_PRESET, RunForm
from ui.language import t
from ui.preflight import Check
from ui.services import SHOWN_ERRORS, Services, shown
from ui.wizard import Typed

_LOOKED_BACK = 100
_OPEN = ("queued", "running")


@dataclass(frozen=True)
class Said:
    """Three places of the page: the list, the line beside Start, the budget."""

    checks: str
    plan: str
    cost: str


def said(services: Services, typed: Typed) -> Said:
    """Of the form as it stands; what it lacks is a line of the list too."""
    try:
        recipe = recipes.check(services, typed.way, typed.checkpoint, typed.form, typed.images)
    except SHOWN_ERRORS as error:
        lines = [Check("bad", shown(error), fixes.for_refusal(typed.form))]
        return Said(_list(lines), _plan([], lines, None), "")
    seconds = seconds_of(services, recipe.configs)
    return Said(
        _list(recipe.checks),
        _plan(recipe.configs, recipe.checks, seconds),
        _cost(services, typed.checkpoint, recipe.configs, seconds),
    )


def seconds_of(services: Services, configs: Sequence[RunConfig]) -> float | None:
    """What all steps take, from what finished groups took; None where nothing is known yet."""
    each = services.seconds_per_evaluation()
    return None if each is None else each * sum(work_of(config).evaluations for config in configs)


def preset_choices(services: Services) -> list[tuple[str, str]]:
    """(what it is and takes, its name) of each preset."""
    prompts, _ = starter_prompts()
    found = []
    for name, preset in STARTER_PRESETS.items():
        config = preset(prompts)
        seconds = seconds_of(services, [config])
        takes = t("train.about", span=span(seconds)) if seconds else ""
        numbers = t("train.preset_words", updates=config.num_updates, images=images_of(config))
        found.append((" · ".join(part for part in (name.capitalize(), numbers, takes) if part), name))
    return found


def quick_html(services: Services) -> str:
    """What a newcomer needs: a run from the ratings where there are some, else that Start will do."""
    rated = rated_groups(services.db, _LOOKED_BACK)
    return render("quick.html", rated=len(rated), num_updates=teaching.NUM_UPDATES, many=_LOOKED_BACK)


def _list(lines: Sequence[Check]) -> str:
    labelled = [
        {"level": line.level, "text": line.text, "fix": line.fix, "label": _label(line.fix)} for line in lines
    ]
    return render("checks.html", checks=labelled)


def _label(fix: str) -> str:
    kind, _, name = fix.partition(":")
    return t(f"train.fix_{kind}", name=name) if kind else ""


def _plan(configs: Sequence[RunConfig], lines: Sequence[Check], seconds: float | None) -> str:
    against = [line.text for line in lines if line.level == "bad"]
    warned = sum(line.level == "warn" for line in lines)
    return render(
        "plan.html",
        against=against[0] if against else "",
        updates=" + ".join(str(config.num_updates) for config in configs),
        takes=span(seconds) if seconds else "",
        warned=warned,
    )


def measure(services: Services, typed: Typed, who: str) -> None:
    """Asks the engine for memory and time of each step; raises `Refused` where the form is wrong."""
    recipe = recipes.check(services, typed.way, typed.checkpoint, typed.form, typed.images)
    for config in recipe.configs:
        plans.request_plan(services.db, config.model_dump(mode="json"), str(typed.checkpoint), who)


def is_measuring(services: Services) -> bool:
    """Whether a plan is on its way."""
    return any(job.state in _OPEN for job in jobs.recent_jobs(services.db, plans.KIND, limit=4))


def _cost(services: Services, checkpoint: object, configs: Sequence[RunConfig], seconds: float | None) -> str:
    found = [plans.plan_of(services.db, one.model_dump(mode="json"), str(checkpoint)) for one in configs]
    failed = next((job.reason for job in found if job and job.state == "failed"), None)
    return render(
        "cost.html",
        steps=[_step(config, job) for config, job in zip(configs, found, strict=True)],
        takes=span(seconds) if seconds else "",
        is_open=any(job is not None and job.state in _OPEN for job in found),
        is_known=all(job is not None and job.state == "done" for job in found),
        failed=shown(failed) if failed else "",
    )


def _step(config: RunConfig, job: Job | None) -> dict[str, Any]:
    """One step's images, and what the engine measured of it."""
    images = images_of(config)
    measured = job.result if job is not None and job.state == "done" and job.result else {}
    return {
        "is_images": config.algorithm.name == "sft",
        "updates": config.num_updates,
        "each": images // config.num_updates,
        "images": images,
        "seconds": span(measured["seconds"]) if measured.get("seconds") else "",
        "device": measured.get("device", ""),
        "memory": _gigabytes(measured.get("memory", {}).get("peak_bytes")),
        "free": _gigabytes(measured.get("free_memory")),
        "fits": measured.get("fits", True),
    }


def _gigabytes(size: Any) -> str:
    return f"{size / 1e9:.1f} GB" if size else ""


def numbers_of(preset: object) -> tuple[str, bool]:
    """The name of a preset that there is, and whether it was the one that was asked for."""
    known = str(preset) in STARTER_PRESETS
    return (str(preset) if known else FIRST_PRESET), known


def fix(services: Services, typed: Typed, wanted: str) -> tuple[object, RunForm]:
    """(checkpoint, form) with one thing mended.

    Raises:
        Refused: there is no such fix. LookupError: there is no base to take instead.
    """
    if wanted == fixes.ANOTHER_BASE:
        bases = [one for _, one in services.choices()]
        if not bases:
            raise LookupError("there is no other checkpoint: import one in the Library")
        return bases[-1], typed.form
    preset, _ = numbers_of(typed.form.preset)
    return typed.checkpoint, fixes.fixed(typed.form, wanted, tuning.preset_form(preset, services.db))
