"""People rate a run's own groups before it learns from them; nothing is drawn twice, patience has an end."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sqlalchemy import update

from flowgrpo.config import RunConfig
from flowgrpo.preferences.votes import group_scores
from flowgrpo.runs import audience, exits
from flowgrpo.runs.audience import row_of
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.votes import votes_of
from storage import checkpoints, groups, ratings, runs, snapshots
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, ImageGroup, Run, User
from storage.ratings import RatingInput
from storage.types import utc_now
from tests.runs.helpers import adapter_hashes, begin, new_run, tiny_config
from tests.runs.test_trainer import begin_again, said, trainer_of
from tests.storage.records import finished_group

ASKS = {"people": {"weight": 1.0, "timeout_minutes": 60.0}, "num_updates": 1, "samples": 0}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(audience, "POLL_SECONDS", 0.02)


def offered(db: Database, run: Run) -> list[GroupView]:
    return [view for view in groups.groups_of_run(db, run.id) if view.group.kind == "rollout"]


class Raters(threading.Thread):
    """Take the first image of every group that is offered, until they are told to go."""

    def __init__(self, db: Database, num: int) -> None:
        super().__init__(daemon=True)
        self.db, self.num, self.gone = db, num, threading.Event()

    def run(self) -> None:
        done = 0
        while done < self.num and not self.gone.is_set():
            view = ratings.next_task(self.db, "local")
            if view is None:
                time.sleep(0.02)
                continue
            best = RatingInput(f"rating-key-{done}", "local", view.group.id, "best", view.images[0].image.id)
            ratings.submit(self.db, "local", view.group.id, [best])
            done += 1


def trained_before_raters(db: Database, run: Run, num: int, moved: float = 0.0) -> Trainer:
    """The run at its end; `moved` is added to the weights that it begins with."""
    trainer = trainer_of(db, run)
    trainer.learner.start_from({name: one + moved for name, one in trainer.learner.parameters.items()})
    raters = Raters(db, num)
    raters.start()
    try:
        trainer.train()
    finally:
        raters.gone.set()
        raters.join()
    return trainer


def test_a_run_waits_for_people_learns_what_they_said_and_names_their_votes(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **ASKS))
    trained_before_raters(db, run, 2)
    shown = offered(db, run)
    assert [view.group.state for view in shown] == ["done", "done"]
    assert all(len(view.images) == 3 for view in shown)
    assert all("diversity" in image.scores for view in shown for image in view.images)
    made = checkpoints.checkpoints_of_run(db, run.id)[-1]
    assert made.votes is not None and made.votes["votes"] == 2
    assert len(snapshots.votes_of(db, made.votes["snapshot"])) == 2
    curves = {metric.name: metric.value for metric in runs.metrics_since(db, run.id, -1)}
    assert curves["groups/rated"] == 2


def test_what_people_say_changes_what_is_learned(db: Database, tiny: Checkpoint) -> None:
    asked = begin(db, new_run(db, tiny, **ASKS))
    trained_before_raters(db, asked, 2)
    runs.move(db, asked.id, to="completed", from_states=("running",))
    alone = begin(db, new_run(db, tiny, **{**ASKS, "people": None}))
    trainer_of(db, alone).train()
    assert adapter_hashes(db, asked, 1) != adapter_hashes(db, alone, 1)


def test_a_run_that_was_stopped_while_it_waited_asks_about_the_same_groups_with_all_of_its_patience(
    db: Database, tiny: Checkpoint
) -> None:
    run = _stopped_while_it_waits(db, tiny)
    before = [view.group.id for view in offered(db, run)]
    with db.write() as session:  # it lies still for longer than it waits
        drawn = update(ImageGroup).where(ImageGroup.id.in_(before))
        session.execute(drawn.values(finished_at=utc_now() - timedelta(days=1)))
    again = begin_again(db, run)
    trained_before_raters(db, again, 2)
    assert [view.group.id for view in offered(db, run)] == before
    assert not any("decided alone" in sentence for sentence in said(db, run))


def test_a_run_that_goes_on_from_other_weights_asks_about_its_new_images_and_learns_from_no_votes_on_the_old(
    db: Database, tiny: Checkpoint
) -> None:
    run = _stopped_while_it_waits(db, tiny)
    before = offered(db, run)
    ratings.rate(db, RatingInput("early", "local", before[0].group.id, "best", before[0].images[0].image.id))
    trained_before_raters(db, begin_again(db, run), 3, moved=0.2)  # one may go to what is open meanwhile
    new = offered(db, run)[2:]
    assert [(one.group.seeds, one.group.prompt) for one in new] == [
        (one.group.seeds, one.group.prompt) for one in before
    ]
    assert any("2 groups of rollout 1 came out otherwise" in sentence for sentence in said(db, run))
    made = checkpoints.checkpoints_of_run(db, run.id)[-1]
    assert made.votes is not None
    used = {vote.group_id for vote in snapshots.votes_of(db, made.votes["snapshot"])}
    assert used == {one.group.id for one in new}
    assert "early" in {vote.client_key for vote in snapshots.standing_votes(db)}
    assert {one.group.phase for one in offered(db, run)} == {None}


def _stopped_while_it_waits(db: Database, tiny: Checkpoint) -> Run:
    """A run whose first rollout is on the Rate page, and which somebody stopped then."""
    run = begin(db, new_run(db, tiny, **ASKS))
    first = trainer_of(db, run)
    threading.Thread(target=_stop_once_offered, args=(db, run, first.stop), daemon=True).start()
    with pytest.raises(exits.EndedError, match="Stopped at update 0"):
        first.train()
    return run


def _stop_once_offered(db: Database, run: Run, stop: threading.Event, num: int = 2) -> None:
    while len(offered(db, run)) < num:
        time.sleep(0.02)
    stop.set()


def choose(db: Database, view: GroupView, key: str, who: str = "local") -> None:
    ratings.rate(db, RatingInput(key, who, view.group.id, "best", view.images[1].image.id))


def names_of_votes(db: Database, made: Checkpoint) -> list[str]:
    assert made.votes is not None
    frozen = snapshots.get_snapshot(db, made.votes["snapshot"])
    assert (made.votes["hash"], made.votes["votes"]) == (frozen.hash, len(frozen.events))
    return [vote.client_key for vote in snapshots.votes_of(db, frozen.id)]


def test_a_checkpoint_names_the_votes_that_its_updates_used_whatever_was_said_or_taken_back_since(
    db: Database, tiny: Checkpoint
) -> None:
    with db.write() as session:
        session.add(User(id="ann", name="Ann", role="annotator"))
    run = begin(db, new_run(db, tiny, **{**ASKS, "num_updates": 2, "checkpoint_every": 1}))
    first = trainer_of(db, run)
    threading.Thread(target=_stop_once_offered, args=(db, run, first.stop, 4), daemon=True).start()
    raters = Raters(db, 2)
    raters.start()
    with pytest.raises(exits.EndedError, match="Stopped at update 1"):
        first.train()
    raters.join()
    used = ["rating-key-0", "rating-key-1"]
    choose(db, offered(db, run)[0], "too late", "ann")
    ratings.undo(db, "local", "undo")
    again = trainer_of(db, begin_again(db, run))
    for number, view in enumerate(offered(db, run)[2:]):
        choose(db, view, f"second {number}")
    again.train()
    made = {one.update: one for one in checkpoints.checkpoints_of_run(db, run.id)}
    assert names_of_votes(db, made[1]) == used
    assert names_of_votes(db, made[2]) == [*used, "second 0", "second 1"]
    with db.write() as session:
        session.delete(session.get(Checkpoint, made[2].id))
    assert again.saver.resume() is not None
    (found,) = [one for one in checkpoints.checkpoints_of_run(db, run.id) if one.update == 2]
    assert found.votes == made[2].votes
    runs.record_event(db, run.id, again.run.attempt, "go_back", "", {"update": 1})
    again.recovery.decide()
    assert again.position.heard == first.position.heard


def test_one_choice_between_two_counts_and_takes_the_others_out_of_nothing(
    db: Database, tiny: Checkpoint
) -> None:
    view = finished_group(db, tiny, num_images=4)
    first, second = (image.image.id for image in view.images[:2])
    pair = {"left": first, "right": second, "outcome": "left"}
    ratings.rate(db, RatingInput("k", "local", view.group.id, "pair", payload=pair))
    liked = group_scores(votes_of(db, snapshots.standing_votes(db)))
    row = row_of(view, liked, 4)
    assert row[0] > 0 > row[1]
    assert row[2:].tolist() == [0.0, 0.0]
    assert row_of(view, {}, 4).isnan().all()


def test_when_nobody_comes_the_rewards_decide_and_it_is_said(db: Database, tiny: Checkpoint) -> None:
    hurried: dict[str, Any] = {**ASKS, "people": {"timeout_minutes": 0.001}}
    run = begin(db, new_run(db, tiny, **hurried))
    trainer_of(db, run).train()
    assert any("the rewards decided alone" in sentence for sentence in said(db, run))
    runs.move(db, run.id, to="completed", from_states=("running",))
    alone = begin(db, new_run(db, tiny, **{**ASKS, "people": None}))
    trainer_of(db, alone).train()
    assert adapter_hashes(db, run, 1) == adapter_hashes(db, alone, 1)


def test_a_run_that_samples_nothing_has_nothing_to_show() -> None:
    given = {"reward_weights": {}, "algorithm": {"name": "nft"}, "ratings": {"snapshot": "s"}}
    with pytest.raises(ValidationError, match="samples nothing"):
        RunConfig.model_validate(tiny_config(**given, people={}))
