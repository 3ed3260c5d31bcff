"""The image: its Dockerfile is clean, says no version twice, and takes what a build may see and no more."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from storage.masking import is_secret_name
from storage.version import VERSION
from tests.repository import tree
from tools import build_context, dockerfile

TEXT = (tree.ROOT / "Dockerfile").read_text(encoding="utf-8")
RULES = build_context.rules_of((tree.ROOT / ".dockerignore").read_text(encoding="utf-8"))
WHOLE = ("flowgrpo", "storage", "ui", "configs")
"""Folders that the image has whole."""


@cache
def stages() -> tuple[dockerfile.Stage, ...]:
    return dockerfile.read(TEXT)


@cache
def image() -> dockerfile.Image:
    """What a container starts with, by the last stage."""
    made = dockerfile.Image()
    for step in stages()[-1].steps:
        made.note(step, made.env)
    return made


def copied() -> list[str]:
    """What is taken from the repository."""
    steps = [step for stage in stages() for step in stage.steps if step.name == "COPY"]
    return [source for step in steps if "from" not in step.flags for source in step.text.split()[:-1]]


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([program, "Dockerfile"], cwd=tree.ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_a_container_starts_as_a_user_without_a_name_of_power_below_an_init() -> None:
    made = image()
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", made.user), (
        "a number, so that others can see it is not root"
    )
    assert made.entrypoint == ["/usr/bin/tini", "--", "python", "app.py"]
    assert (made.cmd, made.stop_signal, made.ports) == (["serve"], "SIGTERM", [7860])
    assert made.healthcheck[:2] == ["python", "-m"]
    assert find_spec(made.healthcheck[2]) is not None


def test_a_container_writes_nowhere_but_in_its_volume() -> None:
    made = image()
    (volume,) = made.volumes
    for name in ("HOME", "HF_HOME", "FLOWGRPO_HOME"):
        assert Path(made.env[name]).is_relative_to(volume), name
    assert made.env["PYTHONDONTWRITEBYTECODE"] == "1"
    assert not Path(made.workdir).is_relative_to(volume)


def test_what_listens_on_every_address_demands_accounts() -> None:
    made = image()
    assert made.env["GRADIO_SERVER_NAME"] == "0.0.0.0"
    assert made.env["FLOWGRPO_PUBLIC_URL"] == f"http://127.0.0.1:{made.env['GRADIO_SERVER_PORT']}"


def test_no_layer_has_a_secret() -> None:
    steps = [step for stage in stages() for step in stage.steps if step.name in ("ARG", "ENV")]
    names = [word.partition("=")[0] for step in steps for word in step.text.split()]
    assert names
    assert [name for name in names if is_secret_name(name)] == []


def test_every_variable_of_the_image_is_on_the_readme_or_a_librarys() -> None:
    readme = (tree.ROOT / "README.md").read_text(encoding="utf-8")
    libraries = {"PATH", "HOME", "HF_HOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    assert {name for name in image().env if f"`{name}`" not in readme} <= libraries


def test_no_step_says_a_version_that_the_requirements_say() -> None:
    runs = [step.text for stage in stages() for step in stage.steps if step.name == "RUN"]
    assert [found for text in runs for found in re.findall(r"\S*[=<>~!]=\s*\d\S*", text)] == []
    (torch,) = (found for text in runs for found in re.findall(r"grep -E '(\S+)'", text))
    lines = (tree.ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [re.split("[<>=]", line)[0] for line in lines if re.search(torch, line)]
    assert names == ["torch", "torchvision"]


def test_the_image_says_the_version_of_the_program() -> None:
    assert image().labels["org.opencontainers.image.version"] == VERSION


def test_every_stage_has_one_base_whose_python_the_project_takes() -> None:
    (base,) = {stage.base for stage in stages()}
    found = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-[a-z]+", base)
    assert found, f"expected a tag with a patch release and a release of Debian, got {base}"
    least = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (tree.ROOT / "pyproject.toml").read_text())
    assert least
    assert tuple(map(int, found.groups())) >= tuple(map(int, least.groups()))


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_is_there_and_seen(source: str) -> None:
    assert list(build_context.files_below(tree.ROOT, source, RULES))


def test_the_image_has_the_product_whole_and_nothing_that_git_does_not_have() -> None:
    assert set(WHOLE) <= set(copied())
    known = {path for path in tree.files() if path.relative_to(tree.ROOT).parts[0] in WHOLE}
    seen = {path for top in WHOLE for path in build_context.files_below(tree.ROOT, top, RULES)}
    assert seen == known


@pytest.mark.parametrize(
    "path",
    [
        ".env", "secrets/postgres_password", "data/app.db", "data/images/ab/cd.png", "demo/report.json",
        ".git/config", ".venv/bin/python", "id_rsa", "storage/.env", "flowgrpo/starter/.netrc", "app.db",
        "ui/__pycache__/server.cpython-311.pyc", "flowgrpo/runs/__pycache__", "compose.yaml", "hub/token",
        "tests/given.py",
    ],
)  # fmt: skip
def test_a_build_does_not_see_what_is_secret_or_somebodys(path: str) -> None:
    assert not build_context.is_seen(path, RULES)


def test_the_last_rule_that_matches_decides() -> None:
    rules = build_context.rules_of("# all but\n*\n!src\n**/*.py[cod]\n!src/keep.pyc\nsrc/?.txt\n")
    said = {
        path: build_context.is_seen(path, rules)
        for path in (
            "src/a/b.py",
            "src/a/b.pyc",
            "src/keep.pyc",
            "src/a.txt",
            "src/ab.txt",
            "src2",
            "other/src",
        )
    }
    assert [path for path, seen in said.items() if seen] == ["src/a/b.py", "src/keep.pyc", "src/ab.txt"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("FROM a\nADD x y\n", "line 2: expected one of .* got ADD"),
        ("FROM a\nRUN --mount=type=cache,target=/x true\n", "line 2: RUN --mount is not known here"),
        ("FROM a\nRUN cat <<END\n", "line 2: text behind <<"),
        ("RUN true\nFROM a\n", "line 1: RUN stands before the first FROM"),
        ("FROM a\nRUN true \\\n", "line 2: the last line is to be continued"),
    ],
)
def test_a_replay_refuses_what_it_would_leave_out(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dockerfile.read(text)


def test_variables_are_filled_in_as_a_build_does() -> None:
    (stage,) = dockerfile.read(
        "ARG BASE=a:1\nARG TAIL\nFROM ${BASE}$TAIL AS one\nENV A=1 \\\n  # why\n  B='x y'\n", {"BASE": "b:2"}
    )
    assert (stage.name, stage.base) == ("one", "b:2")
    made = dockerfile.Image()
    made.note(stage.steps[0], {})
    assert made.env == {"A": "1", "B": "x y"}
    assert (
        dockerfile.expand("${A:-none} ${C:-none} ${B:+with $A} ${C:+with}.", made.env) == "1 none with $A ."
    )
