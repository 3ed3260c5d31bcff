"""The doctor names what is amiss and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from flowgrpo.runs import doctor
from flowgrpo.runs.doctor import examine
from flowgrpo.runs.findings import Finding
from flowgrpo.runs.worker import WEIGHTS
from storage import checkpoints
from storage.engine import Database


def problems(db: Database, weights: Path = WEIGHTS) -> list[Finding]:
    return [finding for finding in examine(db, weights) if finding.level == "problem"]


def test_a_sound_machine_has_no_problem(db: Database) -> None:
    assert problems(db) == []


def test_missing_weights_are_a_problem_with_a_way_out(db: Database, tmp_path: Path) -> None:
    (finding,) = problems(db, tmp_path)
    assert "python -m flowgrpo.starter.build" in finding.advice


def test_a_file_of_weights_that_was_cut_short_is_named(db: Database, tmp_path: Path) -> None:
    weights = shutil.copytree(WEIGHTS, tmp_path / "weights")
    file = weights / "quality" / next((WEIGHTS / "quality").glob("*.safetensors")).name
    file.write_bytes(file.read_bytes()[:100])
    (finding,) = problems(db, weights)
    assert file.name in finding.what
    assert "damaged" in finding.what


def test_weights_that_are_not_as_they_were_shipped_are_named(db: Database, tmp_path: Path) -> None:
    weights = shutil.copytree(WEIGHTS, tmp_path / "weights")
    file = next((weights / "quality").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    (finding,) = problems(db, weights)
    assert f"quality/{file.name}" in finding.what
    assert "not as they were shipped" in finding.what


def test_a_driver_that_pytorch_cannot_use_is_a_problem(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module 390.1\nGCC")
    monkeypatch.setattr(doctor, "NVIDIA", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (finding,) = problems(db)
    assert finding.what.endswith("Kernel Module 390.1")
    assert "get a driver for CUDA" in finding.advice


def test_a_base_that_is_gone_is_noted(db: Database) -> None:
    checkpoints.register_base(db, name="old", source="/nowhere/old", family="sdxl")
    (finding,) = [f for f in examine(db) if "base old" in f.what]
    assert finding.level == "note"
    assert finding.what.endswith("is gone")
    assert "put it back" in finding.advice


def test_working_offline_is_noted(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert any("HF_HUB_OFFLINE" in finding.what for finding in examine(db))
