"""One person, one browser: generate, rate, train two updates, compare. Nothing leaves the machine."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Studio

WORK_MS = 280_000
"""How long a loaded machine may take for one group or one run."""
NASTY = "portrait, ${alert(1)} `${alert(2)}` {{7*7}} <img src=x onerror=alert(3)> wistful"


def number(page: Page, place: str, value: str) -> None:
    field = page.locator(f"#{place} input")
    field.fill(value)
    field.press("Tab")


def generate(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.locator("#prompt textarea").fill("portrait, red hair, smile")
    for place, value in (("group-size", "4"), ("steps", "2"), ("guidance", "1")):
        number(page, place, value)
    page.locator("#generate").click()
    expect(page.locator(".strip[data-state=done] .tile img")).to_have_count(4, timeout=WORK_MS)


def rate(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.url}/rate")
    expect(page.locator(".choice img")).to_have_count(4)
    page.keyboard.press("2")
    expect(page.locator(".choice.best")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".saved")).to_have_text("saved")
    page.keyboard.press("u")
    expect(page.locator(".choice.best")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".card.none")).to_contain_text("You have rated 1 group")


def train(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.url}/train")
    expect(page.locator(".checks li")).not_to_have_count(0)
    if not studio.has_rewards:
        page.locator(".steps [data-goto='3']").click()
        for place, value in (("verifier", "0"), ("clip", "0"), ("quality", "0"), ("diversity", "1")):
            number(page, f"weight-{place}", value)
    page.locator(".steps [data-goto='4']").click()
    for place, value in (("updates", "2"), ("train-group-size", "4")):
        number(page, place, value)
    page.locator("#start-run").click()
    expect(page.locator(".headline[data-run]")).to_have_attribute("data-state", "completed", timeout=WORK_MS)
    expect(page.locator(".curve")).not_to_have_count(0)
    expect(page.locator(".sample img")).not_to_have_count(0)


def compare(page: Page) -> None:
    page.get_by_role("link", name="Compare with its base").click()
    page.locator("#compare-prompts textarea").fill("portrait, red hair")
    number(page, "compare-images", "2")
    number(page, "compare-steps", "2")
    page.get_by_role("button", name="Generate 2 missing groups").click()
    expect(page.locator(".cell img")).to_have_count(4, timeout=WORK_MS)
    page.locator(".cell").nth(3).click()
    expect(page.locator(".pair img")).to_have_count(2)
    page.locator(".cut").fill("20")
    assert page.locator(".pair").evaluate("pair => pair.style.getPropertyValue('--cut')") == "20%"


@pytest.mark.timeout(900)
def test_a_person_generates_rates_trains_and_compares(page: Page, studio: Studio) -> None:
    generate(page, studio)
    rate(page, studio)
    train(page, studio)
    compare(page)


@pytest.mark.timeout(600)
def test_a_run_that_is_stopped_on_the_page_is_saved_and_can_be_resumed(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.url}/train")
    expect(page.locator(".checks li")).not_to_have_count(0)
    if not studio.has_rewards:
        page.locator(".steps [data-goto='3']").click()
        for place, value in (("verifier", "0"), ("clip", "0"), ("quality", "0"), ("diversity", "1")):
            number(page, f"weight-{place}", value)
    page.locator(".steps [data-goto='4']").click()
    for place, value in (("updates", "500"), ("train-group-size", "2")):
        number(page, place, value)
    page.locator("#start-run").click()
    run = page.locator(".headline[data-run]")
    expect(run).to_contain_text("of 500", timeout=WORK_MS)
    page.get_by_role("button", name="Stop and save").click()
    expect(run).to_have_attribute("data-state", "stopped", timeout=WORK_MS)
    expect(run).to_contain_text("stopped, saved at update")
    expect(page.locator("#run .sentence").first).to_contain_text("is saved: Resume goes on from there.")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.locator(".runs.flat > div")).not_to_have_count(0)


def test_a_refusal_keeps_what_was_typed(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.locator("#prompt textarea").fill("portrait, buns")
    number(page, "group-size", "1000")
    page.locator("#generate").click()
    expect(page.locator("#message")).to_contain_text("The group size must be from 1 to 64, not 1,000.")
    expect(page.locator("#prompt textarea")).to_have_value("portrait, buns")


def test_a_prompt_that_is_a_script_is_shown_and_not_run(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.locator("#prompt textarea").fill(NASTY)
    number(page, "group-size", "1")
    page.locator("#generate").click()
    expect(page.locator("#group .side h2")).to_have_text(NASTY)
    page.locator("#group [data-act=cancel]").click()
    expect(page.locator("#group .headline")).to_contain_text("Canceled")
    page.reload()
    expect(page.locator("#recent .what").first).to_have_text(NASTY)


@pytest.mark.parametrize("path", ["/", "/rate", "/compare", "/train"])
def test_no_page_is_wider_than_a_phone(browser: Browser, studio: Studio, path: str) -> None:
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(studio.url + path)
    expect(phone.locator(".topbar")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.close()
