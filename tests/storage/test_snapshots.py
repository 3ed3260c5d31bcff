"""A snapshot names the very votes that something learned from, and what was learned can be taken back."""

from __future__ import annotations

import pytest

from storage import groups, judged, offers, ratings, snapshots
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from storage.models_judging import FitKind, PreferenceFit, VoteSnapshot
from storage.ratings import RatingInput
from tests.storage.records import finished_group


def rate(db: Database, group: GroupView, key: str, index: int) -> None:
    ratings.rate(db, RatingInput(key, "local", group.group.id, "best", group.images[index].image.id))


def snapshot(db: Database) -> VoteSnapshot:
    return snapshots.take_snapshot(db, snapshots.standing_votes(db))


def fit(db: Database, kind: FitKind = "weights") -> PreferenceFit:
    detail = {"clip": 0.5}
    return snapshots.record_fit(
        db, kind=kind, snapshot_id=snapshot(db).id, version="v", detail=detail, num_pairs=7
    )


def test_the_same_votes_are_the_same_snapshot_and_one_more_is_another(db: Database, group: GroupView) -> None:
    rate(db, group, "one-key", 0)
    first, again = snapshot(db), snapshot(db)
    assert (first.id, first.hash) == (again.id, again.hash)
    rate(db, group, "two-key", 1)
    assert snapshot(db).hash != first.hash


def test_a_snapshot_still_names_votes_that_were_undone_later(db: Database, group: GroupView) -> None:
    rate(db, group, "one-key", 0)
    frozen = snapshot(db)
    ratings.undo(db, "local", "undo-key")
    assert snapshots.standing_votes(db) == []
    assert [vote.client_key for vote in snapshots.votes_of(db, frozen.id)] == ["one-key"]


def test_votes_are_frozen_by_their_numbers_too_those_that_were_taken_back_among_them(
    db: Database, group: GroupView
) -> None:
    rate(db, group, "one-key", 0)
    frozen = snapshot(db)
    ratings.undo(db, "local", "undo-key")
    rate(db, group, "two-key", 1)
    assert snapshots.snapshot_of(db, frozen.events).id == frozen.id
    with pytest.raises(ValueError, match="rate some groups first"):
        snapshots.snapshot_of(db, [])


def test_no_votes_are_nothing_to_learn_from(db: Database) -> None:
    with pytest.raises(ValueError, match="rate some groups first"):
        snapshots.take_snapshot(db, [])


def test_of_one_kind_one_fit_is_applied_and_it_can_be_taken_back(db: Database, group: GroupView) -> None:
    rate(db, group, "one-key", 0)
    first, second = fit(db), fit(db)
    snapshots.set_fit_state(db, first.id, "applied")
    snapshots.set_fit_state(db, second.id, "applied")
    applied = snapshots.applied_fit(db, "weights")
    assert applied is not None and applied.id == second.id
    assert [one.state for one in snapshots.fits(db, "weights")] == ["applied", "withdrawn"]
    snapshots.set_fit_state(db, second.id, "withdrawn")
    assert snapshots.applied_fit(db, "weights") is None


def test_what_a_head_said_of_open_groups_goes_when_it_is_withdrawn_and_stays_when_a_newer_one_follows(
    db: Database, base: Checkpoint, group: GroupView
) -> None:
    rate(db, group, "one-key", 0)
    first, second, weights = fit(db, "head"), fit(db, "head"), fit(db)
    open_ones = [finished_group(db, base).group.id for _ in range(2)]
    ranking: dict[str, float | None] = dict(zip(open_ones, (0.9, 0.1), strict=True))

    def priorities() -> list[float | None]:
        return [groups.get_group(db, one).group.priority for one in open_ones]

    snapshots.set_fit_state(db, first.id, "applied")
    assert judged.set_priorities(db, ranking, first.id) and priorities() == [0.9, 0.1]
    snapshots.set_fit_state(db, second.id, "applied")
    snapshots.set_fit_state(db, weights.id, "applied")
    snapshots.set_fit_state(db, weights.id, "withdrawn")
    assert priorities() == [0.9, 0.1]
    snapshots.set_fit_state(db, second.id, "withdrawn")
    assert priorities() == [None, None]
    with db.read() as session:
        offered = offers.likely(session, "local", (), 2)
    assert offered == open_ones[::-1]  # the newest first, as without a head
    assert not judged.set_priorities(db, ranking, second.id) and priorities() == [None, None]
    snapshots.set_fit_state(db, second.id, "applied")
    assert judged.set_priorities(db, ranking, second.id)
    snapshots.set_fit_state(db, first.id, "applied")  # an older one, of which this is no ranking
    assert priorities() == [None, None]


def test_votes_are_counted_whatever_became_of_them(db: Database, group: GroupView) -> None:
    rate(db, group, "one-key", 0)
    ratings.undo(db, "local", "undo-key")
    assert snapshots.num_votes(db) == 2
