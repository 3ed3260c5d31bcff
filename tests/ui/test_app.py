"""The front door refuses what it cannot do, in a sentence and with a code."""

from __future__ import annotations

import json
import socket
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import app
from storage import runs
from storage.version import VERSION

front = CliRunner()


def test_an_address_for_everyone_is_refused_where_nobody_says_how_it_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    done = front.invoke(app.cli, [])
    assert done.exit_code == 2
    assert "Listening on 0.0.0.0, others can reach the studio: say with --public-url" in done.output


def test_it_says_which_release_it_is_and_the_package_is_the_same() -> None:
    done = front.invoke(app.cli, ["--version"])
    assert (done.exit_code, done.output) == (0, f"FlowGRPO Studio {VERSION}\n")
    root = Path(app.__file__).parent
    packaged = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"][
        "version"
    ]
    assert packaged == {"attr": "storage.version.VERSION"}


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = front.invoke(app.cli, ["serve", "--port", str(port)])
    assert done.exit_code == 2
    assert f"Port {port} is taken" in done.output


def test_a_base_that_is_no_diffusers_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.Exit):
        app._open(tmp_path / "home", tmp_path)


def test_another_base_is_noted_with_its_class(tmp_path: Path) -> None:
    from storage import checkpoints

    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    db = app._open(tmp_path / "home", folder)
    named = {one.name: checkpoints.base_of(db, one) for one in checkpoints.list_checkpoints(db)}
    assert named["mine"].source == str(folder)
    db.close()


def test_another_folder_of_a_bases_name_is_refused_and_a_moved_one_is_not(tmp_path: Path) -> None:
    index = json.dumps({"_class_name": "StableDiffusionXLPipeline"})
    first, second = tmp_path / "a" / "mine", tmp_path / "b" / "mine"
    for folder in (first, second):
        folder.mkdir(parents=True)
        (folder / "model_index.json").write_text(index)
    app._open(tmp_path / "home", first).close()
    with pytest.raises(typer.Exit):
        app._open(tmp_path / "home", second)
    first.rename(tmp_path / "gone")
    app._open(tmp_path / "home", second).close()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompts": []}, "prompts: Tuple should have at least 1 item"),
        ({"num_update": 3}, "there is no setting num_update, did you mean num_updates?"),
        ({"rollout": {"grup_size": 4}}, "there is no setting rollout.grup_size, did you mean group_size?"),
        (
            {"rollout": {"group_size": 1}},
            "rollout.group_size: Input should be greater than or equal to 2, got 1",
        ),
        ({"lora": {"rank": 0}}, "lora.rank: Input should be greater than or equal to 1, got 0"),
        ({"update": {"learning_rate": "fast"}}, "update.learning_rate: Input should be a valid number"),
        ({"reward_weights": {"clip": 0.0}}, "all reward weights are zero"),
    ],
)
def test_a_run_file_that_is_none_is_refused_by_the_settings_name(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    document = {"prompts": ["a"], "reward_weights": {"clip": 1.0}} | changes
    (tmp_path / "run.json").write_text(json.dumps(document))
    done = front.invoke(app.cli, ["run", str(tmp_path / "run.json"), "--home", str(tmp_path / "home")])
    assert done.exit_code == 2
    assert "is not a run" in done.output
    assert sentence in done.output


def test_a_run_from_an_unknown_checkpoint_names_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"prompts": ["a"], "reward_weights": {"clip": 1}}))
    done = front.invoke(
        app.cli, ["run", str(tmp_path / "run.json"), "--checkpoint", "x", "--home", str(tmp_path / "home")]
    )
    assert done.exit_code == 2
    assert "no checkpoint named x; there are starter" in done.output


def test_a_dry_run_says_what_a_run_takes_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"prompts": ["a"], "reward_weights": {"clip": 1}}))
    given = ["run", str(tmp_path / "run.json"), "--dry-run", "--no-probe", "--home", str(tmp_path / "home")]
    done = front.invoke(app.cli, [*given, "--teraflops", "0.1", "--rate", "2"])
    assert done.exit_code == 0
    assert "Nothing was started" in done.output
    assert "at 2 an hour" in done.output
    said = json.loads(front.invoke(app.cli, [*given, "--json"]).stdout)
    assert said["memory"]["peak_bytes"] > 0
    db = app._open(tmp_path / "home")
    assert runs.list_runs(db) == []
    db.close()


def test_a_base_is_added_by_a_command_and_what_is_none_is_refused(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    done = front.invoke(app.cli, ["base", str(app.STARTER), "--name", "mine", "--home", home])
    assert done.exit_code == 0, done.output
    assert "mine is there" in done.output
    refused = front.invoke(app.cli, ["base", str(tmp_path), "--home", home])
    assert refused.exit_code == 2
    assert "no diffusers folder" in refused.output


def test_an_export_of_a_base_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = str(tmp_path / "x.safetensors")
    done = front.invoke(app.cli, ["export", "starter", file, "--home", str(tmp_path / "home")])
    assert done.exit_code == 2
    assert "is a base, so there is nothing to export" in done.output


def test_doctor_lists_what_is_there(tmp_path: Path) -> None:
    done = front.invoke(app.cli, ["doctor", "--home", str(tmp_path)])
    assert done.exit_code == 0
    for told in ("SQLite", "GB of disk free", "diffusers", "base starter", "the starter: "):
        assert told in done.output


def test_doctor_speaks_to_programs_too(tmp_path: Path) -> None:
    done = front.invoke(app.cli, ["doctor", "--json", "--home", str(tmp_path)])
    assert {finding["level"] for finding in json.loads(done.stdout)} <= {"ok", "note"}
