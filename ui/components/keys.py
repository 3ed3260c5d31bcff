"""The keys of a page, shown by `?`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ui.components import render
from ui.language import t

Keys = Sequence[tuple[str, str]]
"""(keys, separated by spaces; the words' key in the catalogue, of keys.toml where it names no file)."""
EVERYWHERE: Keys = (
    ("?", "help"),
    ("Ctrl Enter", "go"),
    ("/", "prompt"),
    ("Esc", "close_dialog"),
    ("g s", "studio"),
    ("g r", "rate"),
    ("g c", "compare"),
    ("g t", "train"),
    ("g l", "library"),
    ("g m", "team"),
)
OF_PAGE: Mapping[str, Keys] = {
    "/": (("← →", "through"),),
    "/compare": (
        ("← ↑ → ↓", "compare_move"),
        ("Enter", "compare_open"),
        ("Space", "compare_hold"),
        ("Space", "flip"),
        ("1 2 3", "compare_way"),
        ("Z", "compare_whole"),
        ("+ − 0", "compare_zoom"),
    ),
    "/blind": (
        ("← A", "blind.key_left"),
        ("→ D", "blind.key_right"),
        ("T", "blind.key_tie"),
        ("B", "blind.key_bad"),
        ("S", "blind.key_skip"),
        ("U Backspace", "blind.key_undo"),
        ("Space", "blind.key_flip"),
        ("Z", "blind.key_zoom"),
    ),
}
"""Path to its own keys; those of /rate stand on its card, where they can be changed."""


def keys_html(here: str) -> str:
    """Renders the help of the page at path `here`."""
    scopes = [(t("keys.everywhere"), EVERYWHERE), (t("keys.here"), OF_PAGE.get(here, ()))]
    shown = [
        (title, [(press.split(), t(name if "." in name else f"keys.{name}")) for press, name in keys])
        for title, keys in scopes
        if keys
    ]
    return render("keys.html", scopes=shown)
