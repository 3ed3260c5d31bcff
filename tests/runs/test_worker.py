from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image as PILImage

from flowgrpo.runs import layout
from flowgrpo.runs.keeper import WorkerKeeper
from flowgrpo.runs.local import follow_groups
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import blobs, checkpoints, groups, workers
from storage.engine import Database
from storage.groups import GroupView
from storage.locks import is_held
from storage.models import Checkpoint, ImageGroup
from tests.runs.helpers import SAMPLING, wait_for

IDLE = (sys.executable, "-S", "-c", "import sys; sys.stdin.read()")
"""A worker that never works."""


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

    return wait_for(view, seconds=200.0, what="the end of the group")


def _request(db: Database, base: Checkpoint, num_images: int = 2, **config: object) -> ImageGroup:
    return groups.request_group(
        db, prompt="red hair", checkpoint_id=base.id, config=SAMPLING | config, seeds=list(range(num_images))
    )


def _phase(db: Database, group: ImageGroup) -> str:
    return groups.get_group(db, group.id).group.phase or ""


def test_a_worker_draws_and_scores_stops_for_a_cancel_and_ends_with_its_dispatcher(
    db: Database, tiny: Checkpoint
) -> None:
    with _working(db) as keeper:
        view = _ended(db, keeper, _request(db, tiny))
        assert view.group.state == "done"
        assert [image.image.seed for image in view.images] == [0, 1]
        for image in view.images:
            with PILImage.open(blobs.path_of(db.home, image.image.sha256)) as png:
                assert png.size == (64, 64)
                assert png.info["parameters"].startswith("red hair\nSteps: 2")
            assert set(image.scores) == {"verifier", "clip", "quality", "diversity"}
            assert all((s.value is None) == (s.reason is not None) for s in image.scores.values())
            assert image.scores["diversity"].value is not None
        again = _ended(db, keeper, _request(db, tiny))
        assert [i.image.sha256 for i in again.images] == [i.image.sha256 for i in view.images]

        canceled = _request(db, tiny, 16, num_steps=150)
        wait_for(lambda: _phase(db, canceled).startswith("sampling step"), what="sampling")
        groups.cancel_group(db, canceled.id)
        wait_for(lambda: workers.worker_status(db)[0].state == "idle", what="an idle worker")
        assert groups.get_group(db, canceled.id).group.state == "canceled"

        interrupted = _request(db, tiny, 16, num_steps=150)
        wait_for(lambda: _phase(db, interrupted).startswith("sampling step"), what="sampling")
        keeper.stop()
        assert not is_held(layout.worker_lock(db.home, "cpu"))
        assert groups.get_group(db, interrupted.id).group.state == "queued"
        (beat,) = workers.worker_status(db)
        assert (beat.state, beat.detail) == ("stopped", "")


def test_a_worker_killed_in_the_middle_of_a_group_loses_nothing(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILPOINT", "worker.drawn:kill")
    with _working(db) as keeper:
        group = _request(db, tiny, 20)
        keeper.tick()
        monkeypatch.delenv("FAILPOINT")
        wait_for(lambda: groups.get_group(db, group.id).images, seconds=200.0, what="the first images")
        before = [view.image.id for view in groups.get_group(db, group.id).images]
        view = _ended(db, keeper, group)
    assert 0 < len(before) < 20
    assert view.group.state == "done"
    assert view.group.claims == 2
    assert [image.image.id for image in view.images][: len(before)] == before
    assert len(view.images) == 20


def test_a_group_whose_worker_dies_twice_is_failed_with_a_sentence(db: Database, base: Checkpoint) -> None:
    keeper = WorkerKeeper(db, "cpu", IDLE)
    group = _request(db, base)
    for state in ("queued", "failed"):
        keeper.tick()
        assert keeper._worker is not None
        groups.claim_group(db, keeper.worker_id)
        keeper._worker.kill()
        keeper._worker.wait()
        keeper.tick()
        keeper._next_start = 0.0
        keeper.tick()
        assert groups.get_group(db, group.id).group.state == state
    keeper.stop()
    assert "stopped twice" in (groups.get_group(db, group.id).group.reason or "")
    assert "ended by SIGKILL" in workers.worker_status(db)[0].detail


def test_a_group_whose_worker_is_asked_to_end_however_often_is_not_blamed(
    db: Database, base: Checkpoint
) -> None:
    group = _request(db, base)
    for _ in range(4):
        keeper = WorkerKeeper(db, "cpu", IDLE)
        keeper.tick()
        groups.claim_group(db, keeper.worker_id)
        keeper.stop()
        assert groups.get_group(db, group.id).group.state == "queued"


def test_a_worker_that_cannot_be_started_leaves_its_lock_free(db: Database, base: Checkpoint) -> None:
    keeper = WorkerKeeper(db, "cpu", ("/nowhere/python",))
    with pytest.raises(OSError, match="nowhere"):
        keeper.tick()
    assert not is_held(layout.worker_lock(db.home, "cpu"))
    keeper.command = IDLE
    keeper.tick()
    assert keeper.pid is not None
    keeper.stop()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"width": 66}, "multiple"),
        ({"num_steps": 0}, "num_steps cannot be used"),
        ({"x": 1}, "x cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_give_a_sentence(
    db: Database, tiny: Checkpoint, config: dict[str, int], words: str
) -> None:
    reason = _refused(db, _request(db, tiny, **config))
    assert words in reason


def test_a_base_that_is_gone_gives_a_sentence(db: Database) -> None:
    gone = checkpoints.register_base(db, name="gone", source="/nowhere/pipeline", family="sdxl")
    assert "there is no folder /nowhere/pipeline" in _refused(db, _request(db, gone))


def _refused(db: Database, group: ImageGroup) -> str:
    worker = Worker(db, "cpu", WEIGHTS)
    claimed = groups.claim_group(db, worker.name)
    assert claimed is not None
    worker.work(claimed)
    worker.beacon.end()
    *_, status = follow_groups(db, [group.id])
    assert (status.done, status.failed) == (0, 1)
    return status.reasons[0]
