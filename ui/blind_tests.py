"""Blind tests on a page: what one would take, starting it, how far each is, and who may end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from storage import blind, blind_pairs, blind_requests, jobs, judged, lineage
from storage.models import User
from storage.models_judging import BlindTest, Job
from ui import blind_results, boards, judging
from ui.components import render, strip
from ui.forms import Refused
from ui.judging import Bounds, Plan
from ui.language import t
from ui.services import SHOWN_ERRORS, Services, shown

BOUNDS = Bounds(least=2, most=blind_pairs.MAX_CHECKPOINTS, prompts=500, images=64)
IMAGES = 4
MAY_START = ("artist", "trainer", "admin")
"""Roles; annotators judge what others started, and are not told whose images they are."""
_OPEN_JOBS = ("queued", "running")


@dataclass(frozen=True)
class Line:
    """A test in the list.

    Attributes:
        state: drawing, failed, canceled, open or revealed.
        names: of its checkpoints; empty where whoever looks must not know them.
        mine: pairs that they judged or skipped, of `pairs`.
    """

    id: str
    title: str
    state: str
    names: Sequence[str] = ()
    pairs: int = 0
    votes: int = 0
    mine: int = 0


def may_start(person: User) -> bool:
    """Whether this person starts and reveals tests."""
    return person.role in MAY_START


def check(services: Services, typed: Sequence[Any]) -> Plan:
    """The form as a plan; raises `Refused`."""
    plan = judging.check(services, BOUNDS, *typed)
    blind_pairs.check(plan.ids, plan.prompts, plan.seeds)
    return plan


def num_pairs(plan: Plan) -> int:
    """Pairs that everybody judges."""
    return comb(len(plan.checkpoints), 2) * len(plan.prompts) * len(plan.seeds)


def plan_html(services: Services, person: User, typed: Sequence[Any], note: str = "") -> str:
    """What the form would start, or what is wrong with it."""
    if not may_start(person):
        return ""
    if len(services.choices()) < BOUNDS.least:
        return render("blind_plan.html", plan=None, problem="", alone=True, note=note)
    try:
        plan = check(services, typed)
    except SHOWN_ERRORS as error:
        return render("blind_plan.html", plan=None, problem=shown(error), alone=False, note=note)
    missing = judging.missing(services, plan)
    return render(
        "blind_plan.html",
        plan=plan,
        note=note,
        pairs=num_pairs(plan),
        missing=missing,
        seconds=judging.seconds_for(services, plan.config, missing),
        learned=judging.learned(services, plan),
        trained_on=list(lineage.trained_on(services.db, plan.ids, plan.prompts).values()),
    )


def start(services: Services, person: User, typed: Sequence[Any]) -> str:
    """Starts a test and returns its id: at once where all images are there, else the engine draws them first.

    Raises:
        Refused: something typed is wrong, or this person does not start tests.
        NotSavedError: the disk is full.
    """
    if not may_start(person):
        raise Refused("Starting a blind test takes the role artist, trainer or admin: ask an admin for it.")
    plan = check(services, typed)
    if judging.missing(services, plan):
        return blind_requests.request_blind_test(services.db, plan.payload(), person.id).id
    made = blind.create_blind_test(
        services.db,
        checkpoint_ids=plan.ids,
        prompts=plan.prompts,
        seeds=plan.seeds,
        config=plan.config.model_dump(),
        created_by=person.id,
    )
    return made.id


def cancel(services: Services, person: User, job_id: str) -> None:
    """Ends the drawing of a test; images that are there stay. Raises `Refused` for who may not."""
    if not may_start(person):
        raise Refused("Only who may start a test cancels it.")
    jobs.cancel_job(services.db, job_id)


def again(services: Services, person: User, job_id: str) -> str:
    """Asks once more for a test that failed or was canceled; what is drawn is found. Returns its id."""
    if not may_start(person):
        raise Refused("Starting a blind test takes the role artist, trainer or admin: ask an admin for it.")
    payload = jobs.get_job(services.db, job_id).payload
    return blind_requests.request_blind_test(services.db, payload, person.id).id


def reveal(services: Services, person: User, test_id: str) -> None:
    """Ends a test for everybody, and has the leaderboard counted again."""
    if not may_start(person):
        raise Refused("Revealing a test ends it for everybody: ask who started it, or an admin.")
    blind.reveal(services.db, test_id, person.id)
    boards.ask(services, person.id)


# What there is


def job_of(services: Services, test_id: str) -> Job | None:
    """The job that draws a test, or None."""
    try:
        job = jobs.get_job(services.db, test_id)
    except LookupError:
        return None
    return job if job.kind == blind_requests.KIND else None


def test_of(services: Services, test_id: str) -> BlindTest | None:
    """The test with this id, or None."""
    try:
        return blind.get_test(services.db, test_id)
    except LookupError:
        return None


def lines(services: Services, person: User) -> list[Line]:
    """Every test that is drawn, open or revealed, newest first within each."""
    tests = blind.list_tests(services.db)
    jobs_ = blind_requests.waiting(services.db)
    ids = {one for test in tests for one in test.checkpoints}
    ids |= {one for job in jobs_ for one in job.payload["checkpoints"]}
    names = {key: one.name for key, one in judged.checkpoints_of(services.db, ids).items()}
    waiting = [
        Line(job.id, t("blind.new_test"), _state(job), _named(job.payload["checkpoints"], names))
        for job in jobs_
        if may_start(person)
    ]
    return waiting + [_line(services, person, test, names) for test in tests]


def _line(services: Services, person: User, test: BlindTest, names: dict[str, str]) -> Line:
    votes, pairs = blind.counts(services.db, test.id)
    mine = {one.annotator_id: one.judged + one.skipped for one in blind.judges(services.db, test.id)}
    is_open = test.revealed_at is None
    known = _named(test.checkpoints, names) if may_start(person) or not is_open else ()
    title = called(test) if is_open and not may_start(person) else test.name
    state = "open" if is_open else "revealed"
    return Line(test.id, title, state, known, pairs, votes, mine.get(person.id, 0))


def _named(ids: Sequence[str], names: dict[str, str]) -> list[str]:
    return [names.get(one, "?") for one in ids]


def _state(job: Job) -> str:
    return "drawing" if job.state in _OPEN_JOBS else job.state


def called(test: BlindTest) -> str:
    """What a test is called before its reveal: by its number, since a name may say whose images it shows."""
    return t("blind.test", n=test.seq)


def list_html(services: Services, person: User, chosen: str, problem: str = "") -> str:
    """The chosen test, and the list of all."""
    return render(
        "blind_tests.html",
        problem=problem,
        chosen=chosen,
        detail=detail(services, person, chosen) if chosen else None,
        lines=lines(services, person),
        may_start=may_start(person),
    )


def detail(services: Services, person: User, test_id: str) -> dict[str, Any]:
    """What a page tells of one test; `state` is that of its `Line`, or "unknown"."""
    test = test_of(services, test_id)
    if test is not None:
        return _of_test(services, person, test)
    job = job_of(services, test_id)
    return {"state": "unknown"} if job is None else {"state": _state(job)} | drawing(services, person, job)


def drawing(services: Services, person: User, job: Job) -> dict[str, Any]:
    """How far the images of a test are; whose are drawn now only for who may know it."""
    config = judging.config_of(job)
    left = judging.seconds_for(services, config, max(0, job.total - job.done)) if job.total else None
    return {
        "id": job.id,
        "title": t("blind.new_test"),
        "job": job,
        "phase": job.phase if may_start(person) else "",
        "ahead": jobs.jobs_ahead(services.db, job.id),
        "left": left,
        "reason": shown(job.reason) if job.reason else "",
        "settings": strip.settings_line(config.model_dump()),
    }


def _of_test(services: Services, person: User, test: BlindTest) -> dict[str, Any]:
    line = _line(services, person, test, {})
    others = [one for one in blind.judges(services.db, test.id) if one.annotator_id != person.id]
    result = blind_results.result_html(services, test) if line.state == "revealed" else ""
    return {
        "state": line.state,
        "id": test.id,
        "title": line.title,
        "line": line,
        "others": others,
        "result": result,
        "settings": strip.settings_line(test.config),
    }
