"""The studio as the browser feels it: start to a usable page, memory, a vote's round trip at 1, 10 and 50
annotators, a page of a library of 1,000, 10,000 and 100,000 images in a real Chromium, and votes beside it.

    python -m benchmarks.web     (about six minutes)
"""

from __future__ import annotations

import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page

from benchmarks import rows
from benchmarks.browser import DESK, chromium
from benchmarks.common import Line, Studio, publish, studio
from benchmarks.rating import Crowd, crowd, wait_for_engine
from storage.engine import open_database

CROWDS = (Crowd(1, 2), Crowd(10, 6), Crowd(50, 30))
SIZES = (1_000, 10_000, 100_000)
TURNS = 12
"""Pages turned, of each size; the first few fill caches and do not count."""
WARM_TURNS = 2
SEARCH = "freckles smile"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        lines: list[Line] = []
        for part in (_starts, _votes, _library):
            found = part(home)
            print(*(f"{one.what}: {one.value:.4g} {one.unit}" for one in found), sep="\n", flush=True)
            lines += found
    publish("web", lines)


def _starts(home: Path) -> list[Line]:
    with studio(home) as first:
        cold = first.seconds
    starts = []
    for _ in range(3):
        with studio(home) as server:
            starts.append(server.seconds)
            pages = sorted(_page(server.url) for _ in range(20))
            maps = Path(f"/proc/{server.process.pid}/maps")
            tensors = maps.exists() and "libtorch" in maps.read_text()
    return [
        Line("first start in a new data folder", cold, "s"),
        Line("start to a usable page", statistics.median(starts), "s", 8.0),
        Line("the page again, median of 20", pages[10] * 1000, "ms"),
        Line("torch in the web process", float(tensors), "", 0.0),
    ]


def _page(url: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}/", timeout=20) as answer:
        answer.read()
    return time.perf_counter() - began


def _votes(home: Path) -> list[Line]:
    lines = []
    for who in CROWDS:
        with studio(home) as server:
            day = crowd(home, server.url, who)
            what = f"annotators: {who.annotators}, votes a second: {who.votes_per_second:g}"
            lines.append(Line(f"vote to next card, p95: {what}", day.share(0.95), "ms", 150.0))
            lines.append(Line(f"refused or failed: {what}", day.errors, "", 0.0))
            if who is CROWDS[-1]:
                lines.append(_memory(server, "memory of the web after them"))
    return lines


def _memory(server: Studio, what: str) -> Line:
    return Line(what, server.process.memory_info().rss / 1024**2, "MB", 400.0)


def _library(home: Path) -> list[Line]:
    lines, made = [], 0
    for size in SIZES:
        db = open_database(home)
        rows.fill(db, size, first=made)
        db.close()
        made = size
        with studio(home) as server:
            wait_for_engine(home)
            with chromium() as browser:
                page = browser.new_page(viewport=DESK)
                lines += [
                    Line(f"{size:,} images: next page", _turned(page, server.url), "ms", 300.0),
                    Line(f"{size:,} images: a search", _searched(page, server.url), "ms", 300.0),
                ]
            if size == SIZES[-1]:
                lines.append(_memory(server, "memory of the web after it"))
                day = crowd(home, server.url, CROWDS[1])
                what = f"annotators: {CROWDS[1].annotators}, {size // rows.GROUP:,} groups open"
                lines.append(Line(f"vote to next card, p95: {what}", day.share(0.95), "ms", 150.0))
    return lines


def _turned(page: Page, url: str) -> float:
    """Milliseconds from the click on "older" until the next page stands, median."""
    page.goto(f"{url}/library?tab=images")
    page.wait_for_selector(".wall figure")
    return statistics.median([_until_other(page, "#next-page") for _ in range(TURNS)][WARM_TURNS:])


def _searched(page: Page, url: str) -> float:
    """Milliseconds from the click on "find" until what was found stands, median."""
    took = []
    for _ in range(TURNS // 2):
        page.goto(f"{url}/library?tab=images")
        page.wait_for_selector(".wall figure")
        page.fill("#f-q", SEARCH)
        took.append(_until_other(page, "#f-find"))
    return statistics.median(took[1:])


def _until_other(page: Page, button: str) -> float:
    """Clicks, and waits until another image is the first one; measured in the page itself."""
    took = page.evaluate(
        """button => new Promise((done) => {
            const first = () => document.querySelector('.wall figure a')?.id;
            const before = first(), began = performance.now();
            const look = () => {
                if (first() !== before) done(performance.now() - began);
                else requestAnimationFrame(look);
            };
            document.querySelector(button).click();
            look();
        })""",
        button,
    )
    return float(took)


if __name__ == "__main__":
    main()
