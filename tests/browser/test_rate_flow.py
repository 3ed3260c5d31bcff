"""A day of an annotator, by keyboard alone: practice, every way to judge, skips, undo, keys of their own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image as Picture
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from storage import blobs, checkpoints, checks, groups, rating_rules, ratings, snapshots, users
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.models import Checkpoint, RatingEvent
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE


@dataclass(frozen=True)
class Flow:
    """The Rate page on a data folder of its own."""

    db: Database
    page: Page
    url: str
    base: Checkpoint

    def groups(self, number: int, size: int = 4) -> list[GroupView]:
        """New groups, the one that comes first at the front."""
        return [finished_group(self.db, [0.1] * size, checkpoint=self.base) for _ in range(number)][::-1]

    def open(self) -> None:
        self.page.goto(f"{self.url}/rate")
        expect(self.page.locator(".card")).to_be_visible()

    def shows(self, view: GroupView) -> None:
        expect(self.page.locator(".card[data-task]")).to_have_attribute("data-task", view.group.id)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def events(self) -> list[RatingEvent]:
        with self.db.read() as session:
            return list(session.scalars(select(RatingEvent).order_by(RatingEvent.seq)))


@pytest.fixture
def flow(page: Page, tmp_path: Path) -> Iterator[Flow]:
    db = open_database(ready(tmp_path / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        yield Flow(db, page, url, base)
        page.goto("about:blank")
    db.close()


def ids(view: GroupView) -> list[str]:
    return [one.image.id for one in view.images]


def test_a_first_visit_reads_practises_and_then_votes(flow: Flow) -> None:
    practice, later = flow.groups(2)
    checks.add_check(flow.db, practice.group.id, ids(practice)[2:3], True, "Only this one wears glasses.")
    flow.open()
    drawer = flow.page.locator(".drawer")
    expect(drawer).to_contain_text("Which image fits the prompt best?")
    expect(drawer).to_contain_text("Practise on 1 group")
    flow.shows(practice)
    expect(flow.page.locator(".card")).to_contain_text("Practice: nothing said here is a vote.")
    flow.press("1", "Enter")
    expect(flow.page.locator(".verdict")).to_contain_text("The accepted answer is another one.")
    expect(flow.page.locator(".verdict")).to_contain_text("Only this one wears glasses.")
    flow.press("u")
    flow.shows(practice)
    flow.press("3", "Enter")
    expect(flow.page.locator(".verdict")).to_contain_text("This answer is accepted.")
    flow.press("Escape")
    expect(drawer).to_be_hidden()
    flow.press("Enter")
    flow.shows(later)
    flow.press("2", "Enter")
    expect(flow.page.locator(".empty")).to_contain_text("You have rated 1 group.")
    assert [vote.image_id for vote in snapshots.standing_votes(flow.db)] == [ids(later)[1]]
    flow.open()
    expect(flow.page.locator(".empty")).to_be_visible()
    expect(drawer).to_be_hidden()


def test_a_group_is_judged_in_every_way_by_keys_alone(flow: Flow) -> None:
    made = flow.groups(6)
    flow.open()
    flow.shows(made[0])
    flow.press("2", "Shift+4", "Enter")
    flow.shows(made[1])
    flow.press("0", "Enter")
    flow.shows(made[2])
    flow.press("m")
    left, right = (flow.page.locator(".card").get_attribute("data-pair") or "").split()
    flow.press("ArrowRight")
    flow.shows(made[3])
    flow.press("t")
    flow.shows(made[4])
    flow.press("m", "4", "ArrowRight", "1", "Enter")
    flow.shows(made[5])
    flow.press("m", "3", "1", "Shift+2", "f", "1", "Enter", "Enter")
    expect(flow.page.locator(".empty")).to_be_visible()
    said = [ratings.current_ratings(flow.db, view.group.id) for view in made]
    assert (said[0].best, said[0].worst) == (ids(made[0])[1], ids(made[0])[3])
    assert said[1].none_good and said[1].order == [ids(made[1])]
    assert said[2].pairs == {(left, right): "right"} and {left, right} <= set(ids(made[2]))
    assert list(said[3].pairs.values()) == ["tie"]
    assert said[4].stars == {ids(made[4])[0]: 4, ids(made[4])[1]: 1}
    a, b, c, _ = ids(made[5])
    assert (said[5].order, said[5].flags) == ([[c], [a, b]], {b: ["broken"]})
    assert (users.get_user(flow.db, "local").preferences or {})["mode"] == "rank"


def test_typing_a_note_presses_no_key_of_the_card_and_a_note_stands_with_a_flag(flow: Flow) -> None:
    (view,) = flow.groups(1)
    flow.open()
    flow.shows(view)
    flow.press("f")
    flow.page.locator("[data-note]").focus()
    flow.page.keyboard.type("sub 1 zoom")
    flow.press("Enter")
    expect(flow.page.locator("dialog[open]")).to_have_count(0)
    flow.press("Enter")
    expect(flow.page.locator(".empty")).to_be_visible()
    said = ratings.current_ratings(flow.db, view.group.id)
    assert (said.flags, said.notes, said.best) == ({None: ["other"]}, {None: "sub 1 zoom"}, None)


def test_a_skip_may_have_a_reason_and_three_acts_are_taken_back_each_in_its_own_way(flow: Flow) -> None:
    made = flow.groups(4)
    flow.open()
    flow.shows(made[0])
    flow.press("s", "2")
    flow.shows(made[1])
    flow.press("3", "Shift+1", "Enter")
    flow.shows(made[2])
    flow.press("m", "m", "5", "Enter")
    flow.shows(made[3])
    assert [event.payload for event in flow.events() if event.kind == "skip"] == [{"reason": "cannot"}]
    flow.press("u")
    flow.shows(made[2])
    expect(flow.page.locator(".card")).to_have_attribute("data-mode", "stars")
    expect(flow.page.locator(".choice").first.locator("[data-star='5']")).to_have_attribute(
        "aria-checked", "true"
    )
    flow.press("Backspace")
    flow.shows(made[1])
    expect(flow.page.locator(".card")).to_have_attribute("data-mode", "best")
    expect(flow.page.locator(".choice.best")).to_have_attribute("data-id", ids(made[1])[2])
    expect(flow.page.locator(".choice.worst")).to_have_attribute("data-id", ids(made[1])[0])
    flow.press("u")
    flow.shows(made[0])
    flow.press("u")
    expect(flow.page.locator(".saved")).to_have_text("nothing to undo")
    assert snapshots.standing_votes(flow.db) == []


def test_a_key_is_changed_a_taken_one_is_refused_and_single_keys_can_be_switched_off(flow: Flow) -> None:
    first, second = flow.groups(2)
    flow.open()
    flow.shows(first)
    flow.press("k")
    dialog = flow.page.locator(".keys-dialog")
    act = dialog.locator("[data-act-key=skip]")
    act.focus()
    flow.press("Enter", "u")
    expect(dialog.locator(".sentence")).to_have_text("U is taken: undo. Choose another key.")
    act.focus()
    flow.press("Enter", "x")
    expect(act.locator("kbd")).to_have_text("X")
    flow.press("Escape")
    expect(dialog).to_be_hidden()
    expect(flow.page.locator(".keys [data-key=skip]")).to_have_text("X")
    flow.press("s")
    flow.press("x", "x")
    flow.shows(second)
    assert [event.kind for event in flow.events()] == ["skip"]
    flow.press("k")
    dialog.locator("[data-choice=single]").focus()
    flow.press("Space")
    expect(dialog.locator("[data-choice=single]")).not_to_be_checked()
    flow.press("Escape")
    expect(dialog).to_be_hidden()
    flow.press("1", "x", "u")
    expect(flow.page.locator(".choice.best")).to_have_count(0)
    flow.press("ArrowRight", "Control+Enter")
    expect(flow.page.locator(".empty")).to_be_visible()
    assert [event.image_id for event in flow.events()][1:] == [ids(second)[1]]


def test_two_annotators_at_once_never_get_the_same_item_and_the_wait_is_told(
    flow: Flow, browser: Browser
) -> None:
    rating_rules.put_rule(flow.db, rating_rules.OVERLAP, {"share": 0, "raters": 1})
    ann = users.add_user(flow.db, "Ann", "annotator")
    made = flow.groups(5)
    other = browser.new_page()
    other.context.add_cookies([{"name": "studio-person", "value": ann.id, "url": flow.url}])
    hers = Flow(flow.db, other, flow.url, flow.base)
    flow.open()
    hers.open()
    for turn in range(1, 3):
        for one in (flow, hers):
            card = one.page.locator(".card[data-task]")
            expect(card).to_have_attribute("data-turn", str(turn))
            one.press("1", "Enter")
            expect(one.page.locator(".card")).to_have_attribute("data-turn", str(turn + 1))
    expect(hers.page.locator(".empty")).to_contain_text(
        "1 item is open with somebody else and frees up within 10 min."
    )
    flow.press("s", "s")
    expect(flow.page.locator(".empty")).to_be_visible()
    expect(other.locator(".card[data-task]")).to_be_visible()  # what is skipped goes to somebody else
    other.close()
    said = [(event.group_id, event.annotator_id) for event in flow.events() if event.kind == "best"]
    assert len({group for group, _ in said}) == 4
    assert {who for _, who in said} == {"local", ann.id}
    assert {view.group.id for view in made} > {group for group, _ in said}


def test_on_a_phone_everything_is_reached_by_touch_and_nothing_is_cut_off(flow: Flow) -> None:
    first, second = flow.groups(2)
    users.prefer(flow.db, "local", guidelines_read="")
    flow.page.set_viewport_size({"width": 390, "height": 844})
    flow.open()
    flow.page.get_by_role("button", name="Close").first.click()
    expect(flow.page.locator(".drawer")).to_be_hidden()
    flow.shows(first)
    assert flow.page.evaluate("document.documentElement.scrollWidth") <= 390
    heights = """() => [...document.querySelectorAll('.card button')].filter((one) => one.offsetParent)
      .map((one) => one.getBoundingClientRect().height)"""
    assert min(flow.page.evaluate(heights)) >= 44
    flow.page.locator(".choice .pick").nth(2).click()
    flow.page.locator("[data-do=worst]").click()
    flow.page.locator(".choice .pick").nth(0).click()
    flow.page.locator("[data-act=submit]").click()
    flow.shows(second)
    flow.page.get_by_role("button", name="Pair").click()
    flow.page.locator("[data-do=tie]").click()
    expect(flow.page.locator(".empty")).to_be_visible()
    said = ratings.current_ratings(flow.db, first.group.id)
    assert (said.best, said.worst) == (ids(first)[2], ids(first)[0])
    assert list(ratings.current_ratings(flow.db, second.group.id).pairs.values()) == ["tie"]


def test_large_images_that_were_only_seen_small_are_offered_enlarged_before_both_are_called_bad(
    flow: Flow,
) -> None:
    view = large_group(flow)
    users.prefer(flow.db, "local", mode="pair")
    flow.open()
    flow.shows(view)
    flow.press("b")
    asked = flow.page.locator("dialog[data-asks=enlarge]")
    expect(asked).to_contain_text("Enlarge before deciding?")
    flow.press("Enter")
    box = flow.page.locator("dialog.lightbox")
    expect(box).to_be_visible()
    assert box.locator("img").evaluate("one => one.clientWidth") > 600
    shown = box.locator("img").get_attribute("src")
    flow.page.keyboard.down("Space")
    expect(box.locator("img")).not_to_have_attribute("src", shown or "")
    flow.page.keyboard.up("Space")
    expect(box.locator("img")).to_have_attribute("src", shown or "")
    flow.press("z")
    expect(box).to_be_hidden()
    assert flow.events() == []
    flow.press("b")
    expect(flow.page.locator(".empty")).to_be_visible()
    assert [event.payload["outcome"] for event in flow.events()] == ["bad"]


def large_group(flow: Flow) -> GroupView:
    """Two images that a screen shows at a third of their size."""
    group = groups.request_group(
        flow.db, prompt="a field", checkpoint_id=flow.base.id, config={}, seeds=[1, 2], worker_id="w"
    )
    for index, shade in enumerate((90, 160)):
        file = io.BytesIO()
        Picture.new("RGB", (1024, 1024), (shade, shade, shade)).save(file, "PNG")
        sha = blobs.put_png(flow.db.home, file.getvalue())
        groups.add_image(
            flow.db, group_id=group.id, index=index, seed=index, sha256=sha, width=1024, height=1024
        )
    groups.finish_group(flow.db, group.id)
    return groups.get_group(flow.db, group.id)


def test_after_twenty_the_card_says_how_it_went_and_goes_on(flow: Flow) -> None:
    made = flow.groups(21, size=2)
    users.prefer(flow.db, "local", auto_best=True)
    for number, view in enumerate(made[:19]):
        one = ratings.RatingInput(
            f"key {number}", "local", view.group.id, "best", ids(view)[0], lead_ms=12000
        )
        ratings.submit(flow.db, "local", view.group.id, [one])
    flow.open()
    flow.shows(made[19])
    expect(flow.page.locator(".foot")).to_contain_text("19 / 21 · 19 today · 1 left in this batch")
    flow.press("1")
    expect(flow.page.locator(".empty")).to_contain_text("20 done in 4 min.")
    expect(flow.page.locator(".empty")).to_contain_text("shown after 30 shared items; there are 0.")
    flow.press("Enter")
    flow.shows(made[20])


def test_a_web_that_starts_again_in_the_middle_loses_nothing_that_was_chosen_or_said(
    page: Page, tmp_path: Path
) -> None:
    db = open_database(ready(tmp_path / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with ExitStack() as first:
        url = first.enter_context(web(db))
        flow = Flow(db, page, url, base)
        made = flow.groups(4)
        flow.open()
        flow.shows(made[0])
        flow.press("2", "Enter")
        flow.shows(made[1])
        flow.press("3")
    flow.press("Enter")
    with web(db, urlsplit(url).port or 0):
        expect(page.locator(".saved")).to_have_text("")  # the page loads itself again, with what was chosen
        expect(page.locator(".choice.best")).to_have_attribute("data-id", ids(made[1])[2])
        flow.press("Enter")
        flow.shows(made[2])
        flow.press("1", "Enter")
        flow.shows(made[3])
        flow.press("4")
        page.reload()
        flow.shows(made[3])
        expect(page.locator(".choice.best")).to_have_attribute("data-id", ids(made[3])[3])
        flow.press("Enter")
        expect(page.locator(".empty")).to_be_visible()
        page.goto("about:blank")
    said = [vote.image_id for vote in snapshots.standing_votes(db)]
    assert said == [ids(view)[place] for view, place in zip(made, (1, 2, 0, 3), strict=True)]
    db.close()
