"""The jobs about votes read the rows, keep which votes they used, and give JSON that admits the unknown."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from flowgrpo.config import DEFAULT_WEIGHTS
from flowgrpo.preferences.votes import group_scores
from flowgrpo.runs import judging
from flowgrpo.runs.job_kinds import KINDS
from flowgrpo.runs.votes import by_reward, votes_of
from storage import blind, exclusion, groups, judged, ratings, snapshots
from storage.blind import Answer
from storage.engine import Database
from storage.groups import GroupView, ScoreInput
from storage.models import Checkpoint, User
from storage.ratings import RatingInput
from tests.storage.records import CONFIG, finished_group


def best(view: GroupView, index: int, key: str, who: str = "local") -> RatingInput:
    return RatingInput(key, who, view.group.id, "best", view.images[index].image.id, lead_ms=900)


def rated(db: Database, base: Checkpoint, num_groups: int = 40, images: int = 4) -> list[GroupView]:
    """Groups with scores of two rewards, rated by one who likes what the first one likes."""
    rng, made = np.random.default_rng(0), list[GroupView]()
    for number in range(num_groups):
        view = finished_group(db, base, prompt=f"prompt {number // 2}", num_images=images)
        good, other = rng.normal(size=images), 20 * rng.normal(size=images)
        for image, value, noise in zip(view.images, good, other, strict=True):
            groups.add_scores(
                db,
                [
                    ScoreInput(image.image.id, "verifier", "1", float(value)),
                    ScoreInput(image.image.id, "clip", "1", float(noise)),
                    ScoreInput(image.image.id, "quality", "1", None, "it failed"),
                ],
            )
        ratings.rate(db, best(view, int(np.argmax(good + 0.3 * rng.gumbel(size=images))), f"key {number}"))
        made.append(groups.get_group(db, view.group.id))
    return made


def test_the_worker_knows_the_jobs_about_votes() -> None:
    assert {"calibrate", "agreement", "leaderboard"} <= set(KINDS)


def test_calibration_proposes_weights_and_names_the_votes_they_come_from(
    db: Database, base: Checkpoint
) -> None:
    rated(db, base)
    fit = judging.calibrate(db)
    assert (fit.kind, fit.state, fit.num_pairs) == ("weights", "proposed", 120)
    assert fit.detail["weights"]["verifier"] > 0.85
    assert "100% of the comparisons" in fit.detail["left_out"]["quality"]
    assert fit.accuracy is not None and fit.low is not None and fit.low > 0.7
    assert fit.baseline is not None and fit.accuracy > fit.baseline
    assert len(snapshots.votes_of(db, fit.snapshot_id)) == 40
    shown = judging.fit_result(fit)
    assert json.loads(json.dumps(shown, allow_nan=False))["fit"] == fit.id
    assert shown["versions"] == {"verifier": ["1"], "clip": ["1"]}
    assert judging.current_weights(db) == DEFAULT_WEIGHTS
    snapshots.set_fit_state(db, fit.id, "applied")
    assert judging.current_weights(db) == fit.detail["weights"]


def test_people_are_told_which_rewards_could_not_be_weighed_and_on_how_many_groups_they_have_scores(
    db: Database, base: Checkpoint
) -> None:
    for number, view in enumerate(rated(db, base)):
        ids = [image.image.id for image in view.images]
        if number < 3:  # as where a run asked about its groups, and the others are from Studio
            groups.add_scores(db, [ScoreInput(one, "pickscore", "1", float(i)) for i, one in enumerate(ids)])
        if number < 36:  # enough of them: it is weighed, by the comparisons that have its scores
            groups.add_scores(db, [ScoreInput(one, "aesthetic", "1", float(i)) for i, one in enumerate(ids)])
        if number % 2:
            groups.add_scores(db, [ScoreInput(ids[0], "quality", "1", None, "the file was gone")])
    of_today = snapshots.record_fit(
        db, kind="weights", version="v", num_pairs=9, detail={"weights": {"hpsv21": 1.0, "clip": 0.5}},
        snapshot_id=snapshots.take_snapshot(db, snapshots.standing_votes(db)).id,
    )  # fmt: skip
    snapshots.set_fit_state(db, of_today.id, "applied")
    fit = judging.calibrate(db)
    told = fit.detail["left_out"]
    assert set(told) == {"pickscore", "quality", "hpsv21"}
    assert told["pickscore"] == (
        "92% of the comparisons have no score of it: it has scored every image in 3 of 40 rated groups, "
        "37 were drawn without it"
    )
    assert told["quality"].endswith("in 0 of 40 rated groups, of 160 images it says: it failed")
    assert told["hpsv21"].startswith("no comparison has a score of it, and it has a weight today")
    assert "aesthetic" in fit.detail["weights"]
    assert (fit.num_pairs, fit.detail["num_unscored"]) == (108, 12)


def test_too_few_votes_propose_nothing_and_leave_nothing_behind(db: Database, base: Checkpoint) -> None:
    with pytest.raises(ValueError, match="rate some groups first"):
        judging.calibrate(db)
    rated(db, base, 3)
    with pytest.raises(ValueError, match="there are 9 over 2"):
        judging.calibrate(db)
    assert snapshots.fits(db, "weights") == []


def test_votes_and_rewards_are_read_as_they_were_given(db: Database, base: Checkpoint) -> None:
    view = rated(db, base, 1)[0]
    ids = [image.image.id for image in view.images]
    payload = {"left": ids[0], "right": ids[1], "outcome": "tie"}
    ratings.rate(db, RatingInput("pair", "local", view.group.id, "pair", payload=payload))
    ratings.undo(db, "local", "undo")
    (vote,) = votes_of(db, judged.said_votes(db))
    assert (vote.kind, vote.images, vote.lead_ms, vote.is_repeat) == ("best", tuple(ids), 900, False)
    assert vote.prompt == view.group.prompt_hash
    assert set(group_scores([vote])[view.group.id]) == set(ids)
    rewards = by_reward(judged.scores_of(db, [view.group.id]))
    assert rewards["quality"] == {} and set(rewards["clip"]) == set(rewards["verifier"]) == set(ids)


def test_agreement_is_told_of_everybody_by_name_and_without_claims_that_few_votes_do_not_carry(
    db: Database, base: Checkpoint
) -> None:
    with db.write() as session:
        session.add(User(id="ann", name="Ann", role="annotator"))
    for number, view in enumerate(rated(db, base, 6)):
        ratings.rate(db, best(view, number % 4, f"ann {number}", "ann"))
    found = judging.agreement(db)
    json.dumps(found, allow_nan=False)
    assert [one["kind"] for one in found["agreements"]] == ["stars", "best", "pair"]
    assert found["agreements"][1]["num_shared"] == 6 and found["agreements"][1]["alpha"] is None
    assert "shown from 30 on" in found["agreements"][1]["why_no_alpha"]
    assert "Ann" in {one["name"] for one in found["annotators"]} and len(found["annotators"]) == 2
    assert sum(found["positions"][0]["counts"]) == 12 == found["num_votes"]


def test_whose_votes_do_not_count_is_seen_beside_the_others_and_sways_nothing(
    db: Database, base: Checkpoint
) -> None:
    with db.write() as session:
        session.add_all(User(id=name, name=name.title(), role="annotator") for name in ("ann", "bea"))
    views = rated(db, base, 6)
    chosen = {vote.group_id: vote.image_id for vote in judged.said_votes(db)}
    for number, view in enumerate(views):
        place = [one.image.id for one in view.images].index(chosen[view.group.id] or "")
        ratings.rate(db, best(view, place, f"ann {number}", "ann"))
        ratings.rate(db, best(view, (place + 1) % 4, f"bea {number}", "bea"))
    assert {(one["one"], one["other"]) for one in judging.agreement(db)["people"]} == {
        ("ann", "bea"), ("ann", "local"), ("bea", "local"),
    }  # fmt: skip
    exclusion.exclude(db, "bea", "practice only")
    found = judging.agreement(db)
    (two,) = found["people"]
    assert (two["one"], two["other"], two["num_shared"], two["same"][0]) == ("ann", "local", 6, 1.0)
    assert found["agreements"][1]["same"][0] == 1.0 and found["num_votes"] == 12
    of = {one["name"]: one["consensus"] for one in found["annotators"]}
    assert set(of) == {"local", "Ann", "Bea"}
    assert of["Bea"][0] < 0.5 and of["Ann"][0] == 1.0


def drawn(db: Database, checkpoint_id: str, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        group = groups.request_group(
            db,
            prompt=prompt,
            checkpoint_id=checkpoint_id,
            config=CONFIG,
            seeds=[7],
            kind="compare",
            worker_id="w",
        )
        groups.add_image(db, group_id=group.id, index=0, seed=7, sha256="a" * 64, width=8, height=8)
        groups.finish_group(db, group.id)


def test_the_leaderboard_of_a_blind_test_waits_for_the_reveal(db: Database, base: Checkpoint) -> None:
    with db.write() as session:
        session.add(
            Checkpoint(id="tuned", base_model_id=base.base_model_id, name="Tuned", path="p", update=1)
        )
    prompts = [f"prompt {number}" for number in range(12)]
    for checkpoint_id in (base.id, "tuned"):
        drawn(db, checkpoint_id, prompts)
    test = blind.create_blind_test(
        db, checkpoint_ids=[base.id, "tuned"], prompts=prompts, seeds=[7], config=CONFIG
    )
    for number in range(12):
        pair = blind.next_pair(db, test.id, "local")
        assert pair is not None
        tuned: Answer = "left" if blind.is_swapped(pair.pair_id, "local") else "right"  # it is the second one
        said: Answer = "tie" if number == 0 else tuned
        blind.vote(db, client_key=f"k{number}", pair_id=pair.pair_id, annotator_id="local", answer=said)
    with pytest.raises(ValueError, match="not revealed yet"):
        judging.board(db, test.id)
    with pytest.raises(ValueError, match="no blind votes to count"):
        judging.board(db, None)
    blind.reveal(db, test.id)
    found = judging.board(db, test.id)
    json.dumps(found, allow_nan=False)
    assert [one["name"] for one in found["entries"]] == ["Tuned", "starter"]
    assert found["base"] == base.id and found["entries"][1]["rating"] == [1000, 1000, 1000]
    assert found["wins"] == [[0, 11], [0, 0]] and found["ties"] == [[0, 1], [1, 0]]
    assert found["entries"][0]["preliminary"] and found["entries"][0]["comparable"]
    assert (found["num_votes"], found["num_prompts"], found["num_annotators"]) == (12, 12, 1)
    assert judging.board(db, None)["entries"] == found["entries"]
    assert 0 <= found["left"][1] <= found["left"][0] <= found["left"][2] <= 1


def test_priorities_are_kept_where_assignment_reads_them(db: Database, base: Checkpoint) -> None:
    low, high = finished_group(db, base), finished_group(db, base)
    judged.set_priorities(db, {low.group.id: 0.9, high.group.id: 0.1})
    task = ratings.next_task(db, "local")
    assert task is not None and task.group.id == low.group.id
