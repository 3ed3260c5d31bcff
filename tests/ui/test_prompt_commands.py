"""Prompt sets go out and come in by a command, as the page does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from storage import prompts
from storage.engine import open_database
from tests.storage.ready import ready
from ui.prompt_commands import cli

run = CliRunner()


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A data folder with the set `foxes` in two versions."""
    db = open_database(ready(tmp_path / "home"))
    prompts.save_prompt_set(db, "foxes", ["a fox"], [])
    beside = {"a fox": {"width": 512, "tags": ["x"]}}
    prompts.save_prompt_set(db, "foxes", ["a fox", "two foxes"], ["no fox"], beside)
    db.close()
    return str(tmp_path / "home")


def test_a_set_goes_out_and_comes_in_as_the_same_version(home: str, tmp_path: Path) -> None:
    for ending in ("csv", "jsonl"):
        file = str(tmp_path / f"foxes.{ending}")
        out = run.invoke(cli, ["export", "foxes", file, "--home", home])
        assert "foxes, version 2, 3 prompts" in out.output, out.output
        back = run.invoke(cli, ["import", file, "--home", home])
        assert "foxes, version 2: 2 to train on, 1 held out" in back.output, back.output
        copied = run.invoke(cli, ["import", file, "--name", "copy", "--home", home])
        assert "copy, version 1: 2 to train on, 1 held out" in copied.output
    older = run.invoke(cli, ["export", "foxes", str(tmp_path / "a.txt"), "--version", "1", "--home", home])
    assert older.exit_code == 0
    assert (tmp_path / "a.txt").read_text() == "# split: train\na fox\n"


def test_a_plain_list_is_divided_by_a_share_and_told_what_was_changed(home: str, tmp_path: Path) -> None:
    (tmp_path / "birds.txt").write_text("\n".join(f"bird {n} --w 512" for n in range(50)))
    done = run.invoke(cli, ["import", str(tmp_path / "birds.txt"), "--share", "50", "--home", home])
    assert "birds, version 1: " in done.output
    assert ", 0 held out" not in done.output
    assert "Flags were taken off the prompts and kept beside them: --w." in done.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "birds", "b.txt"], "there is no prompt set called birds: expected one of foxes"),
        (["export", "foxes", "b.txt", "--version", "9"], "foxes has no version 9: its newest is 2"),
        (["export", "foxes", "b.doc"], "end it with .txt, .csv or .jsonl"),
        (["import", "gone.txt"], "No such file"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_a_code(home: str, words: list[str], sentence: str) -> None:
    done = run.invoke(cli, [*words, "--home", home])
    assert done.exit_code == 2
    assert sentence.lower() in done.output.lower()
