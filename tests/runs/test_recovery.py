"""What a run does when it goes wrong: back to earlier weights, into smaller pieces, or to a person."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flowgrpo.guards import WENT_BACK
from flowgrpo.rewards.base import ScoreBatch, ScoreResult, scored
from flowgrpo.runs import exits, memory
from flowgrpo.runs.trainer import Trainer
from storage import groups, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.given import Given
from tests.runs.helpers import adapter_hashes, begin, new_run
from tests.runs.test_trainer import begin_again, brightness, failing_from, said, trainer_of

LONE = {"reward_weights": {"verifier": 1.0}, "samples": 0, "checkpoint_every": 2}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def on_gradient(trainer: Trainer, change: Callable[[Tensor], Tensor], *updates: int) -> None:
    """Changes a gradient in the updates after these."""
    parameter = next(iter(trainer.learner.parameters.values()))
    parameter.register_hook(
        lambda gradient: change(gradient) if trainer.position.update in updates else gradient
    )


def broken(gradient: Tensor) -> Tensor:
    return gradient * torch.nan


def too_large(gradient: Tensor) -> Tensor:
    """What the allocator itself says when there is not that much memory."""
    return torch.empty(2**50, device=gradient.device)


def metric(db: Database, run: Run, name: str) -> dict[int, float]:
    return {m.update: m.value for m in runs.metrics_since(db, run.id, 0) if m.name == name}


def ended_as(trainer: Trainer, code: int) -> str:
    with pytest.raises(exits.EndedError) as ended:
        trainer.train()
    assert ended.value.code == code
    return ended.value.reason


# Back to earlier weights


def test_three_updates_in_a_row_that_are_not_finite_send_the_run_back_at_half_the_rate(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **LONE, num_updates=8))
    trainer = trainer_of(db, run, verifier=Given(lambda b: scored(brightness(b)), "verifier"))
    on_gradient(trainer, broken, 3, 4, 5)
    trainer.train()
    assert (trainer.position.update, trainer.position.rate, trainer.position.returns) == (8, 0.5, 1)
    assert [group["lr"] for group in trainer.learner.optimizer.param_groups] == [5e-4]
    assert metric(db, run, WENT_BACK) == {6: 4.0}
    (line,) = said(db, run, "recovery")
    assert line == (
        "After update 6 the run went back to the weights of update 4 and learns at half the rate since: "
        "3 updates in a row were not finite: lower the learning rate."
    )
    assert len(said(db, run)) == 3


def test_a_run_that_is_not_finite_again_ends_and_damages_nothing(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **{**LONE, "checkpoint_every": 50}, num_updates=20))
    trainer = trainer_of(db, run, verifier=Given(lambda b: scored(brightness(b)), "verifier"))
    before = {name: weight.detach().clone() for name, weight in trainer.learner.parameters.items()}
    on_gradient(trainer, broken, *range(20))
    assert "Updates were not finite again and again" in ended_as(trainer, exits.NOT_FINITE)
    assert trainer.position.update == 6
    assert metric(db, run, WENT_BACK) == {3: 0.0}
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.learner.parameters.items())


@pytest.mark.parametrize("stop_at", [5, 7])
def test_a_run_that_went_back_and_is_resumed_ends_with_the_very_same_bytes(
    db: Database, tiny: Checkpoint, stop_at: int
) -> None:
    """Stopped before it goes back, and after it."""
    hashes = []
    for stop in (math.inf, stop_at):
        run = begin(db, new_run(db, tiny, **LONE, num_updates=9))

        def started(stop: float = stop, run: Run = run) -> Trainer:
            trainer = trainer_of(db, runs.get_run(db, run.id))

            def answer(batch: ScoreBatch) -> ScoreResult:
                if trainer.position.update == stop:
                    trainer.stop.set()
                return scored(brightness(batch))

            trainer.stack.rewards["verifier"] = Given(answer, "verifier")
            on_gradient(trainer, broken, 3, 4, 5)
            return trainer

        trainer = started()
        if stop < math.inf:
            ended_as(trainer, exits.STOPPED)
            begin_again(db, run)
            trainer = started(math.inf)
        trainer.train()
        runs.move(db, run.id, to="completed", from_states=("running",))
        hashes.append((adapter_hashes(db, run, 9), trainer.position))
    assert hashes[0] == hashes[1]


def test_weights_that_are_not_finite_are_never_saved_and_send_the_run_back(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **LONE, num_updates=6))
    trainer = trainer_of(db, run)

    def breaking(batch: ScoreBatch) -> ScoreResult:
        if trainer.position.update == 3:
            next(iter(trainer.learner.ema.values())).fill_(torch.nan)
        return scored(brightness(batch))

    trainer.stack.rewards["verifier"] = Given(breaking, "verifier")
    trainer.train()
    assert metric(db, run, WENT_BACK) == {4: 2.0}
    assert "its weights were not finite" in said(db, run, "recovery")[0]


def test_a_reward_that_falls_off_at_once_sends_the_run_to_weights_from_before(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **{**LONE, "checkpoint_every": 1}, num_updates=14))
    trainer = trainer_of(db, run)

    def falling(batch: ScoreBatch) -> ScoreResult:
        return scored(brightness(batch) - (1e4 if trainer.position.update == 11 else 0))

    trainer.stack.rewards["verifier"] = Given(falling, "verifier")
    trainer.train()
    assert metric(db, run, WENT_BACK) == {12: 10.0}


def test_a_gradient_that_spikes_is_cut_down_to_what_is_usual(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **LONE, num_updates=24))
    trainer = trainer_of(db, run, verifier=Given(lambda b: scored(brightness(b)), "verifier"))
    on_gradient(trainer, lambda gradient: gradient * 1e6, 22)
    trainer.train()
    assert [update for update, spiked in metric(db, run, "policy/spike").items() if spiked] == [23]
    norms = metric(db, run, "policy/grad_norm")
    assert max(norms[n] for n in range(1, 23)) < trainer.learner.config.max_grad_norm < 0.5 * norms[23]


# Smaller pieces


def test_memory_that_runs_out_once_costs_a_rollout(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **LONE))
    trainer = trainer_of(db, run, verifier=Given(lambda b: scored(brightness(b)), "verifier"))
    failed: list[bool] = []

    def once(gradient: Tensor) -> Tensor:
        if not failed:
            failed.append(True)
            return too_large(gradient)
        return gradient

    on_gradient(trainer, once, 1)
    trainer.train()
    assert (trainer.position.update, trainer.position.rollout) == (4, 5)
    assert (trainer.position.micro_batch, trainer.position.shortages) == (None, 0)
    assert said(db, run) == ["The rollout after update 1 ran out of memory: its images were thrown away."]


def test_memory_that_runs_out_twice_in_a_row_makes_the_pieces_smaller_and_a_resume_keeps_that(
    db: Database, tiny: Checkpoint
) -> None:
    rollout = {"group_size": 4, "groups_per_update": 2, "num_steps": 3, "window_size": 1}
    run = begin(db, new_run(db, tiny, **LONE, rollout=rollout))
    trainer = trainer_of(db, run)

    def hungry(batch: ScoreBatch) -> ScoreResult:
        if trainer.position.update == 2:
            trainer.stop.set()
        return scored(brightness(batch))

    trainer.stack.rewards["verifier"] = Given(hungry, "verifier")
    parameter = next(iter(trainer.learner.parameters.values()))

    def needs_four(gradient: Tensor) -> Tensor:
        is_short = trainer.position.update == 1 and trainer.gatherer.micro_batch > 2
        return too_large(gradient) if is_short else gradient

    parameter.register_hook(needs_four)
    ended_as(trainer, exits.STOPPED)
    assert (trainer.position.micro_batch, trainer.position.cuts) == (2, 1)
    assert "micro-batches hold at most 2 images instead of 4" in said(db, run)[-1]
    again = trainer_of(db, begin_again(db, run), verifier=Given(lambda b: scored(brightness(b)), "verifier"))
    again.train()
    assert again.gatherer.micro_batch == 2
    assert metric(db, run, "groups/samples") == dict.fromkeys(range(1, 5), 8.0)


def test_an_update_in_smaller_pieces_has_the_same_gradient(db: Database, tiny: Checkpoint) -> None:
    weights = []
    for size in (None, 1):
        run = begin(db, new_run(db, tiny, **LONE, num_updates=1))
        trainer = trainer_of(db, run, verifier=Given(lambda b: scored(brightness(b)), "verifier"))
        trainer.position.micro_batch = size
        trainer.train()
        runs.move(db, run.id, to="completed", from_states=("running",))
        weights.append(metric(db, run, "policy/grad_norm")[1])
    assert weights[0] == pytest.approx(weights[1], rel=1e-3)


def test_memory_that_never_suffices_ends_the_run_with_what_to_lower(db: Database, tiny: Checkpoint) -> None:
    rollout = {"group_size": 16, "groups_per_update": 1, "num_steps": 2, "window_size": 1}
    run = begin(db, new_run(db, tiny, **LONE, rollout=rollout))

    def exhaust(batch: ScoreBatch) -> ScoreResult:
        if trainer.position.update < 1:
            return scored(brightness(batch))
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    trainer = trainer_of(db, run, verifier=Given(exhaust, "verifier"))
    reason = ended_as(trainer, exits.OUT_OF_MEMORY)
    assert "with micro-batches of 2. Free memory" in reason
    assert "smaller images (now 64 x 64)" in reason
    assert trainer.position.cuts == memory.MAX_CUTS
    assert adapter_hashes(db, run, 1)


def test_an_error_that_is_no_shortage_is_not_taken_for_one() -> None:
    assert not memory.is_shortage(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert memory.is_shortage(raised.value)


# A person decides


def pause(db: Database, run: Run) -> dict[str, object]:
    """The last question of a run."""
    return next(e.payload or {} for e in reversed(runs.events(db, run.id)) if e.kind == "pause")


def paused(db: Database, run: Run, reason: str) -> None:
    """What the shim does once the trainer has ended so."""
    runs.move(db, run.id, to="paused", from_states=("running",), reason=reason)


def dead_from(trainer: Trainer, first: int) -> Given:
    """A reward that sees no difference from an update on."""

    def answer(batch: ScoreBatch) -> ScoreResult:
        is_dead = trainer.position.update >= first
        return scored(torch.full((len(batch),), 0.5) if is_dead else brightness(batch))

    return Given(answer, "verifier")


def test_an_alarm_pauses_with_a_checkpoint_and_pictures_of_now_and_of_the_base(
    db: Database, tiny: Checkpoint
) -> None:
    settings = {**LONE, "samples": 2, "sample_every": 50, "num_updates": 20, "checkpoint_every": 3}
    run = begin(db, new_run(db, tiny, **settings))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = dead_from(trainer, 2)
    reason = ended_as(trainer, exits.ALARM)
    assert reason.startswith(
        "The rewards see no difference within groups: there is nothing to learn. Compare"
    )
    asked = pause(db, run)
    assert (asked["update"], asked["shown"], asked["back_to"]) == (7, 7, 3)
    assert asked["alarms"] == [{"topic": "dead_groups/", "size": 1.0}]
    made = {view.group.id: view.group for view in groups.groups_of_run(db, run.id)}
    before, now = ([made[g] for g in asked[side]] for side in ("base", "now"))  # type: ignore[attr-defined]
    assert [(g.update, g.state) for g in (*before, *now)] == [(0, "done"), (7, "done")]
    assert [g.seeds for g in before] == [g.seeds for g in now]
    assert adapter_hashes(db, run, 7)


def test_an_alarm_that_was_let_pass_does_not_pause_the_run_again(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **LONE, num_updates=12))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = dead_from(trainer, 0)
    paused(db, run, ended_as(trainer, exits.ALARM))
    runs.resume_run(db, run.id)
    again = trainer_of(db, begin(db, run))
    again.stack.rewards["verifier"] = dead_from(again, 0)
    again.train()
    assert again.position.update == 12


def test_an_alarm_that_worsens_after_it_was_let_pass_asks_again(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **LONE, num_updates=12))
    at_first = trainer_of(db, run)

    def failing(trainer: Trainer, share: Callable[[int], float]) -> Given:
        def answer(batch: ScoreBatch) -> ScoreResult:
            count = round(share(trainer.position.update) * len(batch))
            values = brightness(batch).clone()
            values[:count] = torch.nan
            return ScoreResult(values, ("cut off",) * count + (None,) * (len(batch) - count))

        return Given(answer, "verifier")

    at_first.stack.rewards["verifier"] = failing(at_first, lambda update: 0.2 if update >= 2 else 0)
    paused(db, run, ended_as(at_first, exits.ALARM))
    runs.resume_run(db, run.id)
    again = trainer_of(db, begin(db, run))
    again.stack.rewards["verifier"] = failing(again, lambda update: 0.5 if update >= 5 else 0.2)
    assert "could not score 50% of the images" in ended_as(again, exits.ALARM)
    assert again.position.update == 6


def test_a_question_that_nobody_answered_is_asked_again(db: Database, tiny: Checkpoint) -> None:
    """The machine went down between the question and the pause, and the dispatcher began again."""
    run = begin(db, new_run(db, tiny, **LONE, num_updates=12))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = dead_from(trainer, 0)
    ended_as(trainer, exits.ALARM)
    runs.move(db, run.id, to="lost", from_states=("running",))
    runs.resume_run(db, run.id)
    again = trainer_of(db, begin(db, run))
    assert "there is nothing to learn" in ended_as(again, exits.ALARM)
    assert again.position.update == 5


def test_a_person_may_send_the_run_back_to_a_checkpoint_and_a_resume_keeps_that(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **LONE, num_updates=9))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = dead_from(trainer, 1)
    paused(db, run, ended_as(trainer, exits.ALARM))
    with pytest.raises(LookupError, match="no checkpoint of update 3"):
        runs.resume_run(db, run.id, from_update=3)
    runs.resume_run(db, run.id, from_update=2)
    again = trainer_of(db, begin(db, run))

    def stopping(batch: ScoreBatch) -> ScoreResult:
        if again.position.update == 7:
            again.stop.set()
        return scored(brightness(batch))

    again.stack.rewards["verifier"] = Given(stopping, "verifier")
    ended_as(again, exits.STOPPED)
    assert (again.position.update, again.position.rate, again.position.returns) == (7, 0.5, 0)
    last = trainer_of(db, begin_again(db, run), verifier=Given(lambda b: scored(brightness(b)), "verifier"))
    last.train()
    assert (last.position.rate, metric(db, run, WENT_BACK)) == (0.5, {6: 2.0})
    assert said(db, run, "recovery") == [
        "After update 6 the run went back to the weights of update 2 and learns at half the rate since: "
        "it was asked to."
    ]


def test_an_alarm_at_the_last_update_pauses_nothing(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **LONE, num_updates=2))
    trainer = trainer_of(db, run)
    trainer.stack.rewards["verifier"] = failing_from(trainer, 1)
    trainer.train()
    assert any("could not score 100%" in sentence for sentence in said(db, run, "alarm"))
