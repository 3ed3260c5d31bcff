from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image as PILImage

from flowgrpo.runs import layout
from flowgrpo.runs.keeper import WorkerKeeper
from storage import blobs, checkpoints, groups, workers
from storage.engine import Database
from storage.groups import GroupView
from storage.locks import is_held
from storage.models import Checkpoint, ImageGroup
from tests.runs.helpers import SAMPLING, wait_for


@contextmanager
def _working(db: Database) -> Iterator[WorkerKeeper]:
    keeper = WorkerKeeper(db, "cpu")
    try:
        yield keeper
    finally:
        keeper.stop()


def _ended(db: Database, keeper: WorkerKeeper, group: ImageGroup) -> GroupView:
    def view() -> GroupView | None:
        keeper.tick()
        found = groups.get_group(db, group.id)
        return found if found.group.state in ("done", "failed", "canceled") else None

    return wait_for(view, seconds=100.0, what="the end of the group")


def _request(db: Database, base: Checkpoint, num_images: int = 2, **config: object) -> ImageGroup:
    return groups.request_group(
        db, prompt="red hair", checkpoint_id=base.id, config=SAMPLING | config, seeds=list(range(num_images))
    )


def test_a_group_becomes_images_with_scores_and_the_worker_says_what_it_does(
    db: Database, tiny: Checkpoint
) -> None:
    with _working(db) as keeper:
        group = _request(db, tiny)
        view = _ended(db, keeper, group)
        wait_for(lambda: workers.worker_status(db)[0].state == "idle")
        again = _ended(db, keeper, _request(db, tiny))
    assert view.group.state == "done"
    assert [image.image.seed for image in view.images] == [0, 1]
    assert [i.image.sha256 for i in again.images] == [i.image.sha256 for i in view.images]
    for image in view.images:
        with PILImage.open(blobs.path_of(db.home, image.image.sha256)) as png:
            assert png.size == (64, 64)
            assert png.text["parameters"].startswith("red hair\nSteps: 2")
        assert set(image.scores) == {"verifier", "clip", "quality", "diversity"}
        for score in image.scores.values():
            assert (score.value is None) == (score.reason is not None)
        assert image.scores["diversity"].value is not None
    assert not is_held(layout.worker_lock(db.home, "cpu"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"width": 65}, "multiple"),
        ({"num_steps": 0}, "num_steps cannot be used"),
        ({"num_steps": 5000}, "num_steps cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_give_a_sentence(
    db: Database, tiny: Checkpoint, config: dict[str, int], words: str
) -> None:
    from flowgrpo.runs.worker import WEIGHTS, Worker

    worker = Worker(db, "cpu", WEIGHTS)
    claimed = _request(db, tiny, **config)
    wait_for(lambda: groups.claim_group(db, worker.name))
    worker.work(claimed)
    failed = groups.get_group(db, claimed.id).group
    assert failed.state == "failed"
    assert words in (failed.reason or "")


def test_a_base_or_checkpoint_that_is_not_there_gives_a_sentence(db: Database, tiny: Checkpoint) -> None:
    from flowgrpo.runs.worker import WEIGHTS, Worker

    worker = Worker(db, "cpu", WEIGHTS)
    gone = checkpoints.register_base(db, name="gone", source="/nowhere/pipeline", family="sdxl")
    lost = _request(db, gone)
    groups.claim_group(db, worker.name)
    worker.work(lost)
    failed = groups.get_group(db, lost.id).group
    assert "there is no folder /nowhere/pipeline" in (failed.reason or "")


def test_a_worker_killed_in_the_middle_of_a_group_loses_nothing(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWGRPO_FAILPOINT", "worker.turn:1=kill")
    with _working(db) as keeper:
        group = _request(db, tiny)
        keeper.tick()
        first = keeper.pid
        wait_for(lambda: groups.get_group(db, group.id).group.state == "running", what="the claim")
        monkeypatch.delenv("FLOWGRPO_FAILPOINT")
        view = _ended(db, keeper, group)
        assert keeper.pid != first
    assert view.group.state == "done"
    assert len(view.images) == 2


def test_a_group_that_kills_two_workers_is_failed_with_a_sentence(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWGRPO_FAILPOINT", "worker.turn:1=kill")
    with _working(db) as keeper:
        view = _ended(db, keeper, _request(db, tiny))
    assert view.group.state == "failed"
    assert "stopped twice" in (view.group.reason or "")


def test_a_worker_ends_when_its_dispatcher_has_gone_and_gives_its_group_back(
    db: Database, tiny: Checkpoint
) -> None:
    with _working(db) as keeper:
        group = _request(db, tiny, 8, num_steps=150)
        keeper.tick()
        wait_for(lambda: (groups.get_group(db, group.id).group.phase or "").startswith("sampling"))
        assert keeper._worker is not None
        assert keeper._worker.stdin is not None
        keeper._worker.stdin.close()
        wait_for(
            lambda: not is_held(layout.worker_lock(db.home, "cpu")), seconds=15.0, what="the worker's end"
        )
        assert groups.get_group(db, group.id).group.state == "queued"


def test_a_canceled_group_stops_between_two_steps(db: Database, tiny: Checkpoint) -> None:
    with _working(db) as keeper:
        group = _request(db, tiny, 8, num_steps=150)
        keeper.tick()
        wait_for(lambda: (groups.get_group(db, group.id).group.phase or "").startswith("sampling"))
        groups.cancel_group(db, group.id)
        wait_for(lambda: workers.worker_status(db)[0].state == "idle", what="an idle worker")
        assert groups.get_group(db, group.id).group.state == "canceled"
        os.kill(keeper.pid or 0, signal.SIGTERM)
        wait_for(lambda: not is_held(layout.worker_lock(db.home, "cpu")), what="the worker's end")
