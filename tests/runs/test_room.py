"""An engine fits in beside a run where the device has free what engines took before, and more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.runs import layout, room
from flowgrpo.runs.device import identity
from flowgrpo.runs.room import Room, free_bytes

CPU = torch.device("cpu")
GIB = 2**30


def asked(home: Path) -> bool:
    return Room(home, CPU).is_there()


def test_an_engine_that_never_worked_here_does_not_know_its_need_and_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not asked(tmp_path)
    Room(tmp_path, CPU).note()
    monkeypatch.setattr(room, "free_bytes", lambda _: (2**50, 2**50))
    assert asked(tmp_path)


def test_there_is_room_for_the_need_and_a_margin_and_for_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need, total = 3 * GIB, 16 * GIB
    layout.engine_memory(tmp_path, identity(CPU)).parent.mkdir(parents=True)
    layout.engine_memory(tmp_path, identity(CPU)).write_text(str(need))
    for free, fits in ((need + 2 * GIB, True), (need + 2 * GIB - 1, False)):
        monkeypatch.setattr(room, "free_bytes", lambda _, free=free: (free, total))
        assert asked(tmp_path) is fits
    monkeypatch.setattr(room, "free_bytes", lambda _: (need + 7 * GIB, 80 * GIB))
    assert not asked(tmp_path)  # a tenth of a large device
    monkeypatch.setattr(room, "free_bytes", lambda _: None)
    assert not asked(tmp_path)


def test_the_most_that_was_ever_taken_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for taken in (5 * GIB, 3 * GIB, 7 * GIB, 1 * GIB):
        monkeypatch.setattr(room, "taken_bytes", lambda _, taken=taken: taken)
        Room(tmp_path, CPU).note()
    assert Room(tmp_path, CPU).need() == 7 * GIB
    layout.engine_memory(tmp_path, identity(CPU)).write_text("nonsense")
    assert Room(tmp_path, CPU).need() == 0


def test_a_guest_that_ran_out_asks_for_half_as_much_again_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "taken_bytes", lambda _: 4 * GIB)
    for need in (6 * GIB, 9 * GIB):
        Room(tmp_path, CPU).note_shortage()
        assert Room(tmp_path, CPU).need() == need


def test_a_disk_that_takes_nothing_does_not_end_the_engine(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("no folder")
    Room(tmp_path, CPU).note()
    assert Room(tmp_path, CPU).need() == 0


class Properties:
    uuid = "ffc79498-8ff3-c2dc-3b0d-fafd804516ae"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that seems to have a GPU; the path of its driver's tool."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "nvidia-smi"


def install(tool: Path, script: str) -> None:
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_the_driver_s_tool_says_what_is_free_of_the_very_gpu(gpu: Path) -> None:
    first = torch.device("cuda:0")
    assert free_bytes(first) is None
    install(gpu, 'test "$1" = "--id=GPU-ffc79498-8ff3-c2dc-3b0d-fafd804516ae" && echo "10240, 24564"')
    assert free_bytes(first) == (10 * GIB, 24564 * 2**20)
    for script in ("echo [N/A], [N/A]", "exit 9", "echo"):
        install(gpu, script)
        assert free_bytes(first) is None


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_the_same_one_whoever_sees_it_under_whatever_number() -> None:
    name = "cuda-GPU-ffc79498-8ff3-c2dc-3b0d-fafd804516ae"
    assert {identity(torch.device(seen)) for seen in ("cuda:0", "cuda:3", "cuda")} == {name}
    assert identity(CPU) == "cpu-0"
