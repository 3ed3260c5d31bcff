from __future__ import annotations

import pytest

from flowgrpo.runs.local import dispatching, follow_groups, follow_run
from storage import groups
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.runs.helpers import SAMPLING, assert_all_gone, fake


def test_a_run_is_followed_to_its_end(db: Database, run: Run) -> None:
    with dispatching(db, devices=(), trainer=fake("done")):
        states = [status.state for status in follow_run(db, run.id)]
        assert_all_gone(db, run)
    assert states[-1] == "completed"
    assert len(states) == len(set(states))


def test_a_failed_run_is_followed_to_its_reason(db: Database, run: Run) -> None:
    with dispatching(db, devices=(), trainer=fake("crash")):
        *_, last = follow_run(db, run.id)
        assert_all_gone(db, run)
    assert last.state == "failed"
    assert "fell over" in (last.reason or "")


def test_a_run_that_pauses_is_followed_until_then(db: Database, run: Run) -> None:
    with dispatching(db, devices=(), trainer=fake("74")):
        *_, last = follow_run(db, run.id)
        assert_all_gone(db, run)
    assert last.state == "paused"


def test_following_groups_ends_when_none_is_left_in_work(db: Database, base: Checkpoint) -> None:
    made = [
        groups.request_group(db, prompt="red hair", checkpoint_id=base.id, config=SAMPLING, seeds=[seed])
        for seed in range(2)
    ]
    groups.cancel_group(db, made[0].id)
    groups.fail_group(db, made[1].id, "The engine is on fire.")
    (status,) = follow_groups(db, [group.id for group in made])
    assert (status.done, status.failed, status.total) == (0, 2, 2)
    assert status.reasons == ("The engine is on fire.",)


def test_following_what_is_not_there_is_refused(db: Database) -> None:
    with pytest.raises(LookupError, match="there is no run"):
        next(follow_run(db, "nobody"))
