"""The address of the grid opens the same comparison again; a prompt set stands in it by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from storage import prompts
from storage.engine import Database
from storage.models import Checkpoint
from ui import comparing
from ui.components.light_table import PER_PAGE, grid_html, paging, strips
from ui.language import t
from ui.parts import grid_address, is_open, open_tab
from ui.services import Services

DEFAULTS = [grid_address.FIRST_PROMPTS, "7", 6, 8, 1.0, "", None, None]
"""What the form opens with, after its checkpoints."""


def opened(services: Services, address: str) -> tuple[Any, ...]:
    """The form of a query; what it leaves alone is as the form opens."""
    chosen, *rest = grid_address.opening(services, dict(parse_qsl(address, keep_blank_values=True)))
    kept = [usual if is_skip(one) else one for one, usual in zip(rest, DEFAULTS, strict=True)]
    return chosen.value, *kept


def is_skip(one: object) -> bool:
    return isinstance(one, dict) and one.get("__type__") == "update"


@pytest.mark.parametrize(
    "typed",
    [
        ("portrait, buns\nportrait↵smile & <b>", "7", 6, 8, 1.0, "", None, None),
        ("портрет, 人物", "3, 5, 900", 3, 16, 2.5, "hat & coat", 96, 128),
        (DEFAULTS[0], "1", 1, 1, 30.0, "", 64, None),
    ],
)
def test_what_was_written_opens_the_same_comparison(
    services: Services, base: Checkpoint, typed: tuple[Any, ...]
) -> None:
    form = ([base.id], *typed)
    address, notes = grid_address.address_of(services, 3, "", form)
    assert notes == [] and "tab=grid" in address and "page=3" in address
    again, before = comparing.check(services, *opened(services, address)), comparing.check(services, *form)
    assert [one.id for one in again.checkpoints] == [base.id]
    assert replace(again, checkpoints=before.checkpoints) == before
    assert grid_address.page_of(dict(parse_qsl(address))) == 3


def test_a_number_that_is_none_leaves_the_form_as_it_is(services: Services, base: Checkpoint) -> None:
    form = opened(services, "tab=grid&images=many&steps=&guidance=x&width=%3Cb%3E&page=-1&checkpoints=nobody")
    assert form == ([base.id], DEFAULTS[0], "7", 6, None, 1.0, "", None, None)
    assert grid_address.page_of({"page": "-1"}) == grid_address.page_of({"page": "9" * 30}) == 0


def test_a_prompt_set_fills_in_its_held_out_prompts_and_stands_in_the_address(
    services: Services, db: Database, base: Checkpoint
) -> None:
    made = prompts.save_prompt_set(db, "portraits", ["one", "two"], ["three", "four\nfive"])
    source = f"{made.id}:held_out"
    assert ("portraits v1 · 2 held out", source) in grid_address.set_choices(services)
    found = grid_address.set_prompts(services, source)
    assert found is not None and found.lines == ("three", "four↵five")
    form = ([base.id], "\n".join(found.lines), *DEFAULTS[1:])
    address, notes = grid_address.address_of(services, 0, source, form)
    assert "prompts=" not in address and notes == []
    assert comparing.check(services, *opened(services, address)).prompts == ("three", "four\nfive")
    changed = ([base.id], "three\nsix", *DEFAULTS[1:])
    address, _ = grid_address.address_of(services, 0, source, changed)
    assert "set=" not in address and opened(services, address)[1] == "three\nsix"


def test_a_set_with_more_prompts_than_fit_says_so(services: Services, db: Database, base: Checkpoint) -> None:
    made = prompts.save_prompt_set(db, "many", [f"prompt {n}" for n in range(40)], [])
    source = f"{made.id}:train"
    found = grid_address.set_prompts(services, source)
    assert found is not None and (len(found.lines), found.total) == (comparing.MAX_PROMPTS, 40)
    form = ([base.id], "\n".join(found.lines), *DEFAULTS[1:])
    _, (note,) = grid_address.address_of(services, 0, source, form)
    assert note.startswith("The first 24 of the 40 prompts of “many”")
    assert note in grid_html(services, comparing.check(services, *form), notes=[note])


def test_prompts_that_are_too_long_for_an_address_are_left_out_and_it_says_so(
    services: Services, base: Checkpoint
) -> None:
    form = ([base.id], "\n".join(f"{n} " + "x" * 1900 for n in range(5)), *DEFAULTS[1:])
    address, notes = grid_address.address_of(services, 0, "", form)
    assert len(address) < 500 and notes == [t("compare.too_long")]


def test_a_set_that_is_gone_is_not_chosen(services: Services, base: Checkpoint) -> None:
    for source in ("", "nobody:held_out", "nobody", None, 3):
        assert grid_address.set_prompts(services, source) is None
    assert grid_address.asked_set(services, {"set": "nobody:train"}) == ""


def test_a_page_of_the_table_has_at_most_60_images_and_all_pages_have_all_prompts(
    services: Services, base: Checkpoint
) -> None:
    lines = [f"portrait, {n}" for n in range(24)]
    plan = comparing.check(services, [base.id], "\n".join(lines), "7", 8, 8, 1.0)
    per_page, pages = paging(plan)
    assert per_page * 8 <= PER_PAGE
    seen = [
        line for page in range(pages) for line in lines if f">{line}</h2>" in grid_html(services, plan, page)
    ]
    assert seen == lines
    assert grid_html(services, plan, 99) == grid_html(services, plan, pages - 1)


def test_with_one_seed_the_prompts_stand_beside_each_other(services: Services, base: Checkpoint) -> None:
    plan = comparing.check(services, [base.id], "a\nb\nc", "7", 1, 8, 1.0)
    (table,) = strips(plan, comparing.cells(services, plan))
    assert table.heads == ["a", "b", "c"] and len(table.rows[0][1]) == 3


class Asked:
    """A request with a query."""

    def __init__(self, **query: str) -> None:
        self.query_params = query


def test_only_the_tab_that_the_address_names_is_open() -> None:
    assert open_tab(Asked()) == open_tab(Asked(tab="nothing")) == "grid"
    assert is_open(Asked(tab="axes"), "axes") and not is_open(Asked(tab="axes"), "grid")
    assert is_open(Asked(group="x"), "grid") and not is_open(Asked(tab="blind"), "grid")
