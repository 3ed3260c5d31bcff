"""Evaluations as rows: what is asked, images found again by seed, figures of a job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from storage import checkpoints, evaluations, groups, jobs, prompts
from storage.engine import Database
from storage.evaluations import DrawnGroup, NewFigure, found_images, keep_drawn, request_evaluation
from storage.groups import GroupView
from storage.models import Checkpoint, GroupKind
from storage.types import utc_now
from tests.storage.records import CONFIG, finished_group

KINDS: tuple[GroupKind, ...] = ("evaluation",)


def payload(base: Checkpoint, **changes: Any) -> dict[str, Any]:
    asked = {"checkpoints": [base.id], "prompts": ["red hair"], "seeds": [0, 1], "config": CONFIG}
    return asked | changes


def drawn(prompt: str, *seeds: int, seconds: float = 2.0) -> DrawnGroup:
    now = utc_now()
    images = {seed: (f"{100 + seed:064x}", 64, 64) for seed in seeds}
    return DrawnGroup(prompt, images, now - timedelta(seconds=seconds), now)


def keep(db: Database, base: Checkpoint, *some: DrawnGroup) -> None:
    keep_drawn(db, some, checkpoint_id=base.id, config=CONFIG, created_by="local")


def test_an_evaluation_is_a_job_with_what_was_asked(db: Database, base: Checkpoint) -> None:
    job = request_evaluation(db, payload(base))
    assert (job.kind, job.state, job.payload["seeds"]) == ("evaluate", "queued", [0, 1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoints": []}, "1 to 16 checkpoints, got 0"),
        ({"prompts": []}, "prompts, got 0"),
        ({"prompts": ["red hair", "red hair"]}, "prompt is named twice"),
        ({"prompts": [" "]}, "prompt is empty"),
        ({"seeds": []}, "no seeds"),
        ({"seeds": [1, 1]}, "seed is named twice"),
        ({"seeds": [-1]}, "whole numbers from 0"),
        ({"prompt_set": "p"}, "name one of them"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(
    db: Database, base: Checkpoint, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        request_evaluation(db, payload(base, **changes))
    assert jobs.recent_jobs(db, evaluations.KIND) == []


def test_checkpoints_of_two_bases_are_refused_and_so_are_damaged_ones(db: Database, base: Checkpoint) -> None:
    other = checkpoints.register_base(db, name="other", source="elsewhere", family="sdxl")
    with pytest.raises(ValueError, match="different bases"):
        request_evaluation(db, payload(base, checkpoints=[base.id, other.id]))
    with pytest.raises(LookupError, match="no checkpoint"):
        request_evaluation(db, payload(base, checkpoints=["nobody"]))
    checkpoints.mark_checkpoint(db, base.id, "bad")
    with pytest.raises(LookupError, match="are bad"):
        request_evaluation(db, payload(base))


def test_a_prompt_set_stands_for_its_prompts(db: Database, base: Checkpoint) -> None:
    made = prompts.save_prompt_set(db, "set", ["red hair"], ["blue hair"])
    assert request_evaluation(db, payload(base, prompts=[], prompt_set=made.id)).state == "queued"
    with pytest.raises(LookupError, match="prompt set"):
        request_evaluation(db, payload(base, prompts=[], prompt_set="nobody"))


def test_an_image_is_found_by_its_seed_however_it_came_about(
    db: Database, base: Checkpoint, group: GroupView
) -> None:
    prompt = group.group.prompt
    keep(db, base, drawn(prompt, 7, 8))
    found = found_images(db, base.id, [prompt, "another"], CONFIG)
    assert set(found) == {(prompt, 0), (prompt, 1), (prompt, 7), (prompt, 8)}
    assert found[prompt, 0].seconds is None  # the Studio's time includes the wait and the scores
    assert found[prompt, 7].seconds == pytest.approx(1.0)


def test_other_settings_prompts_and_policies_are_other_images(db: Database, base: Checkpoint) -> None:
    finished_group(db, base, "portrait", kind="sample")  # by the run's averaged weights, not by this row
    keep(db, base, drawn("portrait", 0))
    assert set(found_images(db, base.id, ["portrait"], CONFIG)) == {("portrait", 0)}
    assert found_images(db, base.id, ["Portrait"], CONFIG) == {}
    assert found_images(db, base.id, ["portrait"], CONFIG | {"num_steps": 9}) == {}


def test_drawn_images_are_finished_groups_all_or_none(db: Database, base: Checkpoint) -> None:
    keep(db, base, drawn("one", 3, 4), drawn("two", 3))
    views = groups.recent_groups(db, kinds=KINDS, limit=9)
    assert [(view.group.prompt, view.group.seeds, view.group.state) for view in views] == [
        ("two", [3], "done"), ("one", [3, 4], "done"),
    ]  # fmt: skip
    assert [view.image.seed for view in views[1].images] == [3, 4]
    with pytest.raises(ValueError, match="NUL"):
        keep(db, base, drawn("three", 3), drawn("bad \x00", 3))
    assert len(groups.recent_groups(db, kinds=KINDS, limit=9)) == 2


def test_the_figures_of_a_job_replace_those_it_recorded_before_it_was_interrupted(
    db: Database, base: Checkpoint
) -> None:
    job = request_evaluation(db, payload(base))
    for value in (0.1, 0.2):
        figure = NewFigure(base.id, "kid@efflite0/n8", value, 0.0, None, 8, "efflite0")
        evaluations.record_figures(db, [figure], job.id)
    assert [row.value for row in evaluations.evaluations_of_job(db, job.id)] == [0.2]
    assert [row.job_id for row in evaluations.evaluations_of(db, base.id)] == [job.id]
    with pytest.raises(LookupError, match="no checkpoint"):
        evaluations.record_figures(db, [NewFigure("nobody", "x", 1.0, None, None, 1, "x")])
