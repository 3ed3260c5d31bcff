"""The trainer in this process, with rewards that do what a test says."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from flowgrpo.rewards.base import Abstained, ScoreBatch, ScoreResult, scored, unscored
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs import exits
from flowgrpo.runs import trainer as trainer_module
from flowgrpo.runs.beats import interrupting
from flowgrpo.runs.prompts import prompts_of_rollout
from flowgrpo.runs.samples import grid_of
from flowgrpo.runs.train import run_config
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.watch import Watch
from flowgrpo.runs.worker import WEIGHTS
from storage import checkpoints, groups, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.given import Given
from tests.runs.helpers import adapter_hashes, begin, new_run, wait_for

BOTH = {"verifier": 1.0, "diversity": 1.0}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trainer_of(db: Database, run: Run, **rewards: Given) -> Trainer:
    """One attempt, with some of its rewards replaced."""
    device, stop = torch.device("cpu"), threading.Event()
    trainer = Trainer(db, run, run_config(run), device=device, weights=WEIGHTS, stop=stop)
    trainer.stack.rewards.update(rewards)
    return trainer


def begin_again(db: Database, run: Run) -> Run:
    runs.move(db, run.id, to="stopped", from_states=("running",))
    runs.resume_run(db, run.id)
    return begin(db, run)


def said(db: Database, run: Run, kind: str = "warning") -> list[str]:
    return [event.detail or "" for event in runs.events(db, run.id) if event.kind == kind]


def brightness(batch: ScoreBatch) -> torch.Tensor:
    return batch.images.float().mean((1, 2, 3))


def only_red_hair(batch: ScoreBatch) -> ScoreResult:
    """Brightness, for one prompt alone."""
    asked = torch.tensor([prompt == "red hair" for prompt in batch.prompts])
    reasons = tuple(None if is_asked else Abstained("nothing was asked") for is_asked in asked.tolist())
    return ScoreResult(brightness(batch).masked_fill(~asked, float("nan")), reasons)


def with_red_hair_last(seed: int) -> dict[str, Any]:
    """Prompts of which the trainer meets "red hair" in its fourth rollout of two groups, not before."""
    names = [f"prompt {i}" for i in range(8)]
    last = prompts_of_rollout(names, seed, 0, 8)[-1]
    return {"prompts": ["red hair" if name == last else name for name in names], "seed": seed}


@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_reward_that_first_scores_in_the_middle_of_a_run_is_measured_there_and_resume_stays_exact(
    db: Database, tiny: Checkpoint, stop_at: int
) -> None:
    settings = {**with_red_hair_last(3), "reward_weights": BOTH, "num_updates": 6, "samples": 0}
    whole = begin(db, new_run(db, tiny, **settings))
    trainer = trainer_of(db, whole, verifier=Given(only_red_hair, "verifier"))
    trainer.train()
    runs.move(db, whole.id, to="completed", from_states=("running",))
    assert (trainer.position.calibrated_stds or {})["verifier"] > 0
    assert said(db, whole) == [
        "verifier left images without a score: nothing was asked.",
        "verifier could not score the base's groups: it takes part once it scores one.",
        "verifier scored its first group in rollout 4 and takes part from there on.",
    ]

    run = begin(db, new_run(db, tiny, **settings))
    first = trainer_of(db, run)

    def stopping(batch: ScoreBatch) -> ScoreResult:
        if first.position.update == stop_at:
            first.stop.set()
        return only_red_hair(batch)

    first.stack.rewards["verifier"] = Given(stopping, "verifier")
    with pytest.raises(exits.EndedError, match=f"Stopped at update {stop_at}"):
        first.train()
    again = begin_again(db, run)
    second = trainer_of(db, again, verifier=Given(only_red_hair, "verifier"))
    second.train()
    assert adapter_hashes(db, run, 6) == adapter_hashes(db, whole, 6)
    assert second.position == trainer.position
    assert said(db, run) == said(db, whole)


def test_a_reward_measured_late_is_measured_on_the_base(db: Database, tiny: Checkpoint) -> None:
    """A policy that has learned to differ less, or more, does not change the unit of its rewards."""
    settings = {**with_red_hair_last(3), "reward_weights": BOTH, "num_updates": 4, "samples": 0}
    stds = []
    for learning_rate in (1e-6, 1e-1):
        run = begin(db, new_run(db, tiny, **settings, update={"learning_rate": learning_rate}))
        trainer = trainer_of(db, run, verifier=Given(only_red_hair, "verifier"))
        trainer.train()
        runs.move(db, run.id, to="completed", from_states=("running",))
        stds.append((trainer.position.calibrated_stds or {})["verifier"])
    assert stds[0] == stds[1]


def failing_from(trainer: Trainer, first: int, until: int = 100) -> Given:
    """A reward whose service is gone from one update on, until another."""

    def answer(batch: ScoreBatch) -> ScoreResult:
        if first <= trainer.position.update < until:
            raise RuntimeError("the service is gone")
        return scored(brightness(batch))

    return Given(answer, "verifier")


def test_a_reward_that_stops_scoring_pauses_the_run_and_the_others_go_on_once_that_is_let_pass(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, reward_weights=BOTH, samples=0))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = failing_from(trainer, 1)
    with pytest.raises(exits.EndedError, match="'verifier' could not score 100% of the images") as ended:
        trainer.train()
    assert ended.value.code == exits.ALARM
    again = trainer_of(db, begin_again(db, run))
    again.stack.rewards["verifier"] = failing_from(again, 1)
    again.train()
    gone = (
        "verifier left images without a score: the verifier reward failed: RuntimeError: the service is gone."
    )
    assert said(db, run) == [gone]
    assert again.position.update == 4


def test_a_run_whose_rewards_are_all_silent_ends_in_words_saved_and_goes_on_once_they_score(
    db: Database, tiny: Checkpoint
) -> None:
    settings = {"reward_weights": {"verifier": 1.0}, "num_updates": 8, "samples": 0}
    run = begin(db, new_run(db, tiny, **settings))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = failing_from(trainer, 1)
    with pytest.raises(exits.EndedError, match="could not score 100%"):
        trainer.train()
    trainer = trainer_of(db, begin_again(db, run))
    trainer.stack.rewards["verifier"] = failing_from(trainer, 1)
    with pytest.raises(exits.EndedError, match="No reward scored an image in 3 rollouts in a row") as ended:
        trainer.train()
    assert ended.value.code == exits.REWARDS_FAILED
    assert "the service is gone. Everything up to update 4 is saved" in ended.value.reason
    assert adapter_hashes(db, run, 4)
    again = trainer_of(db, begin_again(db, run))
    again.stack.rewards["verifier"] = failing_from(again, 5, until=7)  # it is as patient as at first
    again.train()  # and the alarm that was let pass is no question again
    assert (again.position.update, again.position.unscored_in_a_row) == (8, 0)


def test_a_short_silence_of_the_rewards_is_survived(db: Database, tiny: Checkpoint) -> None:
    settings = {"reward_weights": {"verifier": 1.0}, "num_updates": 6, "samples": 0}
    run = begin(db, new_run(db, tiny, **settings))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = failing_from(trainer, 1, until=3)
    with pytest.raises(exits.EndedError, match="could not score 100%"):
        trainer.train()
    trainer = trainer_of(db, begin_again(db, run))
    trainer.stack.rewards["verifier"] = failing_from(trainer, 1, until=3)
    trainer.train()
    assert (trainer.position.update, trainer.position.unscored_in_a_row) == (6, 0)


def test_a_sample_grid_that_is_not_finite_is_left_out_with_a_warning(db: Database, tiny: Checkpoint) -> None:
    settings = {"reward_weights": {"verifier": 1.0}, "sample_every": 2, "checkpoint_every": 4}
    run = begin(db, new_run(db, tiny, **settings))
    trainer = trainer_of(db, run)
    kept: dict[str, torch.Tensor] = {}

    def breaking(batch: ScoreBatch) -> ScoreResult:
        """The average is broken while the grid of update 2 is drawn."""
        for name, tensor in trainer.learner.ema.items():
            if trainer.position.update == 1:
                kept[name] = tensor.clone()
                tensor.fill_(torch.nan)
            elif name in kept:
                tensor.copy_(kept[name])
        return scored(brightness(batch))

    trainer.stack.rewards["verifier"] = Given(breaking, "verifier")
    trainer.train()
    made = [view.group for view in groups.groups_of_run(db, run.id)]
    assert [(group.update, group.state) for group in made] == [(0, "done"), (2, "failed"), (4, "done")]
    (warning,) = said(db, run)
    assert warning.startswith("No sample grid at update 2: 2 of 2 images by Run 1 · update 2 hold numbers")
    assert not any(m.name.startswith("held_out/") for m in runs.metrics_since(db, run.id, 0) if m.update == 2)


def test_an_alarm_is_recorded_once_while_it_holds_and_not_again_by_a_later_attempt(
    db: Database, tiny: Checkpoint
) -> None:
    settings = {"reward_weights": {"verifier": 1.0}, "num_updates": 7, "samples": 0}
    run = begin(db, new_run(db, tiny, **settings))
    first = trainer_of(db, run)

    def indifferent(batch: ScoreBatch) -> ScoreResult:
        if first.position.update == 2:
            first.stop.set()
        return scored(torch.full((len(batch),), 0.5))

    first.stack.rewards["verifier"] = Given(indifferent, "verifier")
    with pytest.raises(exits.EndedError, match="Stopped at update 3"):
        first.train()
    seen = ["100% of the groups show no difference to the rewards."]
    assert said(db, run, "alarm") == seen
    with pytest.raises(exits.EndedError, match=r"there is nothing to learn\. Compare"):
        trainer_of(db, begin_again(db, run), verifier=Given(indifferent, "verifier")).train()
    seen.append("The rewards see no difference within groups: there is nothing to learn.")
    assert said(db, run, "alarm") == seen
    shares = [m.value for m in runs.metrics_since(db, run.id, 0) if m.name == "unscored_share/verifier"]
    assert shares == [0.0] * 5


def test_an_alarm_that_comes_back_is_recorded_again_and_collapse_is_judged_against_the_base(
    db: Database, tiny: Checkpoint
) -> None:
    watch = Watch(db, begin(db, new_run(db, tiny)))
    watch.follow(0, {"held_out/diversity": 0.4})
    for update, diversity in enumerate((0.2, 0.1, 0.4, 0.2), start=1):
        watch.follow(update, {"held_out/diversity": diversity})
    alike = "Images of one prompt are 50% more alike than the base's."
    assert said(db, watch.run, "alarm") == [alike, alike]


def test_an_alarm_that_could_not_be_written_is_written_at_the_next_update(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(db, begin(db, new_run(db, tiny)))
    watch.follow(0, {"held_out/diversity": 0.4})
    with monkeypatch.context() as busy:
        busy.setattr(watch, "_record", lambda *_: False)
        watch.follow(1, {"held_out/diversity": 0.2})
    assert said(db, watch.run, "alarm") == []
    for update in (2, 3):
        watch.follow(update, {"held_out/diversity": 0.2})
    assert said(db, watch.run, "alarm") == ["Images of one prompt are 50% more alike than the base's."]


def test_a_reason_that_changes_each_time_is_told_a_few_times_only(db: Database, tiny: Checkpoint) -> None:
    watch = Watch(db, begin(db, new_run(db, tiny)))
    for number in range(10):
        watch.gaps({"verifier": f"request {number} failed"})
    assert len(said(db, watch.run)) == 3


def test_a_stop_while_a_reward_hangs_keeps_what_was_learned_and_nothing_is_learned_from_the_gap(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "STOP_SECONDS", 0.2)
    run = begin(db, new_run(db, tiny, reward_weights={"verifier": 1.0}, samples=0))
    trainer = trainer_of(db, run)

    def hanging(batch: ScoreBatch) -> ScoreResult:
        if trainer.position.update < 1:
            return scored(brightness(batch))
        trainer.stop.set()
        wait_for(lambda: trainer.stack.is_interrupted, seconds=20)
        return unscored(len(batch), "was not waited for")

    trainer.stack.rewards["verifier"] = Given(hanging, "verifier")
    with pytest.raises(exits.EndedError, match="Stopped at update 1 of 4"):
        trainer.train()
    assert [row.update for row in checkpoints.checkpoints_of_run(db, run.id)] == [1]
    assert max(metric.update for metric in runs.metrics_since(db, run.id, -1)) == 1
    assert said(db, run) == []


def test_a_stop_while_a_grid_is_scored_leaves_no_half_scored_grid(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "STOP_SECONDS", 0.2)
    run = begin(db, new_run(db, tiny, reward_weights={"verifier": 1.0}))
    trainer = trainer_of(db, run)

    def hanging(batch: ScoreBatch) -> ScoreResult:
        if trainer.position.calibrated_stds is None:
            return scored(brightness(batch))
        trainer.stop.set()
        wait_for(lambda: trainer.stack.is_interrupted, seconds=20)
        return unscored(len(batch), "was not waited for")

    trainer.stack.rewards["verifier"] = Given(hanging, "verifier")
    with pytest.raises(exits.EndedError, match="Stopped at update 0"):
        trainer.train()
    assert grid_of(db, run.id, 0) == []


def test_a_stop_that_comes_about_in_time_interrupts_nothing() -> None:
    stop, stack = threading.Event(), RewardStack({})
    with interrupting(stop, stack, 20.0):
        stop.set()
    assert not stack.is_interrupted


def test_what_a_reward_says_of_its_columns_is_told_once_a_kind_in_every_attempt_together(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny))
    Watch(db, run).notes({"clip": "1 of 2 prompts are longer than the 77 tokens; images are small"})
    again = Watch(db, run)
    for number in range(9):
        again.notes({"clip": f"{number} of 20 prompts are longer than the 77 tokens"})
        again.notes({"pixels": f"the same value, {number}.5e-07"})
        again.notes({"other": f"a {'very ' * number}long story"})
    assert said(db, run)[:3] == [
        "clip says: 1 of 2 prompts are longer than the 77 tokens.",
        "clip says: images are small.",
        "pixels says: the same value, 0.5e-07.",
    ]
    assert len(said(db, run)) == 3 + 3


def test_a_grid_says_how_sure_the_rise_of_a_reward_is_also_where_another_attempt_drew_the_bases(
    db: Database, tiny: Checkpoint
) -> None:
    def numbers(run: Run, update: int) -> dict[str, float]:
        return {m.name: m.value for m in runs.metrics_since(db, run.id, -1) if m.update == update}

    settings: dict[str, Any] = {"num_updates": 2, "samples": 4, "sample_every": 1, "checkpoint_every": 1}
    settings["reward_weights"] = {"diversity": 1.0}
    whole = begin(db, new_run(db, tiny, **settings))
    trainer_of(db, whole).train()
    runs.move(db, whole.id, to="completed", from_states=("running",))
    assert "held_out_error/diversity" not in numbers(whole, 0)
    assert numbers(whole, 1)["held_out_error/diversity"] > 0

    run = begin(db, new_run(db, tiny, **settings))
    first = trainer_of(db, run)

    def stopping(batch: ScoreBatch) -> ScoreResult:
        if first.position.update == 1:
            first.stop.set()
        return first_answer(batch)

    first_answer = first.stack.rewards["diversity"].score
    first.stack.rewards["diversity"] = Given(stopping, "diversity")
    with pytest.raises(exits.EndedError, match="Stopped at update 1"):
        first.train()
    trainer_of(db, begin_again(db, run)).train()
    name = "held_out_error/diversity"
    assert numbers(run, 2)[name] == pytest.approx(numbers(whole, 2)[name])
