"""A device that falls away ends its run with a sentence, and the runs that wait are not sent after it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from flowgrpo.runs import device_probe, exits, train
from flowgrpo.runs.bad_device import DeviceWatch
from flowgrpo.runs.dispatcher import Dispatcher
from storage import runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.runs.helpers import fake, state_of, wait_for

FAILS, PASSES, HANGS = ("false",), ("true",), ("sleep", "600")


def another(db: Database, base: Checkpoint) -> Run:
    return runs.create_run(db, name="b", owner_id="local", parent_checkpoint_id=base.id, config={})


def test_the_next_run_waits_until_the_device_answers(db: Database, base: Checkpoint, run: Run) -> None:
    dispatcher = Dispatcher(db, devices=(), trainer=fake(str(exits.NO_DEVICE)))
    watch = dispatcher.device_watch
    watch.probe, watch.again_seconds = FAILS, 0.1
    waiting = another(db, base)
    dispatcher.start()
    try:
        wait_for(lambda: state_of(db, run) == "failed", what="the run that lost its device")
        assert "69" in (runs.get_run(db, run.id).reason or "")
        wait_for(lambda: watch.is_bad() and watch._next > 0, what="a probe")
        threading.Event().wait(2.0)
        assert state_of(db, waiting) == "queued"
        watch.probe = PASSES
        wait_for(lambda: state_of(db, waiting) == "failed", what="its start, which loses the device as well")
    finally:
        dispatcher.stop()


def test_any_other_end_holds_nobody_up(db: Database, base: Checkpoint, run: Run) -> None:
    dispatcher = Dispatcher(db, devices=(), trainer=fake(str(exits.REWARDS_FAILED)))
    dispatcher.device_watch.probe = FAILS
    waiting = another(db, base)
    dispatcher.start()
    try:
        wait_for(lambda: state_of(db, waiting) == "failed", what="both runs")
    finally:
        dispatcher.stop()
    assert dispatcher.device_watch._asking is None


def test_a_probe_that_hangs_is_given_up_and_tried_again(db: Database, run: Run) -> None:
    runs.claim_run(db, host="here", boot_id="boot")
    runs.end_attempt(db, run.id, 1, exit_code=exits.NO_DEVICE)
    watch = DeviceWatch(db, "here", HANGS, again_seconds=0.2)
    assert watch.is_bad()
    first = watch._asking
    assert first is not None
    wait_for(lambda: watch.is_bad() and watch._asking not in (None, first), what="another probe")
    assert first.poll() is not None
    watch.probe = PASSES
    wait_for(lambda: not watch.is_bad(), what="an answer")
    assert not DeviceWatch(db, "elsewhere", FAILS).is_bad()
    watch.stop()


def test_the_probe_computes_and_takes_no_cpu_for_a_gpu_that_is_gone(tmp_path: Path) -> None:
    assert device_probe.computes("cpu")
    assert not device_probe.computes("cuda:99")
    assert not device_probe.computes("nonsense")
    (tmp_path / "0000:01:00.0").mkdir()
    assert device_probe.computes("auto", tmp_path) == torch.cuda.is_available()
    assert device_probe.computes("auto", tmp_path / "no driver")


def test_a_device_that_is_not_there_or_stops_answering_is_no_fault_of_the_settings(
    db: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(exits.EndedError, match="this machine has") as ended:
        train.run_attempt(db.home, run.id, "cuda:99", Path(), threading.Event())
    assert ended.value.code == exits.NO_DEVICE

    def falls_away(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be")

    monkeypatch.setattr(train, "_train", falls_away)
    with pytest.raises(exits.EndedError, match=r"stopped answering.*unspecified launch failure\)$") as ended:
        train.run_attempt(db.home, run.id, "cpu", Path(), threading.Event())
    assert ended.value.code == exits.NO_DEVICE
