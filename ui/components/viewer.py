"""The viewer: two images at full size, opened by a light table; once on a page. Its script does the rest."""

from __future__ import annotations

from ui.components import live, render


def build() -> None:
    """Adds the viewer to the page that is being built."""
    live("viewer", render("viewer.html"), js="viewer.js")
