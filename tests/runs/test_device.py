from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from flowgrpo.runs import device
from flowgrpo.runs.device import Turns, resolve
from storage.locks import GaveUpError

CPU = torch.device("cpu")


def test_a_trainer_gives_way_to_a_waiting_worker_and_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "MIN_TURN_SECONDS", 0.05)
    (tmp_path / "locks").mkdir()
    order: list[str] = []
    trainer, worker = Turns(tmp_path, CPU), Turns(tmp_path, CPU)
    started, served = threading.Event(), threading.Event()

    def work() -> None:
        started.wait(10.0)
        with worker.turn():
            order.append("worker")
        served.set()

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 20.0
    with trainer.turn():
        order.append("trainer")
        started.set()
        while not served.is_set() and time.monotonic() < deadline:
            trainer.give_way()
        order.append("trainer")
    thread.join()
    assert order == ["trainer", "worker", "trainer"]


def test_whoever_is_told_to_stop_while_it_waits_for_the_device_waits_no_longer(tmp_path: Path) -> None:
    holder = Turns(tmp_path, CPU)
    is_asked = threading.Event()
    trainer = Turns(tmp_path, CPU, is_asked.is_set)
    threading.Timer(0.2, is_asked.set).start()
    with holder.turn():
        with pytest.raises(GaveUpError), trainer.turn():
            raise AssertionError("the device was taken")
        is_asked.clear()
        assert not holder._turnstile.is_wanted()
    with trainer.turn():
        pass


def test_a_trainer_that_gave_way_and_is_told_to_stop_waits_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "MIN_TURN_SECONDS", 0.0)
    is_asked, served, done = threading.Event(), threading.Event(), threading.Event()
    trainer, worker = Turns(tmp_path, CPU, is_asked.is_set), Turns(tmp_path, CPU)

    def work() -> None:
        with worker.turn():
            served.set()
            time.sleep(0.1)
            is_asked.set()
            done.wait(10.0)

    thread = threading.Thread(target=work)

    def give_way_until_told() -> None:
        with trainer.turn():
            thread.start()
            while True:
                trainer.give_way()
                if served.is_set():
                    raise AssertionError("the trainer went on while the worker had the device")

    with pytest.raises(GaveUpError):
        give_way_until_told()
    done.set()
    thread.join()


def test_without_anybody_waiting_a_turn_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "MIN_TURN_SECONDS", 0.0)
    (tmp_path / "locks").mkdir()
    turns = Turns(tmp_path, CPU)
    with turns.turn():
        taken_at = turns._since
        turns.give_way()
        assert turns._since == taken_at


def test_auto_is_a_gpu_where_there_is_one_and_a_missing_one_gives_a_sentence() -> None:
    assert resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(LookupError, match="there is no device cuda:99"):
        resolve("cuda:99")
