"""What ratings teach, on the Train page: seen, used, taken back."""

from __future__ import annotations

import uuid

import pytest

from flowgrpo.preferences.head import MIN_PAIRS
from storage import jobs, ratings, runs, snapshots
from storage.engine import Database
from storage.models import Checkpoint
from storage.models_judging import FitKind, PreferenceFit
from storage.ratings import RatingInput
from tests.ui.conftest import MakeGroup
from ui import teaching, tuning, weights
from ui.forms import Refused
from ui.services import LOCAL_USER, Services


@pytest.fixture
def snapshot(db: Database, make_group: MakeGroup) -> str:
    view = make_group()
    said = RatingInput(str(uuid.uuid4()), LOCAL_USER, view.group.id, "best", view.images[0].image.id)
    ratings.rate(db, said)
    return snapshots.take_snapshot(db, snapshots.standing_votes(db)).id


def fit_of(db: Database, snapshot: str, kind: FitKind, **detail: object) -> PreferenceFit:
    taken = snapshots.get_snapshot(db, snapshot)
    return snapshots.record_fit(
        db, kind=kind, snapshot_id=snapshot, version="v", num_pairs=140, accuracy=0.71, low=0.62, high=0.79,
        baseline=0.58, detail={"annotators": 1, "snapshot_hash": taken.hash, **detail},
    )  # fmt: skip


def test_nothing_is_told_before_somebody_has_rated(db: Database, make_group: MakeGroup) -> None:
    make_group()
    assert teaching.teaching_html(db) == ""


def test_a_fit_is_shown_with_its_votes_and_can_be_used_and_taken_back(
    services: Services, db: Database, base: Checkpoint, snapshot: str
) -> None:
    left_out = {"pickscore": "it has scores on 3 of 40 rated groups"}
    fit = fit_of(db, snapshot, "weights", weights={"verifier": 0.6, "clip": 0.0}, left_out=left_out)
    line = teaching.weights_of(db)
    assert line.words.startswith("Proposed: verifier 0.6. Foresees 71% (62 to 79%) of choices")
    assert "140 comparisons, snapshot" in line.words and "in use then: 58%" in line.words
    assert line.notes == ["pickscore is left out: it has scores on 3 of 40 rated groups."]
    assert ("apply", fit.id, "Use") in line.buttons
    teaching.acted(services, "apply", fit.id, base.id)
    found = weights.fitted(db, tuning.REWARDS)
    assert found is not None and found.weights == {"verifier": 0.6}
    assert ("withdraw", fit.id, "Take back") in teaching.weights_of(db).buttons
    teaching.acted(services, "withdraw", fit.id, base.id)
    assert weights.fitted(db) is None
    assert teaching.weights_of(db).words.startswith("Taken back:")


def test_a_head_below_its_fifty_comparisons_says_that_it_is_silent(db: Database, snapshot: str) -> None:
    fit_of(db, snapshot, "head")
    assert teaching.head_of(db).notes == []
    taken = snapshots.get_snapshot(db, snapshot)
    snapshots.record_fit(
        db, kind="head", snapshot_id=snapshot, version="w", num_pairs=21,
        detail={"snapshot_hash": taken.hash, "why": "Its votes were taken back."},
    )  # fmt: skip
    assert teaching.head_of(db).notes == [
        "It is silent until it has 50 comparisons.", "Its votes were taken back.",
    ]  # fmt: skip


def test_the_page_and_the_head_agree_on_when_it_speaks() -> None:
    assert teaching.MIN_PAIRS == MIN_PAIRS


def test_a_fit_is_asked_for_once_and_says_how_it_goes(
    services: Services, db: Database, base: Checkpoint, snapshot: str
) -> None:
    for _ in range(2):
        teaching.acted(services, "fit", "head", base.id)
    (job,) = jobs.recent_jobs(db, "fit_head")
    line = teaching.head_of(db)
    assert line.notes == ["Fitting: waits for the engine."] and not line.buttons
    jobs.cancel_job(db, job.id)
    assert teaching.head_of(db).buttons == [("fit", "head", "Fit")]
    assert 'data-act="fit" data-id="weights"' in teaching.teaching_html(db)


def test_a_click_starts_a_run_from_the_ratings_alone(
    services: Services, db: Database, base: Checkpoint, snapshot: str
) -> None:
    run = teaching.acted(services, "learn", "", base.id)
    assert run is not None and runs.get_run(db, run.id).state == "queued"
    assert run.config["ratings"]["snapshot"] == snapshot and run.config["algorithm"]["name"] == "nft"


@pytest.mark.parametrize(("act", "target"), [("apply", "no-such-fit"), ("dance", "")])
def test_a_click_on_what_is_not_there_changes_nothing(
    services: Services, base: Checkpoint, snapshot: str, act: str, target: str
) -> None:
    with pytest.raises((LookupError, Refused)):
        teaching.acted(services, act, target, base.id)
