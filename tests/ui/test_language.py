"""All words on the screen stand in every language, with the same holes to fill; none is asked for in vain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository import tree
from ui import language
from ui.language import FIRST, catalog, t

OTHERS = [name for name in language.languages() if name != FIRST]
HOLE = re.compile(r"\{(\w*)\}")
ASKED = re.compile(r"""\bt\(\s*(['"])([a-z_]+\.[a-z_0-9]+)\1\s*[,)]""")
"""A key that is written out: t("page.key", or t('page.key')."""
UI = tree.ROOT / "ui"


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    yield
    language.speak(FIRST)


def sources() -> list[Path]:
    return [*UI.rglob("*.py"), *(UI / "assets" / "templates").rglob("*.html")]


def test_there_are_two_languages_at_least() -> None:
    assert {"en", "ja"} <= set(language.languages())


@pytest.mark.parametrize("other", OTHERS)
def test_every_file_of_words_is_there_in_every_language(other: str) -> None:
    first, second = (
        {path.name for path in (language.WORDS / name).glob("*.toml")} for name in (FIRST, other)
    )
    assert first == second


@pytest.mark.parametrize("other", OTHERS)
def test_every_language_has_the_same_keys(other: str) -> None:
    assert catalog(FIRST).keys() ^ catalog(other).keys() == set()


@pytest.mark.parametrize("other", OTHERS)
def test_the_words_of_a_key_have_the_same_holes_in_every_language(other: str) -> None:
    differing = {
        key: (words, catalog(other)[key])
        for key, words in catalog(FIRST).items()
        if key in catalog(other) and set(HOLE.findall(words)) != set(HOLE.findall(catalog(other)[key]))
    }
    assert differing == {}


@pytest.mark.parametrize("name", language.languages())
def test_no_words_are_empty(name: str) -> None:
    assert [key for key, words in catalog(name).items() if not words.strip()] == []


@pytest.mark.parametrize("path", sources(), ids=tree.relative)
def test_every_key_that_is_asked_for_has_words(path: Path) -> None:
    asked = {found[1] for found in ASKED.findall(path.read_text(encoding="utf-8"))}
    assert asked - catalog(FIRST).keys() == set()


def test_the_keys_that_are_asked_for_are_found_where_they_stand() -> None:
    asked = {key for path in sources() for _, key in ASKED.findall(path.read_text(encoding="utf-8"))}
    assert {"shell.who", "keys.title", "team.added"} <= asked


def test_a_language_that_there_is_not_is_refused_and_the_others_named() -> None:
    with pytest.raises(ValueError, match="en, ja"):
        language.speak("tlh")
    assert language.spoken() == FIRST


def test_words_come_in_the_language_that_is_spoken_with_their_holes_filled() -> None:
    assert t("team.change_one", name="Ann") == "Change Ann"
    language.speak("ja")
    assert t("team.change_one", name="Ann") == "Annさんを変更"


def test_a_key_that_nobody_wrote_is_an_error() -> None:
    with pytest.raises(KeyError):
        t("team.nowhere_to_be_found")


PLAIN = {"FlowGRPO", "Studio", "Enter", "Esc", "Shift", "Space", "SHA-256", "UTC"}
"""Names, and what stands on keys."""


@pytest.mark.parametrize("path", sorted((UI / "assets" / "templates").rglob("*.html")), ids=tree.relative)
def test_a_template_has_no_words_of_its_own(path: Path) -> None:
    asked = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    said = re.findall(r'(?:title|alt|aria-label)="([^"]*)"', asked)
    said += re.sub(r"<[^>]*>", "\n", asked).splitlines()
    words = {word for line in said for word in re.findall(r"[A-Za-z][A-Za-z0-9-]{2,}", line)}
    assert words - PLAIN == set()
