"""Every command that a page shows is run here, in a small data folder, or it is said which test runs it.

A command that is new on a page stands in neither list, and the first test asks where it belongs.
"""

from __future__ import annotations

import re
import shutil
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import app
from storage import accounts, prompts, users
from tests.repository import tree
from tests.repository.test_commands import GENERATED, commands
from tests.repository.test_deviations import source_of
from tests.runs.opinions import opinions_in
from tests.served import served
from tests.storage.ready import ready

CONFIG = """\
prompts: ["portrait, red hair"]
reward_weights: {verifier: 1.0}
num_updates: 1
samples: 0
rollout: {group_size: 2, groups_per_update: 1, num_steps: 2, window_size: 1}
lora: {rank: 2, alpha: 2.0, targets: [to_q]}
"""
NAME = {"Run 1 · update 60": "Run 1 · update 1"}
ANN = {"Ann": "Ann Secret"}
HERE: dict[str, Mapping[str, str]] = {
    "--version": {},
    "accept NAME": {"NAME": "pickscore"},
    "accept pickscore": {},
    "archive project.zip": {},
    "archive rows.zip --without-images": {},
    "backup": {},
    "base segmind/SSD-1B": {"segmind/SSD-1B": str(app.STARTER)},
    "clean": {},
    "doctor": {},
    "export NAME DIR --merged": {"NAME": "Run 1 · update 1", "DIR": "mine"},
    "export Run 1 · update 60 mine --merged": NAME,
    "export Run 1 · update 60 mine-whole.safetensors --merged": NAME,
    "export Run 1 · update 60 mine.safetensors --layout kohya": NAME,
    "export-ratings OUT": {},
    "export-ratings OUT --format pickapic": {},
    "export-ratings my-ratings": {},
    "export-ratings my-ratings --format pickapic": {},
    "import-ratings FILE": {"FILE": "ratings"},
    "import-ratings OUT": {"OUT": "ratings"},
    "import-ratings my-ratings": {"my-ratings": "ratings"},
    "import-ratings train.json --images pictures": {},
    "limits": {},
    "limits --backup-minutes 5 --backups-kept 12,24,14": {},
    "prompts export birds birds.csv": {},
    "prompts import birds.txt": {},
    "restore": {},
    "restore --from FILE": {"FILE": "copy.db"},
    "restore --list": {},
    "run config.yaml": {},
    "run config.yaml --dry-run --checkpoint ssd-1b --device cuda --teraflops 80": {"ssd-1b": "starter"},
    "run config.yaml --dry-run --rate 0.50": {},
    "unarchive project.zip --home new": {"project.zip": "packed.zip"},
    "user add Ann --role annotator": {},
    "user add Ann --role annotator --public-url https://studio.example.org": {},
    "user close Ann": ANN,
    "user link Ann": ANN,
    "user list": {},
    "user role Ann artist": ANN,
}
"""Command to what stands for the names and files that a reader puts there."""
_SERVE = "tests/runs/test_commands_of_pages.py::test_serve_does_what_the_options_on_the_pages_say"
_WORKER = (
    "tests/runs/test_worker.py::"
    "test_a_worker_draws_and_scores_stops_for_a_cancel_and_ends_with_its_dispatcher"
)
_EVALUATE = "tests/runs/test_evaluate_command.py::test_an_evaluation_ends_with_its_files"
ELSEWHERE = {
    "demo": "tests/runs/test_demo.py::test_the_demonstration_goes_through_rows_worker_and_run",
    "demo --seed 0": "tests/runs/test_demo.py::test_the_demonstration_goes_through_rows_worker_and_run",
    "doctor --rewards": (
        "tests/runs/test_doctor_rewards.py::test_the_command_prints_a_table_or_json_and_ends_as_it_found"
    ),
    "evaluate starter --prompts held_out.txt --sweep 4,8,16 --out sweep.csv": _EVALUATE,
    "evaluate starter run 3, update 40 --prompts held_out.txt --seeds 0-3 --out table.md --out plot.png": (
        _EVALUATE
    ),
    "serve": _SERVE,
    "serve --host 0.0.0.0 --public-url https://studio.example.org": (
        "tests/runs/test_commands_of_pages.py::test_serve_for_others_prints_the_link_of_the_first_admin"
    ),
    "serve --language ja": _SERVE,
    "serve --log-format json": (
        "tests/ui/test_logs.py::test_the_form_is_asked_for_or_stands_in_the_environment"
    ),
    "serve --no-metadata": _SERVE,
    "to-postgres": (
        "tests/storage/test_to_postgres.py::"
        "test_every_row_of_every_table_arrives_and_the_studio_goes_on_with_them"
    ),
    "to-postgres --home data": (
        "tests/storage/test_to_postgres.py::"
        "test_every_row_of_every_table_arrives_and_the_studio_goes_on_with_them"
    ),
    "worker": _WORKER,
    "worker --device cuda:0": _WORKER,
}
"""Command to the test that runs it: it serves for long, draws for long, or needs a server or a GPU."""
front = CliRunner()


@cache
def shown() -> dict[str, list[str]]:
    """Each command of the pages to its words, once; a bare name of what needs more words is none."""
    pages = [page for page in tree.docs() if page != GENERATED]
    return {" ".join(words): words for page in pages for words in commands(page) if is_whole(words)}


def is_whole(words: list[str]) -> bool:
    command: Any = typer.main.get_command(app.cli)
    for number, word in enumerate(words):
        if hasattr(command, "get_command") and not word.startswith("-"):
            command = command.get_command(None, word)
            if number == len(words) - 1:
                return not any(one.required for one in command.params) and not hasattr(command, "get_command")
    return True


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder with a studio in `data` and what the commands ask for beside it, and what made it said."""
    folder, said = tmp_path_factory.mktemp("pages") / "filled", dict[str, Any]()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "FLOWGRPO_HOME"):
            patch.delenv(name, raising=False)
        with opinions_in(folder / "data") as opinions:
            prompts.save_prompt_set(opinions.db, "birds", ["a tit"], [])
            accounts.set_password(opinions.db, users.LOCAL, "hash", by=users.LOCAL)
        patch.chdir(folder)
        Path("config.yaml").write_text(CONFIG, encoding="utf-8")
        Path("birds.txt").write_text("a wren\na robin\n", encoding="utf-8")
        for line in ("run config.yaml", "backup", "export-ratings ratings", "archive packed.zip"):
            said[line] = front.invoke(app.cli, line.split(" "))
            assert said[line].exit_code == 0, said[line].output
        shutil.copy(next(Path("data", "backups").glob("*.db")), "copy.db")
        shutil.copy(Path("ratings", "hpd", "train.json"), "train.json")
        shutil.copytree(Path("ratings", "images"), Path("pictures", "images"))
        yield folder, said


def test_of_every_command_on_the_pages_it_is_known_who_runs_it() -> None:
    assert sorted(set(shown()) - set(HERE) - set(ELSEWHERE)) == [], "add it to HERE, or to ELSEWHERE"
    assert sorted(set(HERE) | set(ELSEWHERE)) == sorted(shown())
    assert not set(HERE) & set(ELSEWHERE)
    assert [test for test in ELSEWHERE.values() if not source_of(*test.split("::"))] == []


@pytest.mark.parametrize("line", HERE)
def test_a_command_of_the_pages_does_its_work(
    line: str, filled: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = filled
    done = said.get(line)
    if done is None:
        monkeypatch.chdir(shutil.copytree(folder, tmp_path / "here"))
        monkeypatch.delenv("DATABASE_URL", raising=False)
        monkeypatch.delenv("FLOWGRPO_HOME", raising=False)
        words = [HERE[line].get(word, word) for word in shown()[line]]
        done = front.invoke(app.cli, words, input="y\n")
    assert done.exit_code == 0, done.output
    assert done.output.strip()


def test_serve_does_what_the_options_on_the_pages_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    home = tmp_path / "data"
    with opinions_in(home) as opinions:
        image = opinions.image("best", 0)
    options = ["--language", "ja", "--log-format", "json", "--no-metadata"]
    with served(home, tmp_path / "log", options) as studio:
        page = urllib.request.urlopen(f"{studio.url}/", timeout=60).read().decode()
        picture = urllib.request.urlopen(f"{studio.url}/media/{image}.png", timeout=60).read()
    assert re.search(r"[\u3040-\u30ff]", page)
    assert picture.startswith(b"\x89PNG") and b"parameters" not in picture


def test_serve_for_others_prints_the_link_of_the_first_admin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    options = ["--host", "0.0.0.0", "--public-url", "https://studio.example.org"]
    with served(ready(tmp_path / "data"), log := tmp_path / "log", options):
        pass
    assert "the first admin's" in (said := log.read_text(encoding="utf-8"))
    assert "https://studio.example.org/" in said
