"""An alarm puts its question on the page and into the API: a sentence, two rows of pictures, the answers."""

from __future__ import annotations

from typing import Any

import pytest

from storage import checkpoints, run_wishes, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.ui.conftest import MakeGroup
from tests.ui.test_tuning import committed, form, running, shown_run
from ui import api, run_acts, tuning
from ui.asking import question_of
from ui.services import Services

ALIKE = "Images of one prompt are 35% more alike than the base's."


@pytest.fixture
def asked(services: Services, db: Database, base: Checkpoint, make_group: MakeGroup) -> Run:
    """A run that an alarm paused after update 7, with checkpoints of updates 5 and 7."""
    run = tuning.start(services, base.id, form())
    running(db, run)
    before = make_group([0.5, 0.6], kind="sample", run_id=run.id, update=0)
    now = make_group([0.7, 0.8], kind="sample", run_id=run.id, update=7)
    for update in (5, 7):
        committed(db, run, update)
    payload = {
        "update": 7, "shown": 7, "back_to": 5, "base": [before.group.id], "now": [now.group.id],
        "alarms": [{"topic": "collapse/", "size": 0.35}],
    }  # fmt: skip
    runs.record_event(db, run.id, 1, "alarm", ALIKE)
    runs.record_event(db, run.id, 1, "pause", ALIKE, payload)
    runs.move(db, run.id, to="paused", from_states=("running",), attempt=1, reason=f"{ALIKE} Compare.")
    return runs.get_run(db, run.id)


def test_the_page_shows_the_sentence_once_the_pictures_side_by_side_and_the_answers(
    services: Services, asked: Run
) -> None:
    html = shown_run(services, asked.id)
    assert html.count("35% more alike") == 1
    assert html.count("<img") == 4 + 2 + 4  # the question's, the slider's, then all samples of the run
    for words in (
        'alt="base: portrait, red hair"',
        'alt="update 7: portrait, red hair"',
        ">Go on<",
        ">Go on from update 5<",
        ">Stop here<",
    ):
        assert words in html
    assert html.count('data-act="resume"') == html.count('data-act="stop"') == 1


def test_each_answer_does_what_it_says(services: Services, db: Database, asked: Run) -> None:
    assert run_acts.acted(services, asked.id, "back", f"{asked.id}/5") == ("", asked.id)
    assert runs.get_run(db, asked.id).state == "queued"
    assert runs.events(db, asked.id)[-2].payload == {"update": 5}
    assert question_of(db, runs.get_run(db, asked.id)) is None
    assert "Go on from" not in shown_run(services, asked.id)


@pytest.mark.parametrize(("act", "state"), [("resume", "queued"), ("stop", "stopped")])
def test_a_person_may_go_on_or_stop(
    services: Services, db: Database, asked: Run, act: str, state: str
) -> None:
    assert run_acts.acted(services, asked.id, act, asked.id) == ("", asked.id)
    assert runs.get_run(db, asked.id).state == state


@pytest.mark.parametrize("target", ["", "/", "/x", "/3", "/-1"])
def test_going_back_to_what_is_not_there_is_refused_in_a_sentence(
    services: Services, db: Database, asked: Run, target: str
) -> None:
    problem, _ = run_acts.acted(services, asked.id, "back", f"{asked.id}{target}")
    assert problem.endswith(".")
    assert runs.get_run(db, asked.id).state == "paused"


def test_a_checkpoint_that_was_damaged_since_is_not_offered(
    services: Services, db: Database, asked: Run
) -> None:
    checkpoints.mark_checkpoint(db, checkpoints.checkpoints_of_run(db, asked.id)[0].id, "bad")
    question = question_of(db, asked)
    assert question is not None
    assert question.back_to is None
    assert "Go on from" not in shown_run(services, asked.id)


def test_an_alarm_without_pictures_is_a_question_all_the_same(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    payload: dict[str, Any] = {"update": 7, "shown": 0, "back_to": None, "base": [], "now": [], "alarms": []}
    runs.record_event(db, run.id, 1, "pause", ALIKE, payload)
    runs.move(db, run.id, to="paused", from_states=("running",), attempt=1, reason=ALIKE)
    html = shown_run(services, run.id)
    assert "<img" not in html and ">Go on<" in html and ALIKE.replace("'", "&#39;") in html


def test_a_run_paused_for_want_of_space_asks_nothing(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    runs.move(db, run.id, to="paused", from_states=("running",), attempt=1, reason="The disk is full.")
    assert question_of(db, runs.get_run(db, run.id)) is None
    assert ">Resume<" in shown_run(services, run.id)


def test_a_run_paused_on_request_asks_nothing_and_waits_for_nobody(
    services: Services, db: Database, base: Checkpoint, asked: Run
) -> None:
    assert services.engine().alerts == (("Run 1 waits for you", f"/train?run={asked.id}"),)
    runs.request_stop(db, asked.id)
    run = tuning.start(services, base.id, form())
    running(db, run)
    run_wishes.request_pause(db, run.id)
    runs.end_attempt(db, run.id, 1, exit_code=run_wishes.PAUSED_EXIT)
    runs.move(db, run.id, to="paused", from_states=("running",), attempt=1, reason="Paused on request.")
    assert question_of(db, runs.get_run(db, run.id)) is None
    assert services.engine().alerts == ()


def test_the_page_says_that_a_run_went_back(services: Services, db: Database, base: Checkpoint) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    line = "After update 6 the run went back to the weights of update 4 and learns at half the rate since: x."
    runs.record_event(db, run.id, 1, "recovery", line)
    for number in range(5):
        runs.record_event(db, run.id, 1, "warning", f"Warning {number}.")
    assert line in shown_run(services, run.id)


def test_an_alarm_that_comes_and_goes_is_shown_once(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    for line in ("It differs less.", "It is slow.", "It differs less.", "It differs less."):
        runs.record_event(db, run.id, 1, "alarm", line)
    html = shown_run(services, run.id)
    assert html.count("It differs less.") == html.count("It is slow.") == 1
    assert html.index("It is slow.") < html.index("It differs less.")


def test_the_api_tells_the_question(services: Services, asked: Run) -> None:
    question = api.run_dict(services, asked)["question"]
    assert (question["sentence"], question["update"], question["back_to"]) == (ALIKE, 7, 5)
    assert len(question["base"]) == len(question["now"]) == 1
