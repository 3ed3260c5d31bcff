"""The same prompts and seeds under several checkpoints: what exists is reused, what is missing is made
once."""

from __future__ import annotations

import random

import gradio as gr
import numpy as np
import pytest

from flowgrpo.config import SamplingConfig
from flowgrpo.metrics.intervals import draws, mean_of
from storage import checkpoints, groups, runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.ui.conftest import MakeGroup
from ui import comparing
from ui.components.light_table import grid_html, strips
from ui.forms import Refused
from ui.parts import grid_address as page
from ui.services import Services

FAST = SamplingConfig(num_steps=8, guidance_scale=1.0).model_dump()


@pytest.fixture
def tuned(db: Database, base: Checkpoint) -> Checkpoint:
    run = runs.create_run(
        db, name="r", owner_id="local", parent_checkpoint_id=base.id, config={"num_updates": 1}
    )
    runs.claim_run(db, host="h", boot_id="b")
    return checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=1, name="run 1, update 1", path="p", sha256="0" * 64
    )


def plan(services: Services, *ids: str, prompts: str = "portrait, buns\nportrait, smile") -> comparing.Plan:
    return comparing.check(services, list(ids), prompts, "7", 2, 8, 1.0)


def test_missing_cells_are_made_once(
    services: Services, db: Database, base: Checkpoint, tuned: Checkpoint
) -> None:
    wanted = plan(services, base.id, tuned.id)
    assert comparing.generate_missing(services, wanted) == 4
    assert comparing.generate_missing(services, wanted) == 0
    assert groups.queued_count(db) == 4


def test_a_group_of_the_studio_is_reused(
    services: Services, base: Checkpoint, tuned: Checkpoint, make_group: MakeGroup
) -> None:
    made = make_group(prompt="portrait, buns", config=FAST)
    grid = comparing.cells(services, plan(services, base.id, tuned.id))
    assert grid[0][0].view is not None and grid[0][0].view.group.id == made.group.id
    assert len(comparing.missing(grid)) == 3


def test_the_difference_is_paired_and_has_an_interval(
    services: Services, base: Checkpoint, tuned: Checkpoint, make_group: MakeGroup
) -> None:
    words = ("buns", "smile", "glasses", "blush", "serious", "ponytail")
    for word in words:
        make_group([0.2, 0.4], prompt=f"portrait, {word}", config=FAST)
        make_group([0.5, 0.7], prompt=f"portrait, {word}", config=FAST, checkpoint=tuned)
    wanted = plan(services, base.id, tuned.id, prompts="\n".join(f"portrait, {word}" for word in words))
    (found,) = comparing.differences(comparing.cells(services, wanted), 1)
    assert (found.reward, found.n) == ("verifier", 6)
    assert found.difference == pytest.approx(0.3)
    assert found.is_clear and found.low == pytest.approx(found.high)


def test_the_page_says_which_prompts_taught_a_checkpoint(
    services: Services, db: Database, base: Checkpoint
) -> None:
    config = {"prompts": ["portrait, buns"], "num_updates": 1}
    run = runs.create_run(db, name="r", owner_id="local", parent_checkpoint_id=base.id, config=config)
    runs.claim_run(db, host="h", boot_id="b")
    made = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=1, name="mine", path="p", sha256="0" * 64
    )
    wanted = plan(services, base.id, made.id)
    assert list(comparing.trained_on(services, wanted)) == [made.id]
    assert "1 of 2 prompts trained mine" in grid_html(services, wanted)
    assert "trained mine" not in grid_html(services, plan(services, base.id))


@pytest.mark.parametrize("number", [1, 5])
def test_few_prompts_give_no_interval(
    services: Services, base: Checkpoint, tuned: Checkpoint, make_group: MakeGroup, number: int
) -> None:
    prompts = [f"portrait, {n}" for n in range(number)]
    for prompt in prompts:
        make_group([0.2, 0.4], prompt=prompt, config=FAST)
        make_group([0.5, 0.7], prompt=prompt, config=FAST, checkpoint=tuned)
    wanted = plan(services, base.id, tuned.id, prompts="\n".join(prompts))
    (found,) = comparing.differences(comparing.cells(services, wanted), 1)
    assert not found.is_clear
    assert "no interval below 6 prompts" in grid_html(services, wanted)


def test_the_interval_holds_the_mean_and_narrows_with_prompts() -> None:
    few, many = comparing.interval([0.0, 1.0] * 3), comparing.interval([0.0, 1.0] * 50)
    assert few[0] <= 0.5 <= few[1] and many[0] <= 0.5 <= many[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_where_nothing_differs_about_one_in_twenty_differences_of_eight_prompts_is_clear() -> None:
    chance = random.Random(0)
    found = [comparing.interval([chance.gauss(0, 1) for _ in range(8)]) for _ in range(1000)]
    clear = sum(low > 0 or high < 0 for low, high in found)
    assert 30 <= clear <= 75  # the plain percentile bootstrap has 110


def test_the_interval_is_the_evaluations_own() -> None:
    column = np.random.default_rng(5).exponential(size=20)
    assert comparing.interval(list(column)) == mean_of(column, draws(20)).figure()[1:]


def test_a_picked_image_lies_over_the_same_seed_of_the_first_checkpoint(
    services: Services, base: Checkpoint, tuned: Checkpoint, make_group: MakeGroup
) -> None:
    before = make_group([0.2, 0.4], prompt="portrait, buns", config=FAST)
    after = make_group([0.5, 0.7], prompt="portrait, buns", config=FAST, checkpoint=tuned)
    wanted = plan(services, base.id, tuned.id)
    table, *_ = strips(wanted, comparing.cells(services, wanted))
    (_, first), (_, other) = table.rows
    assert [tile.beside for tile in other] == [one.image.id for one in before.images]
    assert [tile.beside for tile in first] == [one.image.id for one in after.images]
    assert "Generate 2 missing groups" in grid_html(services, wanted)


@pytest.mark.parametrize(
    ("ids", "prompts", "count", "sentence"),
    [
        ([], "portrait", 2, "Choose 1 to 6 checkpoints"),
        ("text", "portrait", 2, "Choose 1 to 6 checkpoints"),
        (["nobody"], "portrait", 2, "not known here"),
        (["base"], "", 2, "Write 1 to 24 prompts"),
        (["base"], "\n".join(f"p{n}" for n in range(30)), 2, "Write 1 to 24 prompts"),
        (["base"], "portrait", 0, "Images per prompt must be from 1 to 64"),
        (["base"], "x" * 3000, 2, "has 3,000 characters"),
    ],
)
def test_a_comparison_that_cannot_be_gets_a_sentence(
    services: Services, base: Checkpoint, ids: object, prompts: str, count: int, sentence: str
) -> None:
    asked = [base.id if one == "base" else one for one in ids] if isinstance(ids, list) else ids
    with pytest.raises(Refused) as refused:
        comparing.check(services, asked, prompts, "7", count, 8, 1.0)
    assert sentence in str(refused.value)


def test_checkpoints_of_two_bases_are_not_compared(
    services: Services, db: Database, base: Checkpoint
) -> None:
    other = checkpoints.register_base(db, name="other", source="nowhere", family="StableDiffusionXLPipeline")
    with pytest.raises(Refused, match="different bases"):
        plan(services, base.id, other.id)


def test_people_s_words_are_escaped(services: Services, base: Checkpoint) -> None:
    html = grid_html(services, plan(services, base.id, prompts="<img src=x onerror=alert(1)>"))
    assert "<img src=x" not in html


def test_a_cell_that_failed_shows_its_reason_and_is_tried_again(
    services: Services, db: Database, base: Checkpoint
) -> None:
    wanted = plan(services, base.id, prompts="portrait, buns")
    comparing.generate_missing(services, wanted)
    (queued,) = (view.group for view in services.recent())
    groups.fail_group(db, queued.id, "out of memory <b>")
    html = grid_html(services, wanted)
    assert "Not drawn: Out of memory &lt;b&gt;. Generate tries it again." in html
    assert comparing.generate_missing(services, wanted) == 1
    assert "Not drawn" not in grid_html(services, wanted)


def opened(services: Services, query: dict[str, str]) -> comparing.Plan:
    """What the page compares when it is opened at an address."""
    chosen, *typed = page.opening(services, query)
    return comparing.check(services, chosen.value, *typed)


def test_compare_opened_from_a_group_finds_exactly_that_group(
    services: Services, base: Checkpoint, make_group: MakeGroup
) -> None:
    config = SamplingConfig(num_steps=5, guidance_scale=2.5, negative_prompt="hat", width=96, height=128)
    seeds = list(range(100, 128, 2))
    made = make_group([0.5] * 14, prompt="portrait\n red hair", config=config.model_dump(), seeds=seeds)
    wanted = opened(services, {"group": made.group.id})
    assert wanted.prompts == ("portrait\n red hair",)
    ((cell,),) = comparing.cells(services, wanted)
    assert cell.view is not None and cell.view.group.id == made.group.id
    html = grid_html(services, wanted)
    assert "--columns:8;--rows:2" in html and html.count("<img") == 14


def test_compare_opened_at_checkpoints_draws_them_as_their_run_does(
    services: Services, db: Database, base: Checkpoint
) -> None:
    rollout = {"num_steps": 6, "guidance_scale": 1.5, "width": 96, "height": 80}
    config = {"num_updates": 1, "rollout": rollout}
    run = runs.create_run(db, name="r", owner_id="local", parent_checkpoint_id=base.id, config=config)
    runs.claim_run(db, host="h", boot_id="b")
    made = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=1, name="run 1, update 1", path="p", sha256="0" * 64
    )
    _, _, _, _, steps, guidance, _, width, height = page.opening(
        services, {"checkpoints": f"{base.id},{made.id}"}
    )
    assert (steps, guidance, width, height) == (6, 1.5, 96, 80)
    untouched = page.opening(services, {"checkpoints": base.id})
    assert untouched[4] == page.opening(services, {})[4] == gr.skip()


def test_compare_opened_from_a_group_sets_it_against_its_own_base(
    services: Services, db: Database, base: Checkpoint, tuned: Checkpoint, make_group: MakeGroup
) -> None:
    other = checkpoints.register_base(db, name="other", source="nowhere", family="StableDiffusionXLPipeline")
    for checkpoint, rows in ((other, [other]), (tuned, [base, tuned]), (base, [base, tuned])):
        group = make_group(checkpoint=checkpoint, prompt="portrait, buns").group
        shown = opened(services, {"group": group.id}).checkpoints
        assert [row.id for row in shown] == [row.id for row in rows]


def test_compare_opens_with_checkpoints_of_one_base(
    services: Services, db: Database, base: Checkpoint, tuned: Checkpoint
) -> None:
    assert page.first_choice(services) == [base.id, tuned.id]
    other = checkpoints.register_base(db, name="other", source="nowhere", family="StableDiffusionXLPipeline")
    assert page.first_choice(services) == [other.id]
