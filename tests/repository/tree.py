"""The repository's own files, as git sees them: tracked, or new and not ignored."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flowgrpo", "storage", "ui", "app.py")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".css", ".js", ".sh", ".ini", ".mako", ".cfg", ".yml", ""}


@cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, absolute, in order."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(ROOT / name for name in sorted(filter(None, listed.split("\0"))) if (ROOT / name).is_file())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def under(*tops: str, suffix: str) -> list[Path]:
    """Files with this suffix whose first path component is one of `tops`."""
    return [path for path in files() if path.suffix == suffix and path.relative_to(ROOT).parts[0] in tops]


def code() -> list[Path]:
    """The product's Python, without its tests."""
    return under(*PACKAGES, suffix=".py")


def python() -> list[Path]:
    """All Python: product, tests and benchmarks."""
    return under(*PACKAGES, "tests", "benchmarks", suffix=".py")


def docs() -> list[Path]:
    """What a person reads: the pages at the top and under docs/, decisions aside (they speak of the past)."""
    return [
        path
        for path in files()
        if path.suffix == ".md" and "decisions" not in path.parts and path.parent != ROOT / ".ci"
    ]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports absolutely, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names
