"""The address of an X/Y grid opens the same grid again, saved or not."""

from __future__ import annotations

from itertools import permutations
from urllib.parse import parse_qsl

import pytest

from storage import checkpoints
from storage.engine import Database
from storage.models import Checkpoint
from tests.ui.test_axes import form
from ui import axes, axes_cells
from ui.axes import KEYS, AxesForm
from ui.forms import Refused
from ui.parts import axes as part
from ui.parts import axes_form
from ui.services import Services

NUMBERS = ("seed", "steps", "guidance", "width", "height")
"""Fields of the form that take nothing but numbers."""


def opened(services: Services, address: str) -> AxesForm:
    return axes_form.opening(services, dict(parse_qsl(address)))


def test_a_grid_that_is_not_saved_is_opened_again_by_its_address(
    services: Services, base: Checkpoint
) -> None:
    for x, y in permutations(KEYS, 2):
        asked = form(base, x, y, width=64, height=96, negative="hat")
        spec = axes.spec_of(asked)
        assert axes.spec_of(opened(services, axes_form.address_of(spec, None))) == spec


def test_a_saved_grid_is_opened_by_its_id_alone(services: Services, base: Checkpoint) -> None:
    for x, y in (("steps", "guidance"), ("checkpoint", "none"), ("negative", "prompt")):
        plan = axes.check(services, form(base, x, y, width=96, prompt="portrait,\nred hair"))
        saved = axes_cells.save(services, plan, "")
        address = axes_form.address_of(plan.spec, saved)
        assert address == f"tab=axes&grid={saved.id}"
        again = opened(services, address)
        assert axes.check(services, again) == plan
        assert all(isinstance(getattr(again, name), int | float | None) for name in NUMBERS)


def test_an_unknown_grid_opens_the_form_as_it_starts(services: Services, base: Checkpoint) -> None:
    assert opened(services, "tab=axes&grid=nothing") == opened(services, "tab=axes")
    form = opened(services, "tab=axes")
    typed = tuple(getattr(form, name) for name in axes_form.NAMES)
    _, words, html, _ = part.drawing(services, "nothing", typed)
    assert "There is no saved grid with the id nothing" in words and "Steps × guidance" in html


def test_a_grid_that_is_too_long_for_an_address_has_none_until_it_is_saved(
    services: Services, base: Checkpoint
) -> None:
    lines = "\n".join(f"{n} " + "x" * 1900 for n in range(5))
    plan = axes.check(services, form(base, "prompt", "none", x_values=lines))
    assert axes_form.address_of(plan.spec, None) == ""
    assert axes_form.address_of(plan.spec, axes_cells.save(services, plan, "")).startswith("tab=axes&grid=")


def test_what_was_changed_is_saved_as_a_new_grid(services: Services, db: Database, base: Checkpoint) -> None:
    names = axes_form.NAMES

    def typed(**changes: object) -> tuple[object, ...]:
        return tuple(getattr(form(base, **changes), name) for name in names)  # type: ignore[arg-type]

    first = part.work(services, "save", typed(), "mine", "local")
    *_, html, listed = part.drawing(services, first, typed())
    assert "Grid 1 · mine" in html and 'data-act="save"' not in html and 'aria-current="true"' in listed
    *_, html, _ = part.drawing(services, first, typed(seed=8))
    assert "changed from grid 1, not saved" in html and "Save as new" in html
    second = part.work(services, "generate", typed(seed=8), "mine", "local")
    *_, html, _ = part.drawing(services, second, typed(seed=8))
    assert second != first and "Grid 2 · mine" in html and "images still to come" in html
    part.work(services, "cancel", typed(seed=8), "mine", "local")
    *_, html, _ = part.drawing(services, second, typed(seed=8))
    assert "images still to come" not in html and 'data-act="generate"' in html


def test_a_grid_without_news_is_not_drawn_again(services: Services, base: Checkpoint) -> None:
    asked = form(base)
    typed = tuple(getattr(asked, name) for name in axes_form.NAMES)
    stamp, *_ = part.drawing(services, "", typed)
    assert part.drawing(services, "", typed, stamp)[0] != stamp
    axes_cells.generate(services, axes.check(services, asked))
    assert isinstance(part.drawing(services, "", typed, stamp)[0], str)


def test_an_address_that_makes_no_sense_opens_a_form_that_can_be_mended(
    services: Services, base: Checkpoint
) -> None:
    said = opened(services, "tab=axes&x=everything&y=&steps=many&seed=&checkpoint=nobody&width=x")
    assert (said.x, said.y, said.steps, said.seed) == ("steps", "guidance", 8, 7)
    assert ("nobody", "nobody") in axes_form.choices_for(services, said)
    with pytest.raises(Refused, match="not known here"):
        axes.check(services, said)


def test_a_saved_grid_whose_checkpoint_is_gone_names_it(services: Services, base: Checkpoint) -> None:
    saved = axes_cells.save(services, axes.check(services, form(base, "checkpoint", "none")), "")
    checkpoints.mark_checkpoint(services.db, base.id, "pruned")
    again = opened(services, f"tab=axes&grid={saved.id}")
    assert (base.name, base.id) in axes_form.choices_for(services, again)
    with pytest.raises(Refused, match="The files of checkpoint “starter” are pruned"):
        axes.check(services, again)


def test_a_checkpoint_that_the_browser_did_not_send_is_the_one_that_the_page_opened_with() -> None:
    typed = tuple(f"typed {name}" for name in axes_form.NAMES)
    place = axes_form.NAMES.index("checkpoint")
    assert part.held("usual", typed) == typed
    empties: list[object] = [None, "", []]
    for empty in empties:
        lost = (*typed[:place], empty, *typed[place + 1 :])
        assert part.held("usual", lost)[place] == "usual"
