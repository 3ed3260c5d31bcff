"""The page of the API is what the code says of itself."""

from __future__ import annotations

import warnings

from tests.repository import tree


def test_the_page_of_the_api_is_what_its_generator_writes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gradio's own
        from tools import api_docs

        made = api_docs.page()
    assert made == (tree.ROOT / "docs" / "api.md").read_text(encoding="utf-8"), "run: make docs"
    assert made.count("\n### ") > 40
