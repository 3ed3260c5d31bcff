"""One thing, one word: docs/glossary.md says which, and the others of the field stand nowhere in our code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.repository import tree

SAY = {
    **dict.fromkeys(("img", "imgs"), "image"),
    **dict.fromkeys(("logp", "logprob", "logprobs"), "log_prob"),
    **dict.fromkeys(("noise_pred", "model_output"), "velocity"),
    **dict.fromkeys(("cfg", "cfg_scale"), "guidance_scale"),
    **dict.fromkeys(("adv", "advs"), "advantage"),
    **dict.fromkeys(("ref_model", "reference_model"), "reference"),
    **dict.fromkeys(("reward_fn", "scorer"), "reward"),
    **dict.fromkeys(("num_generations", "num_images_per_prompt"), "group_size"),
    **dict.fromkeys(("rater", "labeler", "labeller"), "annotator"),
    **dict.fromkeys(("importance_weight", "is_ratio"), "ratio"),
    **dict.fromkeys(("approx_kl", "kl_loss"), "kl"),
    **dict.fromkeys(("hparams", "hyperparams", "params"), "config, or parameters of a network"),
    **dict.fromkeys(("old_policy", "actor"), "policy"),
    **dict.fromkeys(("all_latents", "std_dev_t", "inner_epoch", "clipfrac"), "what the glossary says"),
}
"""Word of others -> ours. A name that a library gave, which we only read or pass, is not ours to choose."""


def ours(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that a file itself gives: of a class, a function, an argument, a variable, a field."""
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr


def words_of(name: str) -> str:
    """The name in small letters with underscores, one at each end."""
    return "_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_") + "_"


def test_no_name_of_ours_is_a_word_that_the_glossary_has_another_for() -> None:
    found = {
        f"{tree.relative(path)}:{line} {name}": f"say {SAY[word]}"
        for path in tree.code()
        if "migrations" not in path.parts
        for line, name in ours(path)
        for word in SAY
        if f"_{word}_" in words_of(name)
    }
    assert found == {}


def test_every_word_of_the_glossary_is_used() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \|", (tree.ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M
    )
    terms = {term for row in rows for term in row.split(", ")} - {"word", "---"}
    texts = [
        path.read_text(encoding="utf-8") for path in [*tree.code(), *tree.docs()] if path.stem != "glossary"
    ]
    text = re.sub(r"[\s_-]+", " ", "\n".join(texts)).lower()
    assert len(terms) > 40
    assert [term for term in sorted(terms) if re.sub(r"[_-]", " ", term).lower() not in text] == []
