"""Files and functions stay small enough to be read whole."""

from __future__ import annotations

from tests.repository import tree

FILE_LINES = 400
APP_LINES = 250
FUNCTION_LINES = 50
README_LINES_BEFORE_THE_FIRST_COMMAND = 15
WEIGHT_BYTES = 25 * 1024**2


def test_no_python_file_is_longer_than_400_lines() -> None:
    lengths = {
        tree.relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in tree.python()
    }
    long = {
        name: lines for name, lines in lengths.items() if lines > FILE_LINES and "/migrations/" not in name
    }
    assert long == {}
    assert lengths.get("app.py", 0) <= APP_LINES


def test_no_function_is_longer_than_50_lines() -> None:
    long = {
        f"{tree.relative(path)}:{function.lineno} {function.name}": lines
        for path in tree.python()
        if "migrations" not in path.parts
        for function in tree.functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES
    }
    assert long == {}


def test_the_readme_gives_a_working_command_within_15_lines() -> None:
    lines = (tree.ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert any("make run" in line for line in lines[:README_LINES_BEFORE_THE_FIRST_COMMAND])


def test_the_shipped_weights_fit_in_25_megabytes() -> None:
    weights = [path for path in tree.files() if tree.relative(path).startswith("flowgrpo/starter/weights/")]
    assert sum(path.stat().st_size for path in weights) <= WEIGHT_BYTES
