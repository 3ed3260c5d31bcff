"""What a page may cost: bytes of ours, elements, images in full size, and queries however much there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Response, expect
from sqlalchemy import event, update

from benchmarks import rows
from storage import checkpoints
from storage.engine import Database, open_database
from storage.models import Image
from tests.storage.ready import ready
from tests.ui.serving import GRADIO_NOISE, web
from ui import rating_card

pytestmark = GRADIO_NOISE
PAGES = ("/", "/rate", "/compare", "/train", "/library", "/team")
FEW, MANY = 400, 4_000
"""Images."""
MAX_OWN_BYTES = 300_000
"""Of a page's own styles, scripts and markup, not compressed; Gradio's come on top."""
MAX_ELEMENTS = 3_000
MAX_MORE = 1.5
"""Times; timers ask once more or once less."""


@dataclass
class Visit:
    """What came when a page was opened."""

    own_bytes: int = 0
    full_size: list[str] = field(default_factory=list)
    elements: int = 0
    statements: int = 0


@dataclass(frozen=True)
class Site:
    """A studio with a library."""

    db: Database
    url: str
    statements: list[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    db = open_database(ready(tmp_path_factory.mktemp("budgets") / "home"))
    checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    rows.fill(db, FEW)
    larger(db)
    asked: list[str] = []

    def note(_: object, __: object, statement: str, *rest: object) -> None:
        asked.append(statement)

    for engine in (db._reader, db._writer):
        event.listen(engine, "before_cursor_execute", note)
    with web(db) as url:
        yield Site(db, url, asked)
    db.close()


def larger(db: Database) -> None:
    """The images say that they are too large for a tile."""
    with db.write() as session:
        session.execute(update(Image).values(width=1024, height=1024))


def visit(browser: Browser, site: Site, path: str) -> Visit:
    """Opens a page as for the first time, and leaves it."""
    seen = Visit()
    page = browser.new_page(viewport={"width": 1440, "height": 900})

    def came(response: Response) -> None:
        where = urlsplit(response.url).path
        if where.startswith("/media/") and not where.startswith("/media/thumb/"):
            seen.full_size.append(where)
        elif where.startswith("/static/") or where == urlsplit(path).path:
            seen.own_bytes += len(response.body())

    page.on("response", came)
    site.statements.clear()
    page.goto(site.url + path)
    settled(page)
    seen.statements = len(site.statements)
    seen.elements = page.locator("*").count()
    page.goto("about:blank")
    page.close()
    return seen


def settled(page: Page) -> None:
    """Waits until what load handlers draw is there."""
    expect(page.locator("[data-act=shade]").first).to_be_visible()
    page.wait_for_timeout(1500)


@pytest.fixture(scope="module")
def visits(browser: Browser, site: Site) -> dict[str, Visit]:
    """A first look at every page; a second tells how many queries it needs where nothing is slow to start."""
    first = {path: visit(browser, site, path) for path in PAGES}
    for path, seen in first.items():
        seen.statements = max(seen.statements, visit(browser, site, path).statements)
    return first


@pytest.mark.parametrize("path", [path for path in PAGES if path != "/rate"])
def test_no_image_comes_in_full_size_before_somebody_opens_it(visits: dict[str, Visit], path: str) -> None:
    assert visits[path].full_size == []


def test_a_card_brings_its_own_images_and_those_of_the_next_two(visits: dict[str, Visit]) -> None:
    assert len(visits["/rate"].full_size) == (1 + rating_card.AHEAD) * rows.GROUP


@pytest.mark.parametrize("path", PAGES)
def test_a_page_stays_within_its_bytes_and_elements(visits: dict[str, Visit], path: str) -> None:
    assert 10_000 < visits[path].own_bytes <= MAX_OWN_BYTES
    assert 100 < visits[path].elements <= MAX_ELEMENTS


def test_ten_times_as_many_images_cost_no_more_queries(
    browser: Browser, site: Site, visits: dict[str, Visit]
) -> None:
    rows.fill(site.db, MANY, first=FEW)
    larger(site.db)
    more = {path: least(browser, site, path) / visits[path].statements for path in PAGES}
    assert max(more.values()) < MAX_MORE, more


def least(browser: Browser, site: Site, path: str) -> int:
    """Queries of the quieter of two visits: a busy machine lets timers tick more often in one of them."""
    return min(visit(browser, site, path).statements for _ in range(2))
