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


def calls_to(pattern: str, paths: list[Path]) -> dict[str, ast.Call]:
    """Calls of a function whose dotted name ends so, by their places."""
    return {
        f"{tree.relative(path)}:{call.lineno}": call
        for path in paths
        for call in calls(path)
        if re.search(pattern, ast.unparse(call.func))
    }


def says(call: ast.Call, word: str, value: str) -> bool:
    return any(one.arg == word and ast.unparse(one.value) == value for one in call.keywords)


def test_torch_load_always_says_weights_only() -> None:
    found = calls_to(r"^torch\.load$", tree.python())
    assert [place for place, call in found.items() if not says(call, "weights_only", "True")] == []


def test_the_product_opens_torchs_own_format_in_one_place() -> None:
    places = calls_to(r"^torch\.load$", tree.code())
    assert [place.partition(":")[0] for place in places] == ["flowgrpo/torchfile.py"]


def test_models_are_loaded_from_safetensors_and_never_with_code_of_their_own() -> None:
    loads = calls_to(r"(?<!config_class)\.from_pretrained$", tree.code())
    assert loads
    assert [place for place, call in loads.items() if not says(call, "use_safetensors", "True")] == []
    trusting = [
        f"{tree.relative(path)}:{call.lineno}"
        for path in tree.code()
        for call in calls(path)
        for word in call.keywords
        if (word.arg == "trust_remote_code" and ast.unparse(word.value) != "False")
        or word.arg == "custom_pipeline"
    ]
    assert trusting == []


def test_no_shell_ever_reads_a_command() -> None:
    shells = calls_to(
        r"^(os\.(system|popen)|subprocess\.(getoutput|getstatusoutput)|eval|exec)$", tree.code()
    )
    assert list(shells) == []
    assert [
        f"{tree.relative(path)}:{call.lineno}"
        for path in tree.code()
        for call in calls(path)
        if any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in call.keywords)
    ] == []


def test_a_message_that_gradio_shows_as_html_is_escaped_or_ours() -> None:
    """`gr.Error` and its kin render what they are given."""
    told = calls_to(r"^gr\.(Error|Warning|Info|Success)$", tree.code())
    assert [
        place
        for place, call in told.items()
        if not all(
            isinstance(word, ast.Constant) or ast.unparse(word).startswith("html.escape(")
            for word in call.args
        )
    ] == []


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
