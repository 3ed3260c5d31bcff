"""A newcomer draws, rates, learns and judges blind: how far the tuned checkpoint is preferred, in what time.

    python -m benchmarks.newcomer [--times 3]

In a real Chromium, on a new studio each time. Only what the pages offer is pressed, nothing is read. The
taste is simulated: it looks at the pixels that the page shows and at nothing else.
"""

from __future__ import annotations

import argparse
import io
import re
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from benchmarks.browser import DESK, chromium
from benchmarks.common import Line, Studio, publish, studio

WORK_MS = 1_500_000
"""How long a loaded machine may take for one part."""
MIN_PREFERRED, MAX_MINUTES = 70, 15
AWAY_SECONDS = 8
TIE = 0.02
"""Of the liking; differences below are not seen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    found = [once() for _ in range(times)]
    for number, (preferred, minutes) in enumerate(found, start=1):
        print(f"{number}: preferred {preferred}% after {minutes:.1f} minutes")
    publish(
        "newcomer",
        [
            Line(
                "preferred blind, least of all times", min(one for one, _ in found), "%", MIN_PREFERRED, True
            ),
            Line("preferred blind, mean", statistics.fmean(one for one, _ in found), "%"),
            Line("from the first page to the reveal, most", max(one for _, one in found), "min", MAX_MINUTES),
        ],
    )


def once(seeds: str = "") -> tuple[int, float]:
    """A new studio and a new newcomer: (percent, minutes).

    Args:
        seeds: typed where the first images are asked for; empty for new ones, as a newcomer has them.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        studio(Path(folder) / "home") as server,
        chromium() as browser,
    ):
        page = browser.new_page(viewport=DESK)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        began = time.monotonic()
        rate(page, server, draw(page, server, seeds))
        learn(page, server)
        preferred = judge(page, server)
        minutes = (time.monotonic() - began) / 60
    return preferred, minutes


def liking(page: Page, url: str) -> float:
    """How much the newcomer likes an image: the busier, the better."""
    png = page.request.get(url if url.startswith("http") else page.url.split("/", 3)[0] + url).body()
    luma = np.asarray(Image.open(io.BytesIO(png)).convert("L").resize((32, 32)), dtype=float) / 255
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def sources(page: Page, images: str) -> list[str]:
    """Absolute addresses of the images that a selector finds."""
    found = page.locator(images).evaluate_all("all => all.map(image => image.src)")
    return [str(one) for one in found]


def comes_back(page: Page, place: str, state: str) -> None:
    """Looks after work now and then until it is in this state, and is elsewhere meanwhile: a page that shows
    work draws itself again and again, which takes half a core from the work itself."""
    address, until = page.url, time.monotonic() + WORK_MS / 1000
    seen = page.locator(place)
    expect(seen).to_be_visible()
    while seen.get_attribute("data-state") != state:
        assert time.monotonic() < until, f"{place} is not {state} yet: {seen.inner_text()}"
        page.goto("about:blank")
        page.wait_for_timeout(1000 * AWAY_SECONDS)
        page.goto(address)
        expect(seen).to_be_visible()


def draw(page: Page, server: Studio, seeds: str) -> int:
    """Generates the groups of the prompt set that leaves most to taste; gives how many."""
    page.goto(server.url)
    page.locator("#from-set button").first.click()
    page.locator("#prompt-set input").click()
    page.get_by_role("option", name=re.compile("portraits, open")).click()
    expect(page.locator("#plan")).to_contain_text("groups")
    page.locator("#seeds textarea, #seeds input").first.fill(seeds)
    page.locator("#generate").click()
    page.wait_for_url(re.compile("group="))
    comes_back(page, ".batch", "done")
    return int(page.locator("#group .title").inner_text().split()[0])


def rate(page: Page, server: Studio, groups: int) -> None:
    page.goto(f"{server.url}/rate")
    expect(page.locator(".card[data-task]")).to_be_visible()
    page.keyboard.press("Escape")  # the guidelines of a first visit
    for _ in range(groups):
        card = page.locator(".card[data-task]")
        if not card.count():
            page.keyboard.press("Enter")  # the end of a batch
            expect(card).to_be_visible()
        before = card.get_attribute("data-turn")
        liked = [liking(page, url) for url in sources(page, ".choice img")]
        page.keyboard.press(str(1 + int(np.argmax(liked))))
        page.keyboard.press("Enter")
        page.wait_for_function(
            "before => document.querySelector('.card')?.dataset.turn !== before", arg=before
        )


def learn(page: Page, server: Studio) -> None:
    page.goto(f"{server.url}/train")
    page.get_by_role("button", name="Learn from my ratings").click()
    run = page.locator(".headline[data-run]")
    expect(run).to_be_visible(timeout=WORK_MS)
    page.goto(f"{server.url}/train?run={run.get_attribute('data-run')}")
    comes_back(page, ".headline[data-run]", "completed")


def judge(page: Page, server: Studio) -> int:
    """Judges a blind test of the base against what was learned; the percent that prefers the latter."""
    page.goto(f"{server.url}/compare?tab=blind")
    page.get_by_role("button", name="Start blind A/B").click()
    page.get_by_role("link", name=re.compile(r"Judge \d+ pairs")).first.click(timeout=WORK_MS)
    card = page.locator(".blind[data-pair]")
    expect(card).to_be_visible()
    while card.count():
        pair = card.get_attribute("data-pair")
        left, right = (liking(page, url) for url in sources(page, ".frame img.own"))
        is_tie = abs(left - right) < TIE * (left + right) / 2
        page.wait_for_selector(".sides.ready")
        page.keyboard.press("t" if is_tie else "a" if left > right else "d")
        page.wait_for_function("pair => document.querySelector('.blind')?.dataset.pair !== pair", arg=pair)
    page.locator(".sure summary").click()
    page.get_by_role("button", name="Reveal and end the test").click()
    said = page.locator(".duel .sum").first
    expect(said).to_contain_text("preferred", timeout=WORK_MS)
    found = re.search(r"preferred (\d+)%", said.inner_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main()
