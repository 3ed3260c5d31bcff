"""Past 5% of a rollout without a score by some reward, the run pauses with that reward's name and reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from flowgrpo.rewards import registry
from flowgrpo.rewards.base import Abstained, RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.entry import Entry
from flowgrpo.rewards.isolated import IsolatedReward, Limits
from flowgrpo.rewards.plugins import FoundPlugin
from flowgrpo.runs import exits
from flowgrpo.runs.recovery import PAUSED
from storage import runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.given import Given
from tests.runs.helpers import begin, new_run
from tests.runs.test_trainer import brightness, said, trainer_of

PLUGIN = FoundPlugin("misbehaving", "bad-manners 0.1", "tests.flowgrpo.rewards.misbehaving:plugin")
CARD = RewardSpec("misbehaving", "does as told", "pointwise", 0.0, 1.0, "", "Apache-2.0")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("deed", "seconds", "reason"),
    [
        ("hang", 1.0, "the misbehaving reward did not answer within 1 s"),
        ("crash", 60.0, "the misbehaving reward crashed with SIGSEGV"),
    ],
)
def test_a_plug_in_that_hangs_or_crashes_pauses_the_run_and_not_more(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, deed: str, seconds: float, reason: str
) -> None:
    """The plug-in does what the prompt says, in a process of its own, from the base on."""
    limits = Limits(120.0, seconds, 0.0, failures=100)
    entry = Entry(lambda *_: CARD, lambda *_: IsolatedReward(PLUGIN, limits=limits))
    monkeypatch.setitem(registry.REGISTRY, "misbehaving", entry)
    weights = {"diversity": 1.0, "misbehaving": 1.0}
    run = begin(db, new_run(db, tiny, prompts=[deed], reward_weights=weights, num_updates=2, samples=0))
    trainer = trainer_of(db, run)
    what = "Reward 'misbehaving' could not score 100% of the images: mend it or leave it out."
    sentence = f"{what} It says: {reason}."
    with pytest.raises(exits.EndedError, match=f"^{sentence}") as ended:
        trainer.train()
    trainer.stack.close()
    assert (ended.value.code, trainer.position.update) == (exits.ALARM, 1)
    assert said(db, run, PAUSED) == said(db, run, "alarm") == [sentence]


def some(share: float, reason: str | None, value: float = torch.nan) -> Callable[[ScoreBatch], ScoreResult]:
    """A reward that leaves a share of each batch without a score."""

    def answer(batch: ScoreBatch) -> ScoreResult:
        count = round(share * len(batch))
        values = brightness(batch).clone()
        values[:count] = value
        return ScoreResult(values, (reason,) * count + (None,) * (len(batch) - count))

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (some(1 / 6, None), "the verifier reward returned a value that is no number"),
        (some(1 / 6, "cut off"), "cut off"),
        (lambda batch: scored(torch.ones(1)), "the verifier reward returned 1 values for 6 images"),
    ],
)
def test_whatever_way_a_reward_fails_the_question_names_it_and_its_reason(
    db: Database, tiny: Checkpoint, answer: Callable[[ScoreBatch], ScoreResult], reason: str
) -> None:
    weights = {"diversity": 1.0, "verifier": 1.0}
    run = begin(db, new_run(db, tiny, reward_weights=weights, num_updates=2, samples=0))
    trainer = trainer_of(db, run, verifier=Given(answer, "verifier"))
    with pytest.raises(exits.EndedError, match=rf"^Reward 'verifier' could not .* It says: {reason}\."):
        trainer.train()
    (event,) = [event for event in runs.events(db, run.id) if event.kind == PAUSED]
    assert (event.payload or {})["alarms"][0]["topic"] == "unscored/verifier"


def test_a_reward_that_abstains_pauses_nothing(db: Database, tiny: Checkpoint) -> None:
    weights = {"diversity": 1.0, "verifier": 1.0}
    run = begin(db, new_run(db, tiny, reward_weights=weights, num_updates=2, samples=0))
    answer = some(1 / 2, Abstained("nothing was asked"))
    trainer = trainer_of(db, run, verifier=Given(answer, "verifier"))
    trainer.train()
    assert trainer.position.update == 2


def test_a_question_after_a_restart_still_says_why(db: Database, tiny: Checkpoint) -> None:
    """The machine went down between the question and the pause: the reason is that of the history."""
    weights = {"diversity": 1.0, "verifier": 1.0}
    run = begin(db, new_run(db, tiny, reward_weights=weights, num_updates=3, samples=0))
    failing = Given(some(1.0, "cut off"), "verifier")
    for _ in range(2):
        with pytest.raises(exits.EndedError, match="It says: cut off"):
            trainer_of(db, run, verifier=failing).train()
        runs.move(db, run.id, to="lost", from_states=("running",))
        runs.resume_run(db, run.id)
        run = begin(db, run)


def test_a_failure_is_told_before_an_abstention(db: Database, tiny: Checkpoint) -> None:
    weights = {"diversity": 1.0, "verifier": 1.0}
    run = begin(db, new_run(db, tiny, reward_weights=weights, num_updates=2, samples=0))

    def answer(batch: ScoreBatch) -> ScoreResult:
        reasons = (Abstained("nothing was asked"), "cut off", *[None] * (len(batch) - 2))
        values = brightness(batch).clone()
        values[:2] = torch.nan
        return ScoreResult(values, reasons)

    with pytest.raises(exits.EndedError, match="It says: cut off"):
        trainer_of(db, run, verifier=Given(answer, "verifier")).train()
