"""What a run names as its judges scores its sample grids and nothing else; what cannot judge is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgrpo.config import RunConfig
from flowgrpo.rewards.base import Kind, ScoreBatch, scored, unscored
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs import exits, plan, roles, samples
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.worker import WEIGHTS
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.given import Given, brightness
from tests.runs.helpers import begin, new_run, tiny_config
from tests.runs.test_trainer import begin_again, said, trainer_of

SETTINGS: dict[str, Any] = {
    "prompts": ["portrait, red hair", "portrait, glasses"],
    "held_out_prompts": ["portrait, blue hair"],
    "reward_weights": {"verifier": 0.7, "clip": 0.3},
    "judges": ["quality"],
    "num_updates": 1,
    "samples": 2,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def numbers(db: Database, run: Run, update: int) -> dict[str, float]:
    return {m.name: m.value for m in runs.metrics_since(db, run.id, -1) if m.update == update}


def config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(tiny_config(**SETTINGS | changes))


def test_a_run_on_the_starter_is_judged_by_what_it_names_and_by_nothing_else(db: Database) -> None:
    starter = checkpoints.register_base(
        db, name="starter", source=str(WEIGHTS / "pipeline"), family="StableDiffusionXLPipeline"
    )
    run = begin(db, new_run(db, starter, **SETTINGS))
    one = trainer_of(db, run)
    one.train()
    assert one.watch.judges == ("quality",)
    base, now = numbers(db, run, 0), numbers(db, run, 1)
    assert 0 <= now["held_out/quality"] <= 1
    assert now["held_out_error/quality"] > 0 == base["held_out_error/quality"]
    assert "held_out/judge" not in base | now
    assert "reward/quality" not in base | now
    assert one.watch.is_judged


@pytest.mark.parametrize(("name", "known"), [("starter", ["judge"]), ("tiny", ["clip", "quality"])])
def test_without_names_the_studio_chooses(name: str, known: list[str]) -> None:
    old = config().model_dump(mode="json") | {"reward_weights": {"verifier": 1.0}}
    del old["judges"]
    read = RunConfig.model_validate(old)
    assert read.judges == ()
    assert list(samples.judges_of(name, read, Options(WEIGHTS)).rewards) == known


def test_a_judge_has_no_other_part_and_needs_grids() -> None:
    words = "clip is named twice among reward_weights, gates, monitors and judges: a reward has one part"
    for part in ({"reward_weights": {"clip": 0.1}}, {"gates": ["clip"]}, {"monitors": ["clip"]}):
        with pytest.raises(ValueError, match=words):
            config(**{"reward_weights": {"verifier": 1.0}, "judges": ["clip"]} | part)
    assert config(reward_weights={"verifier": 1.0, "clip": 0.0}, judges=["clip"]).judges == ("clip",)
    with pytest.raises(ValueError, match="judges look at the sample grids, and samples is 0"):
        config(samples=0)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("safety", "gate", "'safety' cannot judge: it is a gate .*: name it in gates"),
        ("pixel_stats", "monitor", "is a monitor, .*: name it in monitors"),
        ("lpips_ref", "reference", "a sample grid has none: leave it out"),
        ("diversity", "groupwise", "the diversity of a grid is watched anyway"),
        ("human:ViT-B-32/openai", "pointwise", "is fitted anew when people rate"),
    ],
)
def test_what_says_nothing_of_an_image_alone_or_changes_cannot_judge(
    name: str, kind: Kind, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        roles.check_judges(RewardStack({name: Given(brightness, name, kind)}))
    roles.check_judges(RewardStack({"quality": Given(brightness, "quality")}))
    with pytest.raises(ValueError, match="name it in monitors"):  # and not: fit a head first
        roles.check_judges(RewardStack({}, {"human": "nothing has been learned from votes yet"}))


def test_a_judge_that_is_not_here_ends_the_run_before_it_starts_and_its_plan(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(
        db, new_run(db, tiny, **SETTINGS | {"reward_weights": {"diversity": 1}, "judges": ["pickscore"]})
    )
    with pytest.raises(exits.EndedError, match="waits for somebody to accept this") as ended:
        trainer_of(db, run)
    assert ended.value.code == exits.REWARDS_FAILED
    asked = config(reward_weights={"verifier": 1.0}, judges=["pickscore"])
    with pytest.raises(LookupError, match="waits for somebody to accept this"):
        plan.make_plan(db, asked, tiny.name, WEIGHTS, plan.Wishes(probes=False))
    with pytest.raises(LookupError, match='there is no reward "judge"'):
        samples.judges_of("starter", config(judges=["judge"]), Options(WEIGHTS))


def judged_by(db: Database, run: Run, judge: Given) -> Trainer:
    one = trainer_of(db, run)
    one.grids.judges.rewards["quality"] = judge
    return one


def test_why_a_judge_has_no_score_is_said_and_that_nothing_judges(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **SETTINGS | {"reward_weights": {"diversity": 1.0}}))
    judged_by(db, run, Given(lambda batch: unscored(len(batch), "the server is away"), "quality")).train()
    assert said(db, run) == [
        "quality left images without a score: the server is away.",
        "None of the judges (quality) scored the base, so its samples are watched for diversity and looks "
        "only.",
    ]


def test_a_judge_that_was_interrupted_ends_the_run_and_its_silence_is_no_verdict(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **SETTINGS | {"reward_weights": {"diversity": 1.0}}))
    one = trainer_of(db, run)

    def hanging(batch: ScoreBatch) -> Any:
        if one.position.update:
            one.grids.judges.interrupt()
        return scored(batch.images.double().mean((1, 2, 3)))

    one.grids.judges.rewards["quality"] = Given(hanging, "quality")
    with pytest.raises(exits.EndedError, match="Stopped at update 1"):
        one.train()
    assert "held_out/quality" in numbers(db, run, 0)
    assert "held_out/quality" not in numbers(db, run, 1)
    assert trainer_of(db, begin_again(db, run)).watch.judges == ("quality",)
