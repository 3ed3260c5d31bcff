"""The pages name only what exists: files, commands, subcommands, modules and environment variables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from storage.version import VERSION
from tests.extending.followed import made
from tests.repository import tree

QUOTED = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(
    r"\b(?:FLOWGRPO|GRADIO|HF|CUDA|DIFFUSERS)_[A-Z_]+\b|\bDATABASE_URL\b|\bCHROMIUM\b|\bVENV\b"
)
TOPS = {"flowgrpo", "storage", "ui", "tests", "benchmarks", "docs", "tools", "deploy", ".ci"}
FILE_AT_THE_TOP = re.compile(r"[\w.-]+\.(?:py|md|toml|txt)|Makefile|LICENSE|NOTICE")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def quoted(page: Path) -> list[str]:
    """Inline code and the lines of code blocks."""
    blocks = [line for block in BLOCK.findall(text(page)) for line in block.splitlines()[1:-1]]
    return QUOTED.findall(BLOCK.sub("", text(page))) + blocks


def path_of(word: str) -> str | None:
    """The repository path that a quoted word names, or None when it names something else."""
    bare = word.strip().rstrip("/").split(":")[0]
    if not re.fullmatch(r"[\w./-]+", bare):
        return None
    first = bare.split("/")[0]
    if "/" in bare:
        return bare if first in TOPS else None
    return bare if FILE_AT_THE_TOP.fullmatch(bare) else None


@pytest.mark.parametrize("page", tree.docs(), ids=tree.relative)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = [path for word in QUOTED.findall(BLOCK.sub("", text(page))) if (path := path_of(word))]
    known, new = {path.name for path in tree.files()}, made(page)
    missing = [
        path
        for path in named
        if path not in new and not (tree.ROOT / path).exists() and not ("/" not in path and path in known)
    ]
    assert missing == []
    assert [link for link in LINK.findall(text(page)) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", tree.docs(), ids=tree.relative)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (tree.ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for line in quoted(page) for target in re.findall(r"\bmake (\w+)", line)}
    assert named <= targets


@pytest.mark.parametrize("page", tree.docs(), ids=tree.relative)
def test_every_module_that_a_page_runs_exists(page: Path) -> None:
    modules = {
        module
        for line in quoted(page)
        for module in re.findall(r"python -m ((?:flowgrpo|storage|ui|benchmarks|tools)[\w.]*)", line)
    }
    paths = {module: tree.ROOT / module.replace(".", "/") for module in modules}
    assert [
        name for name, path in paths.items() if not (path.with_suffix(".py").exists() or path.is_dir())
    ] == []


def test_every_subcommand_that_a_page_names_exists() -> None:
    named = {
        (command, tree.relative(page))
        for page in tree.docs()
        for line in quoted(page)
        for command in re.findall(r"python app\.py ([a-z][a-z-]*)", line)
    }
    shown = subprocess.run(
        [sys.executable, "app.py", "--help"],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert [
        (command, page) for command, page in sorted(named) if not re.search(rf"\b{command}\b", shown)
    ] == []


def test_every_environment_variable_that_a_page_names_is_read() -> None:
    sources = [path for path in tree.files() if path.suffix in {".py", ".sh"} or path.name == "Makefile"]
    read = {name for path in sources if path != Path(__file__) for name in VARIABLE.findall(text(path))}
    read |= {"HF_HOME"}  # read by huggingface_hub
    named = {name for page in tree.docs() for name in VARIABLE.findall(text(page))}
    assert named <= read


def test_every_environment_variable_that_the_product_reads_is_on_the_readme() -> None:
    reads = re.compile(r"(?:environ(?:\.get\(|\[)|getenv\(|envvar=)\s*[\"']([A-Z_]+)[\"'](?!\]\s*=)")
    read = {name for path in tree.code() for name in reads.findall(text(path))}
    # ours for our own children, tests of faults, and what launchers set
    private = {
        "CUDA_VISIBLE_DEVICES",
        "FAILPOINT",
        "FLOWGRPO_BEAT_SECONDS",
        "FLOWGRPO_RUN",
        "LOCAL_RANK",
        "PYTHONPATH",
        "RANK",
        "WORLD_SIZE",
    }
    assert read - private - set(VARIABLE.findall(text(tree.ROOT / "README.md"))) == set()


def test_the_version_heads_the_changelog() -> None:
    assert re.findall("^## (.+?) ", text(tree.ROOT / "CHANGELOG.md"), re.MULTILINE)[0] == VERSION
