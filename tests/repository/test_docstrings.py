"""How much of what others may use says what it is: a share that may rise and not fall."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.repository import tree

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def least() -> float:
    settings = tomllib.loads((tree.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return float(settings["tool"]["docstrings"]["least_percent"])


def public(path: Path) -> Iterator[tuple[str, Documented]]:
    """The module, its public classes and functions, and the public methods of these classes."""
    module = tree.parsed(path)
    yield tree.relative(path), module
    for node in module.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or hides(node):
            continue
        yield f"{tree.relative(path)}:{node.lineno} {node.name}", node
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not hides(inner):
                yield f"{tree.relative(path)}:{inner.lineno} {node.name}.{inner.name}", inner


def hides(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Of our own, or a magic method, which every reader knows; an overload is said at the function itself."""
    return node.name.startswith("_") or any("overload" in ast.unparse(one) for one in node.decorator_list)


def test_the_share_of_public_names_that_say_what_they_are_does_not_fall() -> None:
    found = {
        place: node
        for path in tree.code()
        if "migrations" not in path.parts and path.read_text(encoding="utf-8").strip()
        for place, node in public(path)
    }
    silent = [place for place, node in found.items() if ast.get_docstring(node) is None]
    percent = 100 * (1 - len(silent) / len(found))
    assert len(found) > 1000
    assert percent >= least(), f"{percent:.2f}%: say what these are: {silent}"
