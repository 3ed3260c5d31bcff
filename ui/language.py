"""The words on the screen: every static label once, by a key, in each language.

They stand in assets/words/<language>/<page>.toml. One language holds for the whole studio
(`python app.py serve --language ja`); a key that a language lacks is shown in English.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

WORDS = Path(__file__).parent / "assets" / "words"
FIRST = "en"
_spoken = FIRST


def languages() -> list[str]:
    """What can be spoken."""
    return sorted(folder.name for folder in WORDS.iterdir() if folder.is_dir())


def speak(language: str) -> None:
    """Chooses the language of the pages that are built from now on.

    Raises:
        ValueError: there is none of this name.
    """
    global _spoken
    if language not in languages():
        raise ValueError(f"expected one of the languages {', '.join(languages())}, got {language!r}")
    _spoken = language


def spoken() -> str:
    """The language in use."""
    return _spoken


def t(key: str, **values: Any) -> str:
    """The words of a key, such as "studio.generate"; `{name}` in them is replaced by the value of that name.

    Raises:
        KeyError: no language has it.
    """
    known = catalog(_spoken).get(key) or catalog(FIRST)[key]
    return known.format(**values) if values else known


def counted(key: str, n: int, **values: Any) -> str:
    """The words of a key with the number `{n}`; those of `<key>_one` for one of them."""
    return t(f"{key}_one" if n == 1 else key, n=f"{n:,}", **values)


@cache
def catalog(language: str) -> dict[str, str]:
    """Every key of a language with its words; the file's name is the first part of the key."""
    found: dict[str, str] = {}
    for path in sorted((WORDS / language).glob("*.toml")):
        found |= {f"{path.stem}.{key}": words for key, words in tomllib.loads(path.read_text()).items()}
    return found
