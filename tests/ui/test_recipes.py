"""Rewards, images, or images and then rewards: each step of a recipe is a run of its own, in its order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flowgrpo.config import RunConfig
from storage import datasets, jobs, prompts, runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.ui.conftest import png
from ui import checking, recipes, tuning
from ui.forms import Refused, RunForm
from ui.recipes import ImagesForm
from ui.run_view import chain_of, head_html
from ui.services import Services
from ui.wizard import IMAGES, NAMES, Typed


def form(**typed: object) -> RunForm:
    start = {"prompts": "portrait, smile\nportrait, buns", "held_out": "portrait, red hair"}
    return replace(tuning.preset_form("smoke"), **{**start, **typed})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    for number in range(3):
        (made / f"{number}.png").write_bytes(png(number))
        (made / f"{number}.txt").write_text("portrait, smile")
    return made


def test_rewards_alone_are_one_run_as_before(services: Services, db: Database, base: Checkpoint) -> None:
    run = recipes.start(services, "rewards", base.id, form(), ImagesForm())
    assert [one.id for one in runs.list_runs(db)] == [run.id] and run.follows_id is None
    assert chain_of(db, run) == []


def test_images_alone_are_learned_from_without_any_reward(
    services: Services, base: Checkpoint, folder: Path
) -> None:
    run = recipes.start(services, "images", base.id, form(), ImagesForm(folder=str(folder), num_updates=9))
    config = RunConfig.model_validate(run.config)
    assert (config.algorithm.name, config.num_updates, config.reward_weights) == ("sft", 9, {})
    assert run.name == "images of mine, 9 updates"


def test_both_are_two_runs_of_which_the_second_follows_the_first(
    services: Services, db: Database, base: Checkpoint, folder: Path
) -> None:
    first = recipes.start(services, "both", base.id, form(name="portraits"), ImagesForm(folder=str(folder)))
    second = runs.list_runs(db)[0]
    assert (second.follows_id, second.name) == (first.id, "portraits")
    assert [step["is_here"] for step in chain_of(db, second)] == [False, True]
    assert [step["run"].id for step in chain_of(db, first)] == [first.id, second.id]
    assert second.config["lora"] == first.config["lora"]
    page = head_html(services, second)
    assert "Waits until run 1" in page and "1 · your images" in page and "2 · rewards" in page


def test_a_dataset_is_learned_from_where_its_folder_is(
    services: Services, db: Database, base: Checkpoint, folder: Path
) -> None:
    kept = datasets.add_dataset(db, name="faces", path=str(folder), num_images=3, detail={})
    assert recipes.dataset_choices(db)[0] == ("faces · 3 images", kept.id)
    run = recipes.start(services, "images", base.id, form(), ImagesForm(dataset=kept.id))
    assert run.config["algorithm"]["folder"] == str(folder)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (ImagesForm(), "No images are chosen"),
        (ImagesForm(folder="/nowhere/at/all"), "no folder on this machine"),
        (ImagesForm(dataset="gone"), "dataset"),
        (ImagesForm(folder="/tmp", num_updates=0), "Updates on images"),
    ],
)
def test_what_cannot_be_learned_from_queues_no_step_at_all(
    services: Services, db: Database, base: Checkpoint, images: ImagesForm, sentence: str
) -> None:
    with pytest.raises((Refused, LookupError), match=sentence):
        recipes.start(services, "both", base.id, form(), images)
    assert runs.list_runs(db) == []


def test_an_empty_folder_stands_against_the_run(services: Services, base: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no images"):
        recipes.start(services, "images", base.id, form(), ImagesForm(folder=str(tmp_path / "home" / "tmp")))


def test_the_set_is_named_only_while_its_prompts_are_unchanged(
    services: Services, db: Database, base: Checkpoint
) -> None:
    kept = prompts.save_prompt_set(db, "faces", ["portrait, smile", "portrait, buns"], ["portrait, red hair"])
    same = recipes.start(services, "rewards", base.id, form(), ImagesForm(), prompt_set=kept.id)
    other = form(prompts="portrait, smile")
    changed = recipes.start(services, "rewards", base.id, other, ImagesForm(), prompt_set=kept.id)
    assert (same.prompt_set_id, changed.prompt_set_id) == (kept.id, None)


def typed(base: Checkpoint, read: RunForm, way: str = "rewards", images: ImagesForm | None = None) -> Typed:
    """What the page's widgets hold when they say this."""
    shown = images or ImagesForm()
    values = (base.id, way, "", *(getattr(shown, name) for name in IMAGES))
    weights = [read.weights.get(name, 0.0) for name in tuning.REWARDS]
    return Typed((*values, *(getattr(read, name) for name in NAMES), *weights))


def test_the_form_of_the_page_says_what_it_will_start(
    services: Services, base: Checkpoint, folder: Path
) -> None:
    both = typed(base, form(), "both", ImagesForm(folder=str(folder)))
    assert (both.form.prompts, both.form.num_updates) == (form().prompts, 2)
    said = checking.said(services, both)
    assert "60 + 2 updates" in said.plan and "3 images in mine" in said.checks
    assert "16 images an update, 60 updates: 960" in said.cost


def test_a_refusal_is_a_line_with_its_fix_and_a_word_beside_start(
    services: Services, base: Checkpoint
) -> None:
    said = checking.said(services, typed(base, form(held_out="portrait, smile")))
    assert "both a training and a held-out prompt" in said.plan and 'data-goto="5"' in said.plan
    assert 'data-id="apart"' in said.checks and said.cost == ""


def test_a_fix_leaves_all_other_widgets_alone(services: Services, base: Checkpoint) -> None:
    read = typed(base, form(group_size=2))
    checkpoint, mended = checking.fix(services, read, "size")
    changed = [value for value in read.changes(mended, checkpoint) if not isinstance(value, dict)]
    assert changed == [8]


def test_what_the_engine_measured_stands_in_the_budget(
    services: Services, db: Database, base: Checkpoint
) -> None:
    read = typed(base, form())
    checking.measure(services, read, "local")
    assert (
        checking.is_measuring(services) and "measures one small batch" in checking.said(services, read).cost
    )
    job = jobs.claim_job(db, "w")
    assert job is not None and job.kind == "plan"
    result = {
        "seconds": 40.0,
        "device": "CPU",
        "memory": {"peak_bytes": 2.5e9},
        "free_memory": 2e9,
        "fits": False,
    }
    jobs.finish_job(db, job.id, result)
    cost = checking.said(services, read).cost
    assert "40 s, measured on CPU" in cost and "2.5 GB of 2.0 GB" in cost and "That does not fit" in cost
    assert "measured" not in checking.said(services, typed(base, form(group_size=4))).cost
