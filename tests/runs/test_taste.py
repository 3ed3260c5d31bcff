"""What people say reaches a run between its updates, is heard as loud as it deserves, and is written down."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.config import RunConfig, SamplingConfig
from flowgrpo.rewards.human import Taste
from flowgrpo.runs import exits, heads, layout
from flowgrpo.runs.pictures import png_bytes, read_png
from flowgrpo.runs.position import Position
from flowgrpo.runs.taste import Follower, taste_for, votes_behind
from flowgrpo.runs.worker import WEIGHTS
from storage import blobs, checkpoints, groups, ratings, runs, snapshots
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from storage.ratings import RatingInput
from tests.runs.helpers import begin, new_run, tiny_config
from tests.runs.test_trainer import trainer_of

NAME = "human"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def taste() -> Taste:
    return taste_for(NAME, WEIGHTS, "cpu")


def colourful_group(db: Database, base: Checkpoint, number: int, size: int = 8) -> GroupView:
    """A group of flat images in random colours, with real files."""
    rng = torch.Generator().manual_seed(number)
    group = groups.request_group(
        db, prompt=f"prompt {number}", checkpoint_id=base.id, config={}, seeds=range(size), worker_id="w"
    )
    for index in range(size):
        colour = torch.randint(0, 256, (3, 1, 1), generator=rng, dtype=torch.uint8)
        pixels = colour.expand(3, 32, 32).clone()
        sha256 = blobs.put_png(db.home, png(pixels))
        groups.add_image(db, group_id=group.id, index=index, seed=index, sha256=sha256, width=32, height=32)
    groups.finish_group(db, group.id)
    return groups.get_group(db, group.id)


def png(pixels: torch.Tensor) -> bytes:
    return png_bytes(pixels, prompt="", seed=0, config=SamplingConfig(), model="tests")


def warmth(db: Database, view: GroupView) -> torch.Tensor:
    images = [read_png(blobs.path_of(db.home, one.image.sha256)).float() for one in view.images]
    return torch.stack([image[0].mean() - image[2].mean() for image in images])


def rated(db: Database, base: Checkpoint, numbers: range) -> list[GroupView]:
    """Groups whose warmest image somebody chose."""
    made = [colourful_group(db, base, number) for number in numbers]
    for number, view in zip(numbers, made, strict=True):
        best = view.images[int(warmth(db, view).argmax())].image.id
        ratings.rate(db, RatingInput(f"vote-key-{number}", "local", view.group.id, "best", best))
    return made


def follower(db: Database, taste: Taste, weights: dict[str, float]) -> Follower:
    config = RunConfig.model_validate(tiny_config(reward_weights=weights))
    return Follower(db, config, Position(), taste, NAME)


def test_a_head_is_fitted_to_the_votes_and_kept_with_them(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    rated(db, tiny, range(24))
    fit = heads.fit_head(db, taste.eye)
    assert fit.num_pairs == 24 * 7
    assert fit.accuracy is not None and fit.low is not None and fit.low > 0.6
    assert layout.head_file(db.home, fit.version).is_file()
    assert len(snapshots.votes_of(db, fit.snapshot_id)) == 24
    assert fit.detail["variances"]["palette"] > fit.detail["variances"]["texture"]
    assert "of choices that it has not seen" in heads.in_words(fit)
    in_use = snapshots.applied_fit(db, "head")
    assert in_use is not None and in_use.id == fit.id


def test_the_same_votes_are_the_same_head(db: Database, tiny: Checkpoint, taste: Taste) -> None:
    rated(db, tiny, range(8))
    first, again = heads.fit_head(db, taste.eye), heads.fit_head(db, taste.eye)
    assert (first.version, first.snapshot_id) == (again.version, again.snapshot_id)


def test_a_run_hears_of_new_votes_between_its_updates_and_of_a_head_that_was_withdrawn(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    people = follower(db, taste, {NAME: 0.8, "verifier": 0.2})
    assert people.refresh() == {"head/loudness": 0.0}
    assert people.weights() == {NAME: 0.0, "verifier": 0.2}
    rated(db, tiny, range(12))
    said = people.refresh()
    assert said["head/pairs"] == 84 and 0 < said["head/loudness"] < 1
    assert people.weights()[NAME] == pytest.approx(0.8 * said["head/loudness"])
    before = people.fit
    assert people.refresh() == said and people.fit is not None and before is not None
    assert people.fit.id == before.id
    rated(db, tiny, range(12, 30))
    assert people.refresh()["head/loudness"] > said["head/loudness"]
    votes = people.votes()
    assert votes is not None and votes["groups"] == 30 and people.fit is not None
    snapshots.set_fit_state(db, people.fit.id, "withdrawn")
    assert people.refresh() == {"head/loudness": 0.0}
    assert people.votes() is None


def test_a_head_that_was_withdrawn_stays_so_until_somebody_applies_it_again(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    rated(db, tiny, range(12))
    fit = heads.fit_head(db, taste.eye)
    snapshots.set_fit_state(db, fit.id, "withdrawn")
    people = follower(db, taste, {NAME: 1.0})
    assert people.refresh() == {"head/loudness": 0.0}
    rated(db, tiny, range(12, 14))
    assert people.refresh() == {"head/loudness": 0.0}
    with pytest.raises(exits.EndedError, match="has been withdrawn"):
        people.weights()
    snapshots.set_fit_state(db, fit.id, "applied")
    people.refresh()
    assert people.fit is not None and people.fit.id == fit.id


def test_a_head_whose_votes_were_all_taken_back_goes_out_of_use_until_there_are_others(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    rated(db, tiny, range(12))
    people = follower(db, taste, {NAME: 1.0})
    people.refresh()
    assert people.fit is not None and people.news == ""
    for number in range(11):
        ratings.undo(db, "local", f"undo-key-{number}")
    last = groups.get_group(db, snapshots.standing_votes(db)[0].group_id)
    assert heads.withdraw_unfounded(db) is None  # one of its votes holds
    ratings.rate(db, RatingInput("skip-key", "local", last.group.id, "skip"))  # and is taken back by this
    with pytest.raises(ValueError, match="Every vote that the preference head learned from has been"):
        heads.fit_head(db, taste.eye)
    (fit, *_) = snapshots.fits(db, "head")
    assert (fit.state, fit.detail["why"]) == ("withdrawn", heads.TAKEN_BACK)
    assert people.refresh() == {"head/loudness": 0.0}
    assert people.news.startswith("The run learns from no preference head now. Every vote")
    with pytest.raises(exits.EndedError, match="has been taken back, so it was withdrawn"):
        people.weights()
    rated(db, tiny, range(20, 30))
    people.refresh()
    assert people.fit is not None and people.fit.id != fit.id and people.news == ""


def test_a_head_that_looks_through_another_encoder_is_none_for_the_run(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    rated(db, tiny, range(12))
    people = follower(db, taste, {NAME: 1.0})
    people.refresh()
    own = people.fit
    assert own is not None
    other = snapshots.record_fit(
        db, kind="head", snapshot_id=own.snapshot_id, version="v", detail={"eye": "another"}, num_pairs=84
    )
    snapshots.set_fit_state(db, other.id, "applied")
    people.refresh()
    assert people.fit is not None and people.fit.id == own.id


def test_a_head_that_knows_one_prompt_says_what_is_missing(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    for key in range(10):
        view = colourful_group(db, tiny, 0)
        best = view.images[key % 8].image.id
        ratings.rate(db, RatingInput(f"vote-key-{key}", "local", view.group.id, "best", best))
    words = heads.in_words(heads.fit_head(db, taste.eye))
    assert words.startswith("It is silent: all of its 70 comparisons are about one prompt")


def test_a_run_takes_the_head_that_somebody_else_fitted(db: Database, tiny: Checkpoint, taste: Taste) -> None:
    people = follower(db, taste, {NAME: 1.0})
    rated(db, tiny, range(10))
    people.refresh()
    newer = heads.fit_head(db, taste.eye)
    people.refresh()
    assert people.fit is not None and people.fit.id == newer.id


def test_a_head_grows_quiet_while_nobody_votes(db: Database, tiny: Checkpoint, taste: Taste) -> None:
    people = follower(db, taste, {NAME: 1.0})
    rated(db, tiny, range(30))
    loud = people.refresh()["head/loudness"]
    people.position.update = 40
    assert people.refresh()["head/loudness"] == pytest.approx(loud / 2)


def test_a_run_that_learns_from_people_alone_ends_with_a_sentence_while_they_have_said_too_little(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    people = follower(db, taste, {NAME: 1.0})
    people.refresh()
    with pytest.raises(exits.EndedError, match="Nobody has rated anything"):
        people.weights()
    rated(db, tiny, range(2))
    people.refresh()
    with pytest.raises(exits.EndedError, match="speaks from 50 on"):
        people.weights()


def test_a_checkpoint_names_the_head_that_its_updates_heard_and_not_one_that_was_silent(
    db: Database, tiny: Checkpoint, taste: Taste
) -> None:
    people = follower(db, taste, {NAME: 1.0, "verifier": 1.0})
    rated(db, tiny, range(2))
    people.refresh()
    people.learned()
    assert votes_behind(db, people.config, people.position.to_json()) is None
    rated(db, tiny, range(2, 12))
    people.refresh()
    heard = people.votes()
    assert heard is not None and votes_behind(db, people.config, people.position.to_json()) is None
    people.learned()
    assert people.fit is not None
    snapshots.set_fit_state(db, people.fit.id, "withdrawn")
    people.refresh()
    people.learned()
    assert votes_behind(db, people.config, people.position.to_json()) == heard
    people.position.take_votes_of({})
    assert votes_behind(db, people.config, people.position.to_json()) is None


def test_a_trainer_learns_from_votes_and_its_checkpoint_names_them(db: Database, tiny: Checkpoint) -> None:
    rated(db, tiny, range(20))
    run = begin(db, new_run(db, tiny, reward_weights={NAME: 1.0}, num_updates=2, samples=0))
    trainer = trainer_of(db, run)
    trainer.train()
    made = checkpoints.checkpoints_of_run(db, run.id)[-1]
    fit = snapshots.applied_fit(db, "head")
    assert fit is not None and made.votes is not None
    assert made.votes == {
        "snapshot": fit.snapshot_id, "hash": fit.detail["snapshot_hash"], "groups": 20, "fit": fit.id
    }  # fmt: skip
    curves = {metric.name for metric in runs.metrics_since(db, run.id, -1)}
    assert {"head/accuracy", "head/loudness", "head/pairs", "reward/human"} <= curves
    assert trainer.position.calibrated_stds is not None and NAME in trainer.position.calibrated_stds


def test_a_checkpoint_names_the_fit_that_its_weights_are_from(db: Database, tiny: Checkpoint) -> None:
    rated(db, tiny, range(2))
    snapshot = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    detail = {"snapshot_hash": snapshot.hash, "weights": {"verifier": 1.0}}
    fit = snapshots.record_fit(
        db, kind="weights", snapshot_id=snapshot.id, version="v", detail=detail, num_pairs=14
    )
    config = RunConfig(prompts=("p",), reward_weights={"verifier": 1.0}, weights_from=fit.id)
    of_weights = {"snapshot": snapshot.id, "hash": snapshot.hash, "fit": fit.id}
    assert votes_behind(db, config, {}) == of_weights
    assert votes_behind(db, config.model_copy(update={"weights_from": None}), {}) is None


def test_an_image_whose_file_is_gone_is_left_out(db: Database, tiny: Checkpoint, taste: Taste) -> None:
    views = rated(db, tiny, range(8))
    Path(blobs.path_of(db.home, views[0].images[0].image.sha256)).unlink()
    fit = heads.fit_head(db, taste.eye)
    assert 7 * 7 <= fit.num_pairs < 8 * 7
