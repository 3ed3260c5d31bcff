"""What a reward may do in a run: gates hold back, monitors watch, references hold to the base."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from flowgrpo.config import RunConfig
from flowgrpo.rewards.base import Abstained, ScoreBatch, ScoreResult, scored, unscored
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs import exits, roles, trainer
from flowgrpo.runs.experience import Experience
from flowgrpo.runs.position import Position
from flowgrpo.runs.scoring import Columns
from flowgrpo.runs.train import run_config
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.worker import WEIGHTS
from storage import runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.given import Given
from tests.runs.helpers import begin, new_run
from tests.runs.test_trainer import brightness, said


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def bright(batch: ScoreBatch) -> ScoreResult:
    return scored(brightness(batch) / 255)


def near(batch: ScoreBatch) -> ScoreResult:
    """Minus the mean distance of pixels, as a reference reward answers."""
    if batch.references is None:
        return unscored(len(batch), "there is no reference")
    return scored(-(batch.images.float() - batch.references.float()).abs().mean((1, 2, 3)) / 255)


def stack_of(*rewards: Given) -> RewardStack:
    plain = Given(bright, "verifier"), Given(bright, "diversity")
    return RewardStack({one.name: one for one in (*plain, *rewards)})


def trainer_with(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, *rewards: Given, **changes: Any
) -> Trainer:
    """One attempt of a run whose rewards are brightness and those given."""
    settings = {"reward_weights": {"verifier": 1.0}, "num_updates": 2, "samples": 0} | changes
    run = begin(db, new_run(db, tiny, **settings))
    monkeypatch.setattr(trainer, "load_stack", lambda names, *_: _only(stack_of(*rewards), names))
    device, stop = torch.device("cpu"), threading.Event()
    return Trainer(db, run, run_config(run), device=device, weights=WEIGHTS, stop=stop)


def _only(stack: RewardStack, names: tuple[str, ...]) -> RewardStack:
    missing = {name: f"the {name} reward has no weights here" for name in names if name not in stack.rewards}
    return RewardStack({n: r for n, r in stack.rewards.items() if n in names}, missing)


def first_rollout(one: Trainer) -> Experience:
    with one.turns.turn():
        one.gatherer.calibrate()
        return one.gatherer.gather(1)


def metrics_of(db: Database, run: Run, update: int) -> dict[str, float]:
    return {m.name: m.value for m in runs.metrics_since(db, run.id, -1) if m.update == update}


def config(**fields: Any) -> RunConfig:
    return RunConfig(**{"prompts": ("red hair",), "reward_weights": {"verifier": 1.0}} | fields)


# Gates and monitors


def test_what_fails_a_gate_is_counted_and_nothing_of_it_is_praised(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Given(bright, "safety", "gate", threshold=2.0)
    one = trainer_with(db, tiny, monkeypatch, gate, gates=["safety"])
    experience = first_rollout(one)
    assert experience.advantages is not None
    assert experience.advantages.values.max() <= 0 < experience.advantages.values.abs().max()
    assert experience.metrics["gate/safety"] == 1.0
    assert experience.metrics["unscored_share/safety"] == 0.0
    assert "reward/safety" not in experience.metrics


def test_the_better_half_alone_passes_a_gate_at_the_median() -> None:
    values = torch.tensor([[0.1, 0.4, 0.6, float("nan")], [0.9, 0.8, 0.2, 0.5]])
    stack = stack_of(Given(bright, "safety", "gate", threshold=0.5))
    silent = Columns({"safety": values}, {}, {}, {"safety": torch.zeros(2, 4, dtype=torch.bool)})
    failed = roles.gate_failed(config(gates=("safety",)), stack, silent)
    assert failed is not None
    assert failed.tolist() == [[True, True, False, False], [False, False, True, False]]
    metrics = roles.role_metrics(config(gates=("safety",)), stack, {"safety": values})
    assert metrics == {"gate/safety": pytest.approx(3 / 7), "unscored_share/safety": pytest.approx(1 / 8)}
    assert roles.gate_failed(config(), stack, silent) is None


def first_of_each_group_missing(reason: str) -> Callable[[ScoreBatch], ScoreResult]:
    def answer(batch: ScoreBatch) -> ScoreResult:
        is_first = [n == 0 or batch.groups[n] != batch.groups[n - 1] for n in range(len(batch))]
        reasons = tuple(reason if first else None for first in is_first)
        return ScoreResult(torch.ones(len(batch)).masked_fill(torch.tensor(is_first), float("nan")), reasons)

    return answer


@pytest.mark.parametrize("is_failure", [True, False])
def test_what_a_gate_failed_to_score_is_never_praised_and_what_it_abstained_from_is_free(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, is_failure: bool
) -> None:
    reason = "the detector is gone" if is_failure else Abstained("there is nobody in this prompt")
    gate = Given(first_of_each_group_missing(reason), "safety", "gate", threshold=0.5)
    one = trainer_with(db, tiny, monkeypatch, gate, gates=["safety"])
    one.stack.rewards["verifier"] = Given(first_of_each_group_is_best, "verifier")
    advantages = first_rollout(one).advantages
    assert advantages is not None
    assert (advantages.values[:, 0] > 0).all() != is_failure
    assert (advantages.values[:, 0] <= 0).all() == is_failure


def first_of_each_group_is_best(batch: ScoreBatch) -> ScoreResult:
    places = [n - batch.groups.index(group) for n, group in enumerate(batch.groups)]
    return scored(-torch.tensor(places).float())


def test_a_gate_that_cannot_score_lets_nothing_be_praised_and_pauses_the_run_by_its_name(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Given(lambda batch: unscored(len(batch), "the detector is gone"), "safety", "gate", threshold=0.5)
    one = trainer_with(db, tiny, monkeypatch, gate, gates=["safety"])
    with pytest.raises(exits.EndedError, match=r"'safety' could not score 100%.*the detector is gone"):
        one.train()
    numbers = metrics_of(db, one.run, 1)
    assert numbers["unscored_share/safety"] == numbers["failed_share/safety"] == 1.0
    assert "gate/safety" not in numbers
    assert numbers["advantage/mean"] < 0
    assert "safety left images without a score: the detector is gone." in said(db, one.run)
    assert any("could not score 100%" in sentence for sentence in said(db, one.run, "alarm"))


def test_a_monitor_is_shown_and_changes_nothing(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def advantages(*rewards: Given, **changes: Any) -> tuple[torch.Tensor, dict[str, float]]:
        one = trainer_with(db, tiny, monkeypatch, *rewards, **changes)
        found = first_rollout(one)
        runs.move(db, one.run.id, to="completed", from_states=("running",))
        assert found.advantages is not None
        return found.advantages.values, found.metrics

    alone, _ = advantages()
    dark = Given(lambda batch: scored(1 - brightness(batch) / 255), "pixel_stats", "monitor")
    watched, metrics = advantages(dark, monitors=["pixel_stats"])
    assert torch.equal(alone, watched)
    assert 0 < metrics["monitor/pixel_stats"] < 1
    assert not {"reward/pixel_stats", "reward_std/pixel_stats", "failed_share/pixel_stats"} & metrics.keys()


def test_what_a_monitor_measures_beside_its_value_and_what_it_says_are_written_down(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(batch: ScoreBatch) -> ScoreResult:
        values = brightness(batch) / 255
        warning = f"read the first 77 tokens of {len(batch)} prompts; images of 8x8 are enlarged"
        return ScoreResult(values, (None,) * len(batch), {"clipped": values * 0 + 0.25}, warning)

    one = trainer_with(
        db, tiny, monkeypatch, Given(answer, "pixel_stats", "monitor"), monitors=["pixel_stats"], samples=2
    )
    one.train()
    numbers = metrics_of(db, one.run, 2)
    assert numbers["detail/pixel_stats/clipped"] == 0.25
    told = [sentence for sentence in said(db, one.run) if sentence.startswith("pixel_stats says: ")]
    assert len(told) == 2  # once each, whatever number of images there were
    assert told[1] == "pixel_stats says: images of 8x8 are enlarged."


def test_details_are_those_of_monitors_and_of_the_reader() -> None:
    column = {"label": torch.tensor([1.0, 3.0]), "never": torch.zeros(0)}
    details = dict.fromkeys(("verifier", "ocr", "pixel_stats"), column)
    found = roles.detail_metrics(config(monitors=("pixel_stats",)), details)
    assert found == {"detail/ocr/label": 2.0, "detail/pixel_stats/label": 2.0}


@pytest.mark.parametrize(
    ("reward", "changes", "sentence"),
    [
        (("safety", "gate", 0.5), {"reward_weights": {"safety": 1.0}}, "is a gate and teaches nothing"),
        (("pixels", "monitor", None), {"reward_weights": {"pixels": 1.0}}, "name it in monitors"),
        (("clip", "pointwise", None), {"gates": ["clip"]}, "'clip' is no gate"),
        (("safety", "gate", None), {"gates": ["safety"]}, "no value below which an image fails"),
        (("lpips_ref", "reference", None), {"reward_weights": {"lpips_ref": 1.0}}, "the base does best"),
    ],
)  # fmt: skip
def test_a_reward_in_a_part_that_it_cannot_play_is_refused_before_the_run_starts(
    db: Database,
    tiny: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    reward: tuple[str, Any, float | None],
    changes: dict[str, Any],
    sentence: str,
) -> None:
    name, kind, threshold = reward
    with pytest.raises(ValueError, match=sentence):
        trainer_with(db, tiny, monkeypatch, Given(bright, name, kind, threshold), **changes)


def test_a_gate_that_is_not_here_ends_the_run_and_a_monitor_that_is_not_here_does_not(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(exits.EndedError, match="safety reward has no weights here"):
        trainer_with(db, tiny, monkeypatch, gates=["safety"])


def test_an_unavailable_monitor_is_a_warning(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer_with(db, tiny, monkeypatch, monitors=["pixel_stats"])
    one.train()
    assert "pixel_stats left images without a score: the pixel_stats reward has no weights here." in said(
        db, one.run
    )


def test_a_reward_has_one_part_and_a_cap_something_to_cut() -> None:
    with pytest.raises(ValueError, match="safety is named twice"):
        config(gates=("safety",), monitors=("safety",))
    with pytest.raises(ValueError, match="verifier is named twice"):
        config(monitors=("verifier",))
    with pytest.raises(ValueError, match="clip, which has no positive weight"):
        config(advantages={"caps": {"clip": 0.3}})
    with pytest.raises(ValueError, match="sft scores no images"):
        config(algorithm={"name": "sft", "folder": "x"}, gates=("safety",))


# References


ANCHORED = {"reward_weights": {"verifier": 0.8, "lpips_ref": 0.2}}


def test_before_the_first_update_an_image_is_the_base_image_of_its_seed(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer_with(db, tiny, monkeypatch, Given(near, "lpips_ref", "reference"), **ANCHORED)
    experience = first_rollout(one)
    assert experience.columns is not None
    assert (experience.columns.rewards["lpips_ref"] == 0).all()
    for rollout in experience.rollouts:
        assert rollout.anchor is not None
        assert torch.equal(rollout.anchor.images, rollout.images_uint8)


def test_a_run_with_a_reference_is_alive_from_the_start_and_held_as_it_moves_away(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values of the anchor are 0 at first: it is measured between images of one prompt instead."""
    changes = ANCHORED | {"num_updates": 3, "update": {"learning_rate": 0.03}}
    one = trainer_with(db, tiny, monkeypatch, Given(near, "lpips_ref", "reference"), **changes)
    one.train()
    stds = one.position.calibrated_stds or {}
    assert stds["lpips_ref"] > 0
    assert "lpips_ref" not in one.position.ceilings
    first, last = metrics_of(db, one.run, 1), metrics_of(db, one.run, 3)
    assert first["reward/lpips_ref"] == 0 > last["reward/lpips_ref"]
    assert first["groups/dead_share"] == 0
    assert last["reward_std/lpips_ref"] > 0
    assert said(db, one.run, "alarm") == []


def test_base_images_are_drawn_again_only_for_a_reward_that_needs_them(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trainer_with(db, tiny, monkeypatch, Given(near, "lpips_ref", "reference"))
    assert not plain.gatherer.source.draws_anchors  # type: ignore[union-attr]
    runs.move(db, plain.run.id, to="completed", from_states=("running",))
    reference = Given(near, "lpips_ref", "reference")
    watched = trainer_with(db, tiny, monkeypatch, reference, monitors=["lpips_ref"], num_updates=3)
    watched.train()
    assert metrics_of(db, watched.run, 1)["monitor/lpips_ref"] == 0
    assert metrics_of(db, watched.run, 3)["monitor/lpips_ref"] < 0


# Caps


def test_a_run_capped_at_the_base_has_its_ceilings_from_the_base_and_keeps_them_in_its_checkpoints(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer_with(db, tiny, monkeypatch, advantages={"cap_at_base": True})
    one.train()
    numbers = metrics_of(db, one.run, 1)
    assert 0 <= numbers["capped_share/verifier"] < 0.5
    assert 0 < one.position.ceilings["verifier"] < 1
    again = Position()
    again.restore(one.position.to_json())
    assert again.ceilings == one.position.ceilings


def test_a_position_from_before_there_were_caps_still_resumes() -> None:
    old = Position(update=3, calibrated_stds={"verifier": 0.1}).to_json()
    del old["ceilings"]
    position = Position()
    position.restore(old)
    assert (position.update, position.ceilings) == (3, {})
