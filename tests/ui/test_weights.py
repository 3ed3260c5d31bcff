"""Weights that follow people's votes are what the Train page begins with, and it says whose they are."""

from __future__ import annotations

from flowgrpo.config import DEFAULT_WEIGHTS
from storage import ratings, snapshots
from storage.engine import Database
from storage.models import Checkpoint
from storage.ratings import RatingInput
from tests.ui.conftest import MakeGroup
from tests.ui.test_tuning import form
from ui import tuning, weights
from ui.services import LOCAL_USER, Services


def apply(db: Database, make_group: MakeGroup, fitted: dict[str, float]) -> str:
    view = make_group()
    ratings.rate(db, RatingInput("k", LOCAL_USER, view.group.id, "best", view.images[0].image.id))
    snapshot = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    detail = {"weights": fitted, "annotators": 2, "snapshot_hash": snapshot.hash}
    fit = snapshots.record_fit(
        db,
        kind="weights",
        snapshot_id=snapshot.id,
        version="v",
        detail=detail,
        num_pairs=1234,
        accuracy=0.714,
    )
    assert weights.fitted(db) is None and tuning.preset_form("smoke", db).weights == DEFAULT_WEIGHTS
    snapshots.set_fit_state(db, fit.id, "applied")
    return snapshot.hash


def test_the_form_begins_with_what_was_applied(db: Database, make_group: MakeGroup) -> None:
    snapshot = apply(db, make_group, {"verifier": 2 / 3, "clip": 0.0, "quality": 1 / 3})
    found = weights.fitted(db, tuning.REWARDS)
    assert found is not None and found.weights == {"verifier": 0.6667, "quality": 0.3333}
    assert tuning.preset_form("smoke", db).weights == found.weights
    assert tuning.preset_form("smoke").weights == DEFAULT_WEIGHTS
    assert found.words.startswith(f"These weights follow 1,234 choices of 2 people (snapshot {snapshot[:8]})")
    assert "71% of those" in found.words and "no field" not in found.words


def test_a_reward_without_a_field_is_named(db: Database, make_group: MakeGroup) -> None:
    apply(db, make_group, {"verifier": 0.5, "pickscore": 0.5})
    found = weights.fitted(db, tuning.REWARDS)
    assert found is not None and "no field for pickscore" in found.words


def test_a_run_names_the_fit_that_its_weights_are_from(
    services: Services, db: Database, base: Checkpoint, make_group: MakeGroup
) -> None:
    apply(db, make_group, {"verifier": 2 / 3, "quality": 1 / 3})
    applied = snapshots.applied_fit(db, "weights")
    assert applied is not None
    followed = tuning.start(
        services, base.id, form(weights={"verifier": 0.6667, "quality": 0.3333, "clip": 0})
    )
    assert followed.config["weights_from"] == applied.id
    changed = tuning.start(services, base.id, form(weights={"verifier": 0.6667, "quality": 0.4}))
    assert changed.config["weights_from"] is None
