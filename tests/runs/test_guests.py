"""An engine as the guest of a run: in where there is room, out as soon as the run needs all of the device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flowgrpo.policies import Policy
from flowgrpo.rewards.base import ScoreBatch, ScoreResult, scored
from flowgrpo.runs import residence, room, train
from flowgrpo.runs.device import identity
from flowgrpo.runs.residence import Residence
from flowgrpo.runs.room import Room
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import groups
from storage.engine import Database
from storage.locks import GaveUpError
from storage.models import Checkpoint
from tests.given import Given
from tests.runs.helpers import SAMPLING, begin, new_run, wait_for
from tests.runs.test_trainer import brightness, said, trainer_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(residence.FOLDER_VARIABLE, str(tmp_path / "devices"))


def never() -> bool:
    return False


def always() -> bool:
    return True


def tries(home: Residence, has_room: Callable[[], bool]) -> bool:
    """Whether an engine gets in now."""
    try:
        home.take(always, has_room=has_room)
    except GaveUpError:
        return False
    return True


def test_an_engine_joins_a_run_that_lets_guests_in_where_it_has_room_and_not_before() -> None:
    run, engine = Residence("cuda:0"), Residence("cuda:0")
    run.take(never, is_urgent=True)
    assert not tries(engine, always)
    run.let_in()
    assert not tries(engine, never)
    assert tries(engine, always)
    assert not engine.is_wanted()
    assert not tries(Residence("cuda:0"), always)  # one guest at a time
    run.leave()
    assert not tries(Residence("cuda:0"), always)  # who was a guest has the device now
    engine.leave()
    assert tries(engine, never)
    engine.leave()


def goes_when_wanted(guest: Residence) -> threading.Thread:
    def go() -> None:
        wait_for(guest.is_wanted, what="the guest to be asked")
        guest.leave()

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return thread


def test_a_run_that_needs_all_of_the_device_sends_its_guest_away_and_lets_nobody_in_again() -> None:
    run, engine = Residence("cuda:0"), Residence("cuda:0")
    run.take(never, is_urgent=True)
    assert not run.send_away(never)  # nobody was in
    run.let_in()
    assert tries(engine, always)
    thread = goes_when_wanted(engine)
    assert run.send_away(never)
    thread.join()
    run.let_in()
    assert not tries(engine, always)
    run.leave()


def test_a_shortage_with_nobody_beside_keeps_nobody_out() -> None:
    run, engine = Residence("cuda:0"), Residence("cuda:0")
    run.take(never, is_urgent=True)
    run.let_in()
    assert not run.send_away(never)
    assert not tries(engine, always)
    run.let_in()
    assert tries(engine, always)
    engine.leave()
    run.leave()


def test_the_next_run_sends_away_a_guest_that_outlived_the_last_one() -> None:
    run, engine, following = (Residence("cuda:0") for _ in range(3))
    run.take(never, is_urgent=True)
    run.let_in()
    assert tries(engine, always)
    run.leave()
    thread = goes_when_wanted(engine)
    following.take(never, is_urgent=True)
    thread.join()
    assert not tries(engine, always)
    following.leave()


def test_while_a_run_waits_for_the_device_no_engine_joins_the_one_that_has_it() -> None:
    run, following, engine = (Residence("cuda:0") for _ in range(3))
    run.take(never, is_urgent=True)
    run.let_in()
    waits = threading.Thread(target=lambda: following.take(never, is_urgent=True), daemon=True)
    waits.start()
    wait_for(run.is_wanted, what="the second run to ask")
    assert not tries(engine, always)
    run.leave()
    waits.join()
    following.leave()


def test_a_run_asked_to_stop_while_its_guest_stays_gives_up_waiting() -> None:
    run, engine = Residence("cuda:0"), Residence("cuda:0")
    run.take(never, is_urgent=True)
    run.let_in()
    assert tries(engine, always)
    with pytest.raises(GaveUpError):
        run.send_away(always)
    assert not engine.is_wanted()
    engine.leave()
    run.leave()


def test_memory_that_runs_out_beside_a_guest_sends_it_away_and_makes_no_piece_smaller(
    db: Database, tiny: Checkpoint
) -> None:
    lone = {"reward_weights": {"verifier": 1.0}, "samples": 0, "checkpoint_every": 2}
    run = begin(db, new_run(db, tiny, **lone, num_updates=4))
    home, engine, going = Residence("cuda:0"), Residence("cuda:0"), list[threading.Thread]()
    home.take(never, is_urgent=True)

    def answer(batch: ScoreBatch) -> ScoreResult:
        if trainer.position.update == 1 and tries(engine, always):
            going.append(goes_when_wanted(engine))
        if going and engine._beside.is_mine:
            raise torch.OutOfMemoryError("tried to allocate 2 GiB")
        return scored(brightness(batch))

    trainer = trainer_of(db, run, verifier=Given(answer, "verifier"))
    trainer.residence = home
    trainer.train()
    going[0].join()
    assert (trainer.position.update, trainer.position.shortages, trainer.position.cuts) == (4, 0, 0)
    assert "beside the engine, which has made room" in said(db, run)[-1]
    assert not tries(engine, always)
    home.leave()


def test_a_reward_that_runs_out_in_its_own_process_sends_the_guest_away(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, reward_weights={"verifier": 1.0}, samples=0))
    trainer = trainer_of(db, run, verifier=Given(lambda batch: scored(brightness(batch)), "verifier"))
    home, engine = Residence("cuda:0"), Residence("cuda:0")
    home.take(never, is_urgent=True)
    assert not train.make_room(trainer, home)  # it has all of the device, and no more to give
    home.let_in()
    assert tries(engine, always)
    thread = goes_when_wanted(engine)
    assert train.make_room(trainer, home)
    thread.join()
    assert "The engine has made room" in said(db, run)[-1]
    home.leave()


def test_a_guest_that_runs_out_of_memory_leaves_and_its_group_waits_for_more_room(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(residence.SHARE_VARIABLE, "0")
    cpu = torch.device("cpu")
    run = Residence("cpu", identity(cpu))
    run.take(never, is_urgent=True)
    run.let_in()
    Room(db.home, cpu).note()
    monkeypatch.setattr(room, "free_bytes", lambda _: (2**50, 2**50))
    worker = Worker(db, "cpu", WEIGHTS)
    assert worker.residence.is_guest
    need = worker.room.need()

    def no_memory(_: Checkpoint) -> Policy:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr(worker.shelf, "get", no_memory)
    group = groups.request_group(
        db, prompt="red hair", checkpoint_id=tiny.id, config=dict(SAMPLING), seeds=[0, 1]
    )
    claimed = groups.claim_group(db, worker.name)
    assert claimed is not None
    worker.work(claimed)
    assert groups.get_group(db, group.id).group.state == "queued"
    assert worker.must_go()
    assert worker.room.need() >= 1.5 * need
    worker.residence.leave()
    run.leave()
