"""A blind test that lacks images is a job; the test has the job's id, and who judged it is told."""

from __future__ import annotations

import pytest

from storage import audit, blind, blind_pairs, blind_requests, jobs
from storage.engine import Database
from storage.models import BaseModel, Checkpoint, User
from tests.storage.records import CONFIG, finished_group


@pytest.fixture
def payload(db: Database, base: Checkpoint) -> dict[str, object]:
    with db.write() as session:
        session.add(
            Checkpoint(id="tuned", base_model_id=base.base_model_id, name="tuned", path="p", update=1)
        )
        session.add(User(id="ann", name="Ann", role="annotator"))
    return {"checkpoints": [base.id, "tuned"], "prompts": ["red hair"], "seeds": [0, 1], "config": CONFIG}


def make(db: Database, payload: dict[str, object], test_id: str) -> str:
    given = {
        "checkpoint_ids": payload["checkpoints"],
        **{k: payload[k] for k in ("prompts", "seeds", "config")},
    }
    return blind.create_blind_test(db, test_id=test_id, **given).id  # type: ignore[arg-type]


def drawn(db: Database, base: Checkpoint) -> None:
    for checkpoint_id in (base.id, "tuned"):
        finished_group(db, Checkpoint(id=checkpoint_id), "red hair")


def test_a_request_waits_until_its_test_is_there_and_makes_it_once(
    db: Database, base: Checkpoint, payload: dict[str, object]
) -> None:
    job = blind_requests.request_blind_test(db, payload)
    assert [one.id for one in blind_requests.waiting(db)] == [job.id]
    drawn(db, base)
    assert make(db, payload, job.id) == make(db, payload, job.id) == job.id
    assert len(blind.list_tests(db)) == 1 and blind.counts(db, job.id) == (0, 2)
    assert blind_requests.waiting(db) == []


def test_a_request_that_can_never_be_a_test_is_refused_at_once(
    db: Database, payload: dict[str, object]
) -> None:
    with db.write() as session:
        session.add(BaseModel(id="b2", name="other", source="s", family="sdxl"))
        session.flush()
        session.add(Checkpoint(id="foreign", base_model_id="b2", name="foreign", path=None))
        session.add(
            Checkpoint(id="gone", base_model_id="b2", name="gone", path="p", state="pruned", update=2)
        )
    with pytest.raises(ValueError, match="different bases"):
        blind_requests.request_blind_test(db, payload | {"checkpoints": ["tuned", "foreign"]})
    with pytest.raises(LookupError, match="pruned"):
        blind_requests.request_blind_test(db, payload | {"checkpoints": ["foreign", "gone"]})
    with pytest.raises(ValueError, match="2 to 8 different checkpoints"):
        blind_requests.request_blind_test(db, payload | {"checkpoints": ["tuned"]})
    assert jobs.recent_jobs(db, blind_requests.KIND) == []


def test_judges_are_told_with_what_they_judged_and_skipped_and_a_reveal_is_noted(
    db: Database, base: Checkpoint, payload: dict[str, object]
) -> None:
    drawn(db, base)
    test_id = make(db, payload, "0" * 36)
    pairs = blind.next_pairs(db, test_id, "ann", 5)
    assert blind.next_pair(db, test_id, "ann") == pairs[0]
    for number, (pair, answer) in enumerate(zip(pairs, ("left", "skip"), strict=True)):
        blind.vote(db, client_key=f"k{number}", pair_id=pair.pair_id, annotator_id="ann", answer=answer)  # type: ignore[arg-type]
    assert [(one.name, one.judged, one.skipped) for one in blind.judges(db, test_id)] == [("Ann", 1, 1)]
    blind.undo(db, client_key="u", test_id=test_id, annotator_id="ann")
    assert [(one.judged, one.skipped) for one in blind.judges(db, test_id)] == [(1, 0)]
    blind.reveal(db, test_id, "local")
    blind.reveal(db, test_id, "local")
    assert [entry.act for entry in audit.latest(db)] == ["blind_test.reveal"]


def test_a_test_has_one_picture_of_each_checkpoint_and_prompt(
    db: Database, base: Checkpoint, payload: dict[str, object]
) -> None:
    drawn(db, base)
    test_id = make(db, payload, "1" * 36)
    with db.read() as session:
        found = blind_pairs.pictures_of(session, test_id)
    assert set(found) == {(base.id, "red hair"), ("tuned", "red hair")}
