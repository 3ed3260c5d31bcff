"""A group goes from request to done once, whatever happens to the worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storage import checkpoints, groups
from storage.engine import Database
from storage.groups import GroupView, ScoreInput
from storage.models import Checkpoint, GroupKind, ImageGroup
from tests.storage.records import CONFIG, finished_group


def ask(db: Database, base: Checkpoint, kind: GroupKind = "studio", **changes: Any) -> ImageGroup:
    wanted: dict[str, Any] = {
        "prompt": "red hair",
        "checkpoint_id": base.id,
        "config": CONFIG,
        "seeds": [1, 2],
    }
    return groups.request_group(db, kind=kind, **(wanted | changes))


def draw(db: Database, group: ImageGroup) -> None:
    for index, seed in enumerate(group.seeds):
        groups.add_image(db, group_id=group.id, index=index, seed=seed, sha256="a" * 64, width=64, height=64)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": "x" * 10_000}, "has 10000 characters: shorten it to 2000"),
        ({"seeds": []}, "no seeds"),
        ({"seeds": [-1]}, "whole numbers from 0"),
        ({"seeds": [2**32]}, "whole numbers from 0"),
        ({"seeds": ["abc"]}, "got 'abc'"),
        ({"seeds": [1.5]}, "whole numbers from 0"),
        ({"seeds": [True]}, "whole numbers from 0"),
    ],
)
def test_a_request_that_cannot_be_drawn_is_refused_in_words(
    db: Database, base: Checkpoint, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        ask(db, base, **changes)
    assert groups.queued_count(db) == 0


def test_unknown_checkpoints_and_people_and_damaged_files_are_refused(db: Database, base: Checkpoint) -> None:
    with pytest.raises(LookupError, match="no checkpoint with the id nothing"):
        ask(db, base, checkpoint_id="nothing")
    with pytest.raises(LookupError, match="no user with the id nobody"):
        ask(db, base, created_by="nobody")
    checkpoints.mark_checkpoint(db, base.id, "bad")
    with pytest.raises(LookupError, match="files of checkpoint starter are bad"):
        ask(db, base)
    assert checkpoints.list_checkpoints(db) == []


def test_people_who_wait_come_before_machines_and_the_oldest_first(db: Database, base: Checkpoint) -> None:
    kinds: list[GroupKind] = ["evaluation", "demo", "studio", "sample", "compare"]
    asked = [ask(db, base, kind) for kind in kinds]
    assert [groups.queue_position(db, group.id) for group in asked] == [2, 3, 0, 4, 1]
    claimed = [groups.claim_group(db, "host:cpu") for _ in kinds]
    assert [group.kind for group in claimed if group] == ["studio", "compare", "evaluation", "demo", "sample"]
    assert groups.claim_group(db, "host:cpu") is None
    assert groups.queue_position(db, asked[1].id) == 0


def test_each_group_is_claimed_by_one_worker_only(db: Database, base: Checkpoint) -> None:
    asked = {ask(db, base).id for _ in range(24)}

    def claim_all(worker: int) -> list[str]:
        claimed = []
        while (group := groups.claim_group(db, f"host:{worker}")) is not None:
            claimed.append(group.id)
        return claimed

    with ThreadPoolExecutor(8) as pool:
        claims = [group_id for claimed in pool.map(claim_all, range(8)) for group_id in claimed]
    assert len(claims) == len(asked)
    assert set(claims) == asked


def test_a_group_that_its_maker_draws_itself_is_never_in_the_queue(db: Database, base: Checkpoint) -> None:
    group = ask(db, base, "sample", worker_id="run 1")
    assert (group.state, group.worker_id, group.claims) == ("running", "run 1", 1)
    assert groups.claim_group(db, "host:cpu") is None


def test_a_group_is_done_only_with_all_its_images(db: Database, base: Checkpoint) -> None:
    group = ask(db, base, worker_id="host:cpu")
    with pytest.raises(ValueError, match="expected 2 images before a group is done, got 0"):
        groups.finish_group(db, group.id)
    draw(db, group)
    assert groups.finish_group(db, group.id)
    assert not groups.finish_group(db, group.id)
    assert not groups.fail_group(db, group.id, "late")


def test_the_first_image_of_an_index_stays(db: Database, base: Checkpoint) -> None:
    group = ask(db, base, worker_id="host:cpu")
    first, second = (
        groups.add_image(db, group_id=group.id, index=0, seed=1, sha256=digit * 64, width=64, height=64)
        for digit in "ab"
    )
    assert (second.id, second.sha256) == (first.id, "a" * 64)
    with pytest.raises(ValueError, match="expected an index from 0 to 1"):
        groups.add_image(db, group_id=group.id, index=2, seed=1, sha256="a" * 64, width=64, height=64)


def test_a_canceled_group_tells_its_worker(db: Database, base: Checkpoint) -> None:
    group = ask(db, base, worker_id="host:cpu")
    assert groups.set_phase(db, group.id, "step 1 of 8")
    assert groups.cancel_group(db, group.id)
    assert not groups.set_phase(db, group.id, "step 2 of 8")
    assert not groups.finish_group(db, group.id)
    assert not groups.requeue_group(db, group.id, died=True)
    assert groups.get_group(db, group.id).group.state == "canceled"


def test_a_dead_workers_group_is_tried_once_more_and_keeps_its_images(db: Database, base: Checkpoint) -> None:
    asked = ask(db, base)
    for is_last in (False, True):
        claimed = groups.claim_group(db, "host:cpu")
        assert claimed is not None
        draw(db, claimed)
        (orphan,) = groups.orphaned_groups(db, "host:cpu")
        assert orphan.id == asked.id
        assert groups.requeue_group(db, asked.id, died=True) is not is_last
    view = groups.get_group(db, asked.id)
    assert view.group.state == "failed"
    assert view.group.reason is not None
    assert "stopped twice" in view.group.reason
    assert len(view.images) == 2


def test_a_newer_score_replaces_the_older_and_a_missing_one_has_its_reason(
    db: Database, group: GroupView
) -> None:
    image = group.images[0].image.id
    groups.add_scores(
        db, [ScoreInput(image, "clip", "1", 0.25), ScoreInput(image, "quality", "1", None, "no")]
    )
    groups.add_scores(db, [ScoreInput(image, "clip", "1", 0.5), ScoreInput(image, "clip", "2", 0.75)])
    scores = groups.get_group(db, group.group.id).images[0].scores
    assert {name: (score.version, score.value) for name, score in scores.items()} == {
        "clip": ("2", 0.75),
        "quality": ("1", None),
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_needs_a_reason(db: Database, group: GroupView, value: float) -> None:
    with pytest.raises(ValueError, match="finite value, or None with a reason"):
        groups.add_scores(db, [ScoreInput(group.images[0].image.id, "clip", "1", value)])
    with pytest.raises(ValueError, match="finite value, or None with a reason"):
        groups.add_scores(db, [ScoreInput(group.images[0].image.id, "clip", "1", None)])


def test_pages_of_recent_groups_follow_each_other_without_gap(db: Database, base: Checkpoint) -> None:
    made = [finished_group(db, base, f"prompt {number}").group.id for number in range(7)]
    finished_group(db, base, kind="sample")
    seen: list[str] = []
    cursor: int | None = None
    while page := groups.recent_groups(db, kinds=["studio"], limit=3, before_seq=cursor):
        seen += [view.group.id for view in page]
        cursor = page[-1].group.seq
    assert seen == made[::-1]


def test_a_base_is_registered_once_and_its_new_place_is_noted(db: Database, base: Checkpoint) -> None:
    again = checkpoints.register_base(db, name="starter", source="elsewhere", family="sdxl")
    assert again.id == base.id
    assert checkpoints.base_of(db, again).source == "elsewhere"
    assert [row.id for row in checkpoints.list_checkpoints(db)] == [base.id]
    with pytest.raises(LookupError, match="no checkpoint"):
        checkpoints.get_checkpoint(db, "nothing")
