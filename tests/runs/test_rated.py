"""A run from ratings alone: the rated images are what it learns from, as much as people liked them."""

from __future__ import annotations

import threading

import pytest
import torch
from pydantic import ValidationError

from flowgrpo.config import RunConfig
from flowgrpo.runs.rated import Rated, RatedPlan, rated_groups
from flowgrpo.runs.train import run_config
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.worker import WEIGHTS
from storage import blobs, checkpoints, groups, ratings, runs, snapshots
from storage.engine import Database
from storage.models import Checkpoint, Run
from storage.models_judging import VoteSnapshot
from storage.ratings import RatingInput
from tests.runs.helpers import adapter_hashes, begin, fail_and_begin_again, new_run, tiny_config
from tests.runs.test_taste import colourful_group, rated


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def frozen(db: Database) -> VoteSnapshot:
    return snapshots.take_snapshot(db, snapshots.standing_votes(db))


def settings(snapshot: VoteSnapshot, name: str = "nft", **more: object) -> dict[str, object]:
    return {
        "reward_weights": {}, "algorithm": {"name": name}, "samples": 0,
        "ratings": {"snapshot": snapshot.id}, **more,
    }  # fmt: skip


def trained(db: Database, run: Run) -> Trainer:
    trainer = Trainer(
        db, run, run_config(run), device=torch.device("cpu"), weights=WEIGHTS, stop=threading.Event()
    )
    trainer.train()
    return trainer


def test_what_was_liked_is_read_with_its_pixels(db: Database, tiny: Checkpoint) -> None:
    made = rated(db, tiny, range(3))
    read = rated_groups(db, frozen(db).id)
    assert [one.group for one in read] == sorted(view.group.id for view in made)
    by_id = {view.group.id: view for view in made}
    for one in read:
        view = by_id[one.group]
        said = ratings.current_ratings(db, one.group).best
        assert view.images[int(one.scores.argmax())].image.id == said
        assert one.scores.sum().item() == pytest.approx(0, abs=1e-5)
        assert one.images.shape == (8, 3, 32, 32)


def test_groups_without_files_or_without_a_choice_are_left_out(db: Database, tiny: Checkpoint) -> None:
    made = rated(db, tiny, range(2))
    skipped = colourful_group(db, tiny, 7)
    ratings.rate(db, RatingInput("skip-key", "local", skipped.group.id, "skip"))
    blobs.path_of(db.home, made[0].images[3].image.sha256).unlink()
    assert [one.group for one in rated_groups(db, frozen(db).id)] == [made[1].group.id]
    blobs.path_of(db.home, made[1].images[3].image.sha256).unlink()
    with pytest.raises(ValueError, match="rate some groups"):
        rated_groups(db, frozen(db).id)


def planned(sizes: list[int], per_update: int = 2) -> RatedPlan:
    made = [
        Rated(
            f"g{number}", "red hair", torch.zeros(size, 3, 8, 8, dtype=torch.uint8), torch.arange(size) * 1.0
        )
        for number, size in enumerate(sizes)
    ]
    config = RunConfig.model_validate(
        tiny_config(
            reward_weights={}, algorithm={"name": "nft"}, ratings={"snapshot": "s"},
            rollout={"group_size": 2, "groups_per_update": per_update},
        )
    )  # fmt: skip
    return RatedPlan(config, made)


@pytest.mark.parametrize("sizes", [[8] * 6, [8, 8, 4, 4, 4], [8]])
def test_every_group_has_its_turn_and_those_of_an_update_have_one_shape(sizes: list[int]) -> None:
    given = planned(sizes)
    turns = [given.chosen(number) for number in range(1, 2 * len(sizes) + 1)]
    assert {name for turn in turns for name in turn} == set(given.groups)
    for turn in turns:
        assert len({given.groups[name].images.shape for name in turn}) == 1


def test_advantages_are_what_people_said_in_usual_spreads_and_unjudged_images_do_not_count() -> None:
    given = planned([4, 4])
    name = given.chosen(1)[0]
    given.groups[name].scores[2] = float("nan")
    found = given.advantages(1)
    row = given.chosen(1).index(name)
    assert found.is_counted[row].tolist() == [True, True, False, True]
    assert found.values[row, 2] == 0
    assert found.values[row, 3] > found.values[row, 0]
    assert not found.dead_groups.any()


@pytest.mark.parametrize("algorithm", ["nft", "awm", "dpo"])
def test_a_run_learns_from_ratings_without_drawing_anything(
    db: Database, tiny: Checkpoint, algorithm: str
) -> None:
    rated(db, tiny, range(3))
    snapshot = frozen(db)
    before = len(groups.recent_groups(db, kinds=("studio", "sample", "rollout"), limit=50))
    run = begin(db, new_run(db, tiny, **settings(snapshot, algorithm, num_updates=2)))
    trained(db, run)
    made = checkpoints.checkpoints_of_run(db, run.id)[-1]
    assert made.votes == {"snapshot": snapshot.id, "hash": snapshot.hash, "votes": 3}
    assert len(groups.recent_groups(db, kinds=("studio", "sample", "rollout"), limit=50)) == before
    norms = [m.value for m in runs.metrics_since(db, run.id, -1) if m.name == "policy/grad_norm"]
    assert len(norms) == 2 and all(norm > 0 for norm in norms)


def test_it_resumes_to_the_same_weights(db: Database, tiny: Checkpoint) -> None:
    rated(db, tiny, range(4))
    snapshot = frozen(db)
    whole = begin(db, new_run(db, tiny, **settings(snapshot, num_updates=4, checkpoint_every=2)))
    trained(db, whole)
    runs.move(db, whole.id, to="completed", from_states=("running",))
    run = begin(db, new_run(db, tiny, **settings(snapshot, num_updates=4, checkpoint_every=2)))
    first = Trainer(
        db, run, run_config(run), device=torch.device("cpu"), weights=WEIGHTS, stop=threading.Event()
    )
    first.config = first.config.model_copy(update={"num_updates": 2})
    first.train()
    trained(db, fail_and_begin_again(db, run))
    assert adapter_hashes(db, run, 4) == adapter_hashes(db, whole, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"algorithm": {"name": "flow_grpo"}}, "choose nft, awm, rwr or dpo"),
     ({"reward_weights": {"clip": 1.0}}, "leave reward_weights out")],
)  # fmt: skip
def test_settings_that_do_not_go_with_ratings_are_refused(changes: dict[str, object], words: str) -> None:
    fine = {"reward_weights": {}, "algorithm": {"name": "nft"}, "ratings": {"snapshot": "s"}}
    RunConfig.model_validate(tiny_config(**fine))
    with pytest.raises(ValidationError, match=words):
        RunConfig.model_validate(tiny_config(**(fine | changes)))
