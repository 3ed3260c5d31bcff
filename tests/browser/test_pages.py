"""Pages without an engine: what is shown is in the address, and what is refused is a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from storage import checkpoints, engine, runs
from storage.engine import Database, open_database
from storage.locks import FileLock
from storage.models import Checkpoint
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web
from ui import tuning
from ui.forms import RunForm
from ui.services import Services

pytestmark = GRADIO_NOISE


@dataclass(frozen=True)
class Site:
    """A studio without an engine."""

    db: Database
    url: str
    base: Checkpoint


@pytest.fixture
def site(page: Page, tmp_path: Path) -> Iterator[Site]:
    db = open_database(ready(tmp_path / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        yield Site(db, url, base)
        page.goto("about:blank")
    db.close()


def shows(page: Page, number: int) -> None:
    """Waits for a group's own title."""
    expect(page.locator("#group .title")).to_have_text(f"Group {number}")


def test_an_older_group_is_shown_again_after_a_reload(page: Page, site: Site) -> None:
    older, _ = (finished_group(site.db, checkpoint=site.base).group for _ in range(2))
    page.goto(site.url)
    shows(page, 2)
    assert page.url.rstrip("/") == site.url
    page.locator("#recent button").nth(1).click()
    shows(page, 1)
    expect(page).to_have_url(f"{site.url}/?group={older.id}")
    page.reload()
    shows(page, 1)


def test_a_new_group_takes_the_place_of_an_older_one_in_the_address(page: Page, site: Site) -> None:
    older = finished_group(site.db, checkpoint=site.base).group
    page.goto(f"{site.url}/?group={older.id}&checkpoint={site.base.id}")
    shows(page, 1)
    page.locator("#generate").click()
    shows(page, 2)
    page.reload()
    shows(page, 2)
    assert f"checkpoint={site.base.id}" in page.url


def test_an_older_run_is_shown_again_after_a_reload(page: Page, site: Site) -> None:
    form = RunForm(prompts="portrait, smile", weights={"verifier": 1})
    older, _ = (tuning.start(Services(site.db), site.base.id, form) for _ in range(2))
    page.goto(f"{site.url}/train")
    expect(page.locator("#run .title")).to_contain_text("Run 2")
    page.locator("#runs [data-act=open]").nth(1).click()
    expect(page.locator("#run .title")).to_contain_text("Run 1")
    expect(page).to_have_url(f"{site.url}/train?run={older.id}")
    page.reload()
    expect(page.locator("#run .title")).to_contain_text("Run 1")


def test_a_disk_that_refuses_is_a_sentence_on_the_page_and_the_form_stays(
    page: Page, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 200)
    page.goto(site.url)
    page.locator("#prompt textarea").fill("portrait, buns")
    gate = FileLock(site.db.home / "locks" / "write.lock")
    gate.acquire()
    page.locator("#generate").click()
    expect(page.locator("#message")).to_contain_text("Not saved: another process kept the database busy")
    gate.release()
    expect(page.locator("#prompt textarea")).to_have_value("portrait, buns")
    page.locator("#generate").click()
    shows(page, 1)
    expect(page.locator("#message .sentence")).to_have_count(0)


def test_cancel_is_pressed_on_the_run_that_is_shown(page: Page, site: Site) -> None:
    run = tuning.start(Services(site.db), site.base.id, RunForm(prompts="portrait", weights={"verifier": 1}))
    page.goto(f"{site.url}/train?run={run.id}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".headline[data-run]")).to_have_attribute("data-state", "canceled")
    assert runs.get_run(site.db, run.id).state == "canceled"
