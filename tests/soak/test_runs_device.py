"""The device between the real engine and a real run, on a CPU that has one resident at a time like a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowgrpo.runs import layout, residence
from flowgrpo.runs.dispatcher import Dispatcher
from storage import groups, runs, users, workers
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import SAMPLING, new_run, state_of, wait_for
from ui.queue import queue_html
from ui.services import Services


@pytest.fixture
def with_engine(db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Dispatcher]:
    """A studio's engine on a CPU that is treated like a GPU."""
    monkeypatch.setenv(residence.SHARE_VARIABLE, "0")
    monkeypatch.setenv(residence.FOLDER_VARIABLE, str(tmp_path / "devices"))
    started = Dispatcher(db, devices=("cpu",)).start()
    yield started
    started.stop()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("with_engine")
def test_an_engine_gives_its_device_up_before_a_run_has_it_and_takes_it_again_afterwards(
    db: Database, tiny: Checkpoint, figure: Callable[[str, str], None]
) -> None:
    """The real worker and the real trainer, without room for both."""
    services = Services(db)
    me = users.get_user(db, "local")
    _drawn(db, _group(db, tiny))
    layout.engine_memory(db.home, "cpu-0").write_text(str(2**50))
    run = new_run(db, tiny, num_updates=400, samples=0, checkpoint_every=400)
    asked = time.monotonic()
    wait_for(lambda: _has_begun(db, run.id), seconds=200.0, what="the run to have the device")
    begun = time.monotonic() - asked
    wait_for(lambda: _engine(db) == "waits for run 1, which has the device", what="the engine to say so")
    waiting = _group(db, tiny)
    assert "has the device to itself" in queue_html(services, me)
    time.sleep(1.0)
    assert groups.get_group(db, waiting).group.state == "queued"
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", what="the end of the run")
    _drawn(db, waiting)
    figure(
        "the engine gives its device up to a run and takes it again",
        f"first update {begun:.0f} s after the request, group drawn after the run",
    )


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("with_engine")
def test_an_engine_that_has_room_joins_the_run_and_draws_between_its_steps(
    db: Database, tiny: Checkpoint, figure: Callable[[str, str], None]
) -> None:
    _drawn(db, _group(db, tiny))
    run = new_run(db, tiny, num_updates=4000, samples=0, checkpoint_every=4000)
    wait_for(lambda: _has_begun(db, run.id), seconds=200.0, what="the run to have the device")
    begun = time.monotonic()
    _drawn(db, _group(db, tiny))
    joined = time.monotonic() - begun
    assert state_of(db, run) == "running"
    figure("an engine joins a run where there is room", f"drawn {joined:.0f} s after the first update")
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", what="the end of the run")
    _drawn(db, _group(db, tiny))


def _group(db: Database, base: Checkpoint) -> str:
    return groups.request_group(
        db, prompt="red hair", checkpoint_id=base.id, config=SAMPLING, seeds=[1, 2]
    ).id


def _drawn(db: Database, group: str) -> None:
    wait_for(lambda: groups.get_group(db, group).group.state == "done", seconds=200.0, what="a drawn group")


def _has_begun(db: Database, run_id: str) -> bool:
    beat = runs.beat_of(db, run_id)
    return beat is not None and beat.update > 0


def _engine(db: Database) -> str:
    return next((one.detail for one in workers.worker_status(db)), "")
