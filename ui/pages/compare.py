"""Compare: one part at a time, the one that the address names (`/compare?tab=grid`)."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.components import HIDDEN, live, render, topbar, viewer
from ui.language import t
from ui.parts import Build, axes, blind, evaluations, grid, leaderboard, open_tab
from ui.services import Services

PATH = "/compare"
PARTS: tuple[tuple[str, Build], ...] = (
    ("grid", grid.build),
    ("axes", axes.build),
    ("blind", blind.build),
    ("leaderboard", leaderboard.build),
    ("evaluations", evaluations.build),
)
"""The tabs from left to right: each key of `ui.parts.TABS` with what builds its part. What a tab is called
stands under `compare.tab_<key>`."""


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`. Tabs are links, so each has an address and only one is in the browser."""
    topbar.build(page, PATH, services)
    tabs = live("tabs")
    columns = []
    for key, add in PARTS:
        with gr.Column(visible=False, elem_id=f"tab-{key}") as column:
            add(page, services)
        columns.append(column)
    viewer.build()

    def show(request: gr.Request) -> tuple[Any, ...]:
        here = open_tab(request)
        return tabs_html(here), *(gr.Column(visible=key == here) for key, _ in PARTS)

    page.load(show, None, [tabs, *columns], **HIDDEN)


def tabs_html(here: str) -> str:
    """Renders the row of tabs."""
    tabs = [(key, t(f"compare.tab_{key}")) for key, _ in PARTS]
    return render("tabs.html", tabs=tabs, here=here, path=PATH)
