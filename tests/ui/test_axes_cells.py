"""Images of an X/Y grid are reused, asked for once, and made in groups that cannot touch each other."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowgrpo.config import SamplingConfig
from storage import grids, groups, users
from storage.engine import Database
from storage.groups import REUSABLE
from storage.models import Checkpoint, ImageGroup
from tests.ui.conftest import MakeGroup, finished_group
from ui import axes, axes_cells, waiting
from ui.axes import AxesForm, AxesPlan
from ui.components.axes_table import axes_html, saved_html, tiles_of
from ui.services import Services

PROMPT = "portrait, red hair"


@pytest.fixture
def plan(services: Services, base: Checkpoint) -> AxesPlan:
    """Three seeds from left to right, two numbers of steps from top to bottom."""
    asked = AxesForm("seed", "7-9", (), "steps", "4, 8", (), checkpoint=base.id, prompt=PROMPT)
    return axes.check(services, asked)


def config(steps: int) -> dict[str, object]:
    return SamplingConfig(num_steps=steps, guidance_scale=1.0).model_dump()


def queued(services: Services) -> list[ImageGroup]:
    found = groups.recent_groups(services.db, kinds=REUSABLE, limit=100)
    return [view.group for view in reversed(found) if view.group.state == "queued"]


def html(services: Services, plan: AxesPlan) -> str:
    return axes_html(services, plan, axes_cells.cells(services, plan))


def test_cells_that_differ_by_their_seed_are_one_group_and_all_others_are_groups_of_their_own(
    services: Services, plan: AxesPlan
) -> None:
    assert axes_cells.generate(services, plan) == 6
    asked = [(group.config["num_steps"], group.seeds) for group in queued(services)]
    assert asked == [(4, [7, 8, 9]), (8, [7, 8, 9])]


def test_no_image_is_asked_for_twice(services: Services, plan: AxesPlan) -> None:
    axes_cells.generate(services, plan)
    assert axes_cells.generate(services, plan) == 0
    assert axes_cells.generate(services, plan, is_again=True) == 0
    assert len(queued(services)) == 2


def test_an_image_is_found_in_whatever_group_it_came(
    services: Services, plan: AxesPlan, make_group: MakeGroup
) -> None:
    made = make_group([0.5] * 4, prompt=PROMPT, config=config(4), seeds=[30, 8, 31, 32])
    known = axes_cells.cells(services, plan)
    there = [cell.found.image.id if cell.found and cell.found.image else None for cell in known]
    assert there == [None, made.images[1].image.id, None, None, None, None]
    assert axes_cells.generate(services, plan) == 5
    assert [group.seeds for group in queued(services)] == [[7, 9], [7, 8, 9]]


def test_run_again_draws_everything_anew_and_the_newest_images_are_shown(
    services: Services, db: Database, base: Checkpoint, plan: AxesPlan
) -> None:
    for steps in (4, 8):
        finished_group(db, [0.5] * 3, checkpoint=base, prompt=PROMPT, config=config(steps))
    before = [cell.found and cell.found.image for cell in axes_cells.cells(services, plan)]
    assert all(before) and axes_cells.generate(services, plan) == 0
    assert axes_cells.generate(services, plan, is_again=True) == 6
    assert waiting.cancel(services, axes_cells.views(axes_cells.cells(services, plan))) == 2
    after = [cell.found and cell.found.image for cell in axes_cells.cells(services, plan)]
    assert [one.id for one in after if one] == [one.id for one in before if one]
    newer = finished_group(db, [0.5] * 3, checkpoint=base, prompt=PROMPT, config=config(4))
    shown = axes_cells.cells(services, plan)[0].found
    assert shown is not None and shown.view.group.id == newer.group.id


def test_the_time_is_that_of_what_is_missing(
    services: Services, db: Database, base: Checkpoint, plan: AxesPlan
) -> None:
    assert axes_cells.seconds_for(services, plan.flat) is None
    group = finished_group(db, [0.5] * 2, checkpoint=base, prompt="another", config=config(5)).group
    with db.write() as session:
        row = session.merge(group)
        row.started_at = group.created_at
        row.finished_at = group.created_at + timedelta(seconds=20)
    each = services.seconds_per_evaluation()
    assert each == pytest.approx(2.0)  # 20 s for 2 images of 5 steps
    assert axes_cells.seconds_for(services, plan.flat) == pytest.approx(2 * 3 * (4 + 8))
    guided = axes.check(services, AxesForm(x_values="4", y_values="3", checkpoint=base.id, prompt=PROMPT))
    assert axes_cells.seconds_for(services, guided.flat) == pytest.approx(2 * 2 * 4)
    assert "Generate 6 missing images (about 72 s)" in html(services, plan)


def test_who_asked_for_the_images_and_saved_the_grid_is_kept(services: Services, plan: AxesPlan) -> None:
    mika = users.add_user(services.db, "mika", "artist")
    saved = axes_cells.save(services, plan, "", mika.id)
    axes_cells.generate(services, plan, mika.id)
    assert {group.created_by for group in queued(services)} == {mika.id}
    assert (saved.created_by, saved.name) == (mika.id, "Seed × steps")
    assert "Grid 1 · Seed × steps" in saved_html(services, "") and "6 images · mika" in saved_html(
        services, ""
    )


def test_saving_twice_keeps_one_grid_and_its_name(services: Services, plan: AxesPlan) -> None:
    first = axes_cells.save(services, plan, "for the talk")
    assert (
        axes_cells.save(services, plan, "").id
        == axes_cells.save(services, plan, "for the talk").id
        == first.id
    )
    assert axes_cells.save(services, plan, "another name").seq == 2
    assert len(grids.list_grids(services.db)) == 2


def test_every_cell_is_an_image_of_its_own_with_its_values_as_text(
    services: Services, plan: AxesPlan, make_group: MakeGroup
) -> None:
    for steps in (4, 8):
        make_group([0.5] * 3, prompt=PROMPT, config=config(steps))
    page = html(services, plan)
    assert page.count("<img") == 6
    assert 'alt="seed 8 · steps 4, ' in page and 'scope="col"' in page and 'scope="row"' in page
    assert "missing" not in page and "6 images, all there" in page


def test_a_cell_that_failed_shows_its_reason_and_is_tried_again(services: Services, plan: AxesPlan) -> None:
    axes_cells.generate(services, plan)
    groups.fail_group(services.db, queued(services)[0].id, "out of memory <b>")
    page = html(services, plan)
    assert page.count("not drawn") == 3
    assert "Not drawn: Out of memory &lt;b&gt;. Generate tries it again." in page
    assert axes_cells.generate(services, plan) == 3


def test_images_are_compared_along_what_changes_them_least(
    services: Services, plan: AxesPlan, make_group: MakeGroup
) -> None:
    few, many = (make_group([0.5] * 3, prompt=PROMPT, config=config(steps)) for steps in (4, 8))
    tiles = tiles_of(plan, axes_cells.cells(services, plan))
    assert [tile.beside for tile in tiles[1]] == [one.image.id for one in few.images]
    turned = axes.check(
        services, AxesForm("steps", "4, 8", (), "seed", "7-9", (), plan.flat[0].checkpoint_id, PROMPT)
    )
    rows = tiles_of(turned, axes_cells.cells(services, turned))
    assert [row[1].beside for row in rows] == [one.image.id for one in few.images]
    assert [row[0].beside for row in rows] == [one.image.id for one in many.images]


def test_people_s_words_in_a_grid_are_escaped(services: Services, base: Checkpoint) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    asked = AxesForm("prompt", nasty, (), "negative", nasty, (), checkpoint=base.id, prompt=PROMPT)
    plan = axes.check(services, asked)
    axes_cells.save(services, plan, nasty)
    assert "<img src=x" not in html(services, plan) + saved_html(services, "")
