"""House rules that a pattern can check. Each names the place, so that the failure says where."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.repository import tree

MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|root|tmp|home|Users|opt)/\w")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
HTML_FROM_A_TEMPLATE = re.compile(r"gr\.HTML\(\s*f[\"']")


def places(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{tree.relative(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]


def text_files() -> list[Path]:
    return [
        path for path in tree.files() if path.suffix in tree.TEXT_SUFFIXES and "weights" not in path.parts
    ]


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree.parsed(path)) if isinstance(node, ast.Call)]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    others = [path for path in text_files() if path.name != "LICENSE" and path != Path(__file__)]
    assert places(MACHINE_PATH, others) == []


def test_nothing_is_left_for_later() -> None:
    assert places(UNFINISHED, tree.python()) == []


def test_no_page_builds_html_from_an_unescaped_template() -> None:
    assert places(HTML_FROM_A_TEMPLATE, tree.code()) == []


def test_torch_load_always_says_weights_only() -> None:
    unsafe = [
        f"{tree.relative(path)}:{call.lineno}"
        for path in tree.python()
        for call in calls(path)
        if ast.unparse(call.func) == "torch.load"
        and not any(
            word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords
        )
    ]
    assert unsafe == []


def test_pickle_is_never_imported() -> None:
    assert [
        tree.relative(path) for path in tree.code() if tree.imported(path) & {"pickle", "dill", "joblib"}
    ] == []


def test_only_the_workers_loop_catches_every_exception() -> None:
    nets = [
        f"{tree.relative(path)}:{node.lineno}"
        for path in tree.code()
        for node in ast.walk(tree.parsed(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or "Exception" in ast.unparse(node.type).split("."))
    ]
    assert [place for place in nets if not place.startswith("flowgrpo/runs/worker.py:")] == []
    assert len(nets) <= 1


def test_every_setting_says_what_it_is_and_in_which_unit() -> None:
    silent = [
        f"{class_.name}.{ast.unparse(field.target)}"
        for class_ in ast.walk(tree.parsed(tree.ROOT / "flowgrpo" / "config.py"))
        if isinstance(class_, ast.ClassDef)
        for field, following in zip(class_.body, [*class_.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign) and not is_text(following) and not is_config(field)
    ]
    assert silent == []


def is_text(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def is_config(field: ast.AnnAssign) -> bool:
    """A nested config: its class says what it is."""
    return ast.unparse(field.annotation).endswith("Config")


@pytest.mark.parametrize("path", tree.under("tests", suffix=".py"), ids=tree.relative)
def test_the_name_of_every_test_is_a_sentence(path: Path) -> None:
    names = [function.name for function in tree.functions(path) if function.name.startswith("test_")]
    assert [name for name in names if name.count("_") < 3] == []


def test_every_migration_is_numbered_once_and_without_a_gap() -> None:
    numbers = sorted(
        int(path.name[:4]) for path in tree.under("storage", suffix=".py") if path.parent.name == "versions"
    )
    assert numbers == list(range(1, len(numbers) + 1))
