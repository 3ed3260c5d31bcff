"""Every page is usable without a mouse, without colour and with a screen reader, as far as axe can tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from storage import checkpoints, users
from storage.engine import open_database
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE
PAGES = (
    "/",
    "/rate",
    *(f"/compare?tab={tab}" for tab in ("grid", "axes", "blind", "leaderboard", "evaluations")),
    "/blind",
    "/train",
    *(f"/library?tab={tab}" for tab in ("images", "prompts", "checkpoints", "bases", "rewards", "datasets")),
    *(f"/team?tab={tab}" for tab in ("people", "assignment", "agreement", "quality", "audit", "storage")),
)
SEVERE = ("serious", "critical")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio with something on every page."""
    db = open_database(ready(tmp_path_factory.mktemp("axe") / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    users.add_user(db, "Aiko", "annotator")
    for _ in range(3):
        finished_group(db, [0.1, 0.2, 0.5, 0.7], checkpoint=base)
    with web(db) as url:
        yield url
    db.close()


def severe(page: Page) -> list[str]:
    """What axe calls serious or critical, each with the first place where it is."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in SEVERE]


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(browser: Browser, site: str, shade: str) -> None:
    page = browser.new_page(color_scheme=shade, viewport={"width": 1440, "height": 900})  # type: ignore[arg-type]
    found: dict[str, list[str]] = {}
    for path in PAGES:
        page.goto(site + path)
        expect(page.locator("[data-act=shade]").first).to_be_visible()
        page.wait_for_timeout(800)  # what a load handler draws
        if problems := severe(page):
            found[path] = problems
    page.close()
    assert found == {}
