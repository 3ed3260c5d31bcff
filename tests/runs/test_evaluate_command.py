"""`python app.py evaluate` without a browser: what it reads, refuses and writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowgrpo.runs import evaluate_command
from flowgrpo.runs.evaluate_command import _parser, main, numbers, payload_of
from storage.engine import Database
from storage.models import Checkpoint


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("red hair\n\n blue hair \n")
    return path


def test_numbers_are_ranges_lists_or_both() -> None:
    assert numbers("0-3") == [0, 1, 2, 3]
    assert numbers("4, 8,16-17") == [4, 8, 16, 17]
    for wrong in ("", "3-1", "a", "1-", "0-99999", "-2"):
        with pytest.raises(ValueError, match="whole numbers"):
            numbers(wrong)


def test_options_become_what_the_job_keeps(db: Database, tiny: Checkpoint, prompts: Path) -> None:
    words = ["tiny", "--prompts", str(prompts), "--sweep", "4,8", "--size", "48x64", "--metrics", "clip,kid"]
    asked = payload_of(db, _parser().parse_args(words))
    assert asked["checkpoints"] == [tiny.id]
    assert asked["prompts"] == ["red hair", "blue hair"]
    assert (asked["seeds"], asked["steps"], asked["metrics"]) == ([0, 1, 2, 3], [4, 8], ["clip", "kid"])
    assert (asked["config"]["width"], asked["config"]["height"], asked["config"]["num_steps"]) == (48, 64, 16)


@pytest.mark.parametrize(
    ("words", "told"),
    [(["nobody"], "no checkpoint named nobody"), (["tiny", "--seeds", "x"], "whole numbers"),
     (["tiny", "--steps", "0"], "num_steps cannot be used"), (["tiny", "--out", "a.doc"], "ending"),
     (["tiny", "tiny"], "named twice"), (["tiny", "--size", "large"], "size in pixels")],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_sentence_before_anything_is_drawn(
    db: Database,
    tiny: Checkpoint,
    prompts: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    db.close()
    assert main([*words, "--prompts", str(prompts), "--home", str(db.home)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_an_evaluation_ends_with_its_files(
    db: Database, tiny: Checkpoint, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of the product, in its own process."""
    monkeypatch.setattr(evaluate_command, "POLL_SECONDS", 0.05)
    words = ["tiny", "--prompts", str(prompts), "--steps", "2", "--guidance", "1", "--seeds", "0-1"]
    said: list[str] = []
    table = tmp_path / "table.md"
    code = main([*words, "--metrics", "clip", "--out", str(table), "--home", str(db.home)], said.append)
    assert code == 0, said
    assert "| tiny | 2 |" in table.read_text()
    assert any("images" in one for one in said)
