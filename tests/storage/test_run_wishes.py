"""What people ask of a run: one wish each, refused in words where it means nothing, cleared once done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import run_wishes, runs
from storage.engine import Database
from storage.errors import StaleAttemptError
from storage.models import Checkpoint, Run, RunState
from tests.storage.test_runs import start

Ask = Callable[[Database, str], Run]
ASKS: dict[run_wishes.Wish, Ask] = {
    "pause": run_wishes.request_pause,
    "save": run_wishes.request_save,
    "sample": run_wishes.request_sample,
}


def kinds(db: Database, run: Run) -> list[str]:
    return [event.kind for event in runs.events(db, run.id)]


@pytest.mark.parametrize("wish", run_wishes.WISHES)
def test_a_wish_stands_until_the_trainer_has_done_it(db: Database, run: Run, wish: run_wishes.Wish) -> None:
    attempt = start(db, run)
    for _ in range(2):
        ASKS[wish](db, run.id)
    assert kinds(db, run).count(f"{wish}_requested") == 1
    asked = run_wishes.wishes_of(db, run.id)
    assert list(asked) == [wish]
    run_wishes.fulfil(db, run.id, attempt, wish, asked[wish], "Done after update 3.")
    assert run_wishes.wishes_of(db, run.id) == {}
    assert runs.events(db, run.id)[-1].detail == "Done after update 3."


def test_what_was_asked_again_meanwhile_stands(db: Database, run: Run) -> None:
    attempt = start(db, run)
    run_wishes.request_save(db, run.id)
    first = run_wishes.wishes_of(db, run.id)["save"]
    run_wishes.fulfil(db, run.id, attempt, "save", first, "Saved.")
    run_wishes.request_save(db, run.id)
    run_wishes.fulfil(db, run.id, attempt, "save", first, "Saved.")
    assert list(run_wishes.wishes_of(db, run.id)) == ["save"]


def test_an_earlier_attempt_fulfils_nothing(db: Database, run: Run) -> None:
    attempt = start(db, run)
    run_wishes.request_pause(db, run.id)
    asked = run_wishes.wishes_of(db, run.id)["pause"]
    assert runs.move(db, run.id, to="lost", from_states=("running",))
    runs.resume_run(db, run.id)
    start(db, run)
    with pytest.raises(StaleAttemptError, match="this process must end"):
        run_wishes.fulfil(db, run.id, attempt, "pause", asked, "Paused.")
    assert list(run_wishes.wishes_of(db, run.id)) == ["pause"], "an interruption takes no wish away"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("stopping", "is stopping already"),
        ("paused", "is paused already"),
        ("stopped", "has stopped"),
        ("failed", "has failed"),
        ("completed", "is complete"),
    ],
)
def test_a_run_that_looks_at_no_wishes_refuses_them_in_words(
    db: Database, run: Run, state: RunState, sentence: str
) -> None:
    with pytest.raises(ValueError, match="has not started yet"):
        run_wishes.request_pause(db, run.id)
    start(db, run)
    assert runs.move(db, run.id, to=state, from_states=("running",))
    for ask in ASKS.values():
        with pytest.raises(ValueError, match=sentence):
            ask(db, run.id)
    assert run_wishes.wishes_of(db, run.id) == {}


def test_a_stop_goes_before_wishes_and_people_and_runs_must_exist(db: Database, run: Run) -> None:
    start(db, run)
    runs.request_stop(db, run.id)
    with pytest.raises(ValueError, match="is stopping already"):
        run_wishes.request_pause(db, run.id)
    with pytest.raises(LookupError, match="no user"):
        run_wishes.request_save(db, run.id, by="nobody")
    with pytest.raises(LookupError, match="no run"):
        run_wishes.request_save(db, "nothing")


@pytest.mark.parametrize("state", ["paused", "stopped", "completed", "failed"])
def test_no_wish_outlives_the_attempt_that_came_to_rest(db: Database, run: Run, state: RunState) -> None:
    start(db, run)
    for ask in ASKS.values():
        ask(db, run.id)
    assert list(run_wishes.wishes_of(db, run.id)) == list(run_wishes.WISHES)
    assert runs.move(db, run.id, to=state, from_states=("running",))
    assert run_wishes.wishes_of(db, run.id) == {}


def test_a_run_without_samples_says_so(db: Database, base: Checkpoint) -> None:
    wanted: dict[str, Any] = {"owner_id": "local", "parent_checkpoint_id": base.id}
    run = runs.create_run(db, name="a", config={"samples": 0}, **wanted)
    start(db, run)
    with pytest.raises(ValueError, match="draws no samples"):
        run_wishes.request_sample(db, run.id)
