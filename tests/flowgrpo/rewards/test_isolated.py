"""A plug-in may do to its own process what it likes; the one that asked for scores gets a reason."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import Abstained, ScoreBatch
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.children import Child, child_command
from flowgrpo.rewards.isolated import IsolatedReward, Limits, describe, described_by
from flowgrpo.rewards.plugins import FoundPlugin
from flowgrpo.rewards.stack import RewardStack
from tests.given import Given, brightness

MODULE = "tests.flowgrpo.rewards.misbehaving"
LIMITS = Limits(120.0, 60.0, 0.0, failures=2, rest_seconds=60.0)
WELL = "a prompt"


def found(attribute: str = "plugin", module: str = MODULE) -> FoundPlugin:
    return FoundPlugin("misbehaving", "bad-manners 0.1", f"{module}:{attribute}")


@pytest.fixture(scope="module")
def reward() -> Iterator[IsolatedReward]:
    made = IsolatedReward(found(), limits=Limits(120.0, 60.0, 0.0, failures=1000))
    yield made
    made.close()


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    made = Child("misbehaving", child_command())
    yield made
    made.end()


def test_a_reward_of_others_does_not_learn_where_the_rows_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://studio:secret@db/studio")
    monkeypatch.setenv("PGPASSWORD", "secret")
    code = "import os, sys; sys.stderr.write(repr([v for v in os.environ.values() if 'secret' in v]))"
    made = Child("curious", [sys.executable, "-c", code])
    made.process.wait(60)
    made.end()
    assert list(made.last_words) == ["[]"]


def batch(images: Tensor, prompt: str, count: int = 4) -> ScoreBatch:
    return ScoreBatch(images[:count], [prompt] * count, [0] * count)


def reasons(reward: IsolatedReward, images: Tensor, deed: str) -> list[str | None]:
    """Why the images have no score, after which the reward scores as if nothing had been."""
    stack = RewardStack({"misbehaving": reward, "good": Given(brightness, "good")})
    results = stack.score(batch(images, deed))
    assert results["misbehaving"].values.isnan().all()
    assert results["good"].values.isfinite().all()
    assert stack.score(batch(images, WELL))["misbehaving"].values.isfinite().all()
    return list(results["misbehaving"].reasons)


def test_scores_of_a_child_are_bit_for_bit_those_of_this_process(
    reward: IsolatedReward, renders: tuple[Tensor, list[str]]
) -> None:
    here = brightness(batch(renders[0], WELL, 24))
    there = reward.score(batch(renders[0], WELL, 24))
    assert torch.equal(here.values, there.values)
    assert there.reasons == (None,) * 24


def test_references_go_with_the_images(reward: IsolatedReward, renders: tuple[Tensor, list[str]]) -> None:
    images = renders[0][:2]
    given = ScoreBatch(images, ["references"] * 2, [0, 0], references=images.roll(1, 0))
    expected = (images != images.roll(1, 0)).float().mean(dim=(1, 2, 3))
    assert torch.equal(reward.score(given).values, expected)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("nan", "the misbehaving reward returned a value that is no number"),
        ("short", "the misbehaving reward returned 3 values for 4 images"),
        ("matrix", "the misbehaving reward returned 4x1 values for 4 images"),
        ("reasons", "the misbehaving reward returned 0 reasons for 4 images"),
        ("list", "the misbehaving reward returned its values as a list instead of a tensor"),
        ("nothing", "the misbehaving reward returned a NoneType instead of a ScoreResult"),
        ("raise", "the misbehaving reward failed: RuntimeError: the service is gone"),
        ("exhaust", "the misbehaving reward ran out of memory on 4 images: tried to allocate 2 GiB"),
    ],
)
def test_an_answer_that_may_not_be_is_a_gap_with_its_reason(
    reward: IsolatedReward, renders: tuple[Tensor, list[str]], deed: str, reason: str
) -> None:
    before = child_of(reward)
    assert reasons(reward, renders[0], deed) == [reason] * 4
    assert child_of(reward) == before


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("crash", "the misbehaving reward crashed with SIGSEGV"),
        ("kill", "the misbehaving reward crashed with SIGKILL, likely out of memory"),
        ("leave", "the misbehaving reward ended its process with exit code 3"),
        ("raise uncommonly", "the misbehaving reward ended its process with exit code 1: "
         "tests.flowgrpo.rewards.misbehaving.UncommonError: nobody expects this"),
    ],
)  # fmt: skip
def test_the_end_of_a_child_is_a_gap_with_its_reason_and_the_next_batch_has_another(
    reward: IsolatedReward, renders: tuple[Tensor, list[str]], deed: str, reason: str
) -> None:
    before = child_of(reward)
    (said,) = set(reasons(reward, renders[0], deed))
    assert str(said).startswith(reason)
    assert child_of(reward) != before
    assert not psutil.pid_exists(before)


def test_memory_that_runs_out_is_asked_for_and_the_batch_tried_again_where_somebody_made_room(
    reward: IsolatedReward, renders: tuple[Tensor, list[str]]
) -> None:
    asked: list[bool] = []

    def make_room() -> bool:
        asked.append(True)
        return len(asked) == 1

    stack = RewardStack({"misbehaving": reward})
    stack.ask_for_room(make_room)
    try:
        assert stack.score(batch(renders[0], "exhaust once"))["misbehaving"].values.tolist() == [1.0] * 4
        nobody_left = stack.score(batch(renders[0], "exhaust"))["misbehaving"]
    finally:
        del reward.make_room
    assert str(nobody_left.reasons[0]).startswith("the misbehaving reward ran out of memory on 4 images")
    assert len(asked) == 2


def test_a_reward_that_hangs_is_not_waited_for_once_it_is_interrupted(
    renders: tuple[Tensor, list[str]],
) -> None:
    reward = IsolatedReward(found(), limits=Limits(120.0, 60.0, 0.0))
    stack = RewardStack({"misbehaving": reward})
    timer = threading.Timer(1.0, stack.interrupt)
    timer.start()
    for deed in ("hang in native code", WELL):
        started = time.monotonic()
        result = stack.score(batch(renders[0], deed))["misbehaving"]
        assert time.monotonic() - started < 20
        assert set(result.reasons) == {"the misbehaving reward was not waited for: the run stops"}
    reward.close()


@pytest.mark.parametrize("deed", ["hang", "hang in native code"])
def test_a_hang_ends_after_its_time_and_the_log_says_where(
    renders: tuple[Tensor, list[str]], deed: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reward = IsolatedReward(found(), limits=Limits(120.0, 3.0, 0.0))
    started = time.monotonic()
    (said,) = set(reasons(reward, renders[0], deed))
    assert said == "the misbehaving reward did not answer within 3 s"
    assert time.monotonic() - started < 200  # and not the 600 s that it hangs
    assert "misbehaving.py" in caplog.text and "in score" in caplog.text
    reward.close()


def test_a_reward_that_keeps_dying_rests(renders: tuple[Tensor, list[str]]) -> None:
    reward = IsolatedReward(found(), limits=LIMITS)
    for _ in range(2):
        with pytest.raises(FailedRewardError, match="exit code 3"):
            reward.score(batch(renders[0], "leave"))
    with pytest.raises(
        FailedRewardError, match=r"exit code 3.*, 2 times in a row: it is tried again after 60"
    ):
        reward.score(batch(renders[0], WELL))
    reward._rests_until = 0.0
    assert reward.score(batch(renders[0], WELL)).values.isfinite().all()
    reward.close()


def test_what_a_plug_in_prints_goes_to_the_log_and_harms_nothing(
    reward: IsolatedReward, renders: tuple[Tensor, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert reward.score(batch(renders[0], "print")).values.tolist() == [1.0] * 4
    reward.close()
    for words in ("FGRW says the plug-in", "raw bytes on standard output", "from a child of the child"):
        assert f"misbehaving: {words}" in caplog.text


def test_an_abstention_stays_one(reward: IsolatedReward, renders: tuple[Tensor, list[str]]) -> None:
    result = reward.score(batch(renders[0], "abstain"))
    assert all(isinstance(reason, Abstained) for reason in result.reasons)


def test_a_child_ends_with_its_reward(renders: tuple[Tensor, list[str]]) -> None:
    reward = IsolatedReward(found())
    pid = child_of(reward)
    del reward
    gc.collect()
    assert not psutil.pid_exists(pid)


ORPHAN = """
import os, sys, torch
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.isolated import IsolatedReward
from tests.flowgrpo.rewards.test_isolated import found
reward = IsolatedReward(found())
print(reward._child.process.pid, flush=True)
images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
reward.score(ScoreBatch(images, ["hang"], [0]))
"""


def test_a_child_does_not_outlive_a_parent_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(20)


@pytest.mark.parametrize(
    "says",
    ["import os; os.write(1, b'no frame of any kind' * 9)", "import os; os.write(1, b'FGRW')", "pass"],
)
def test_a_process_that_talks_nonsense_is_no_reward(says: str) -> None:
    command = [sys.executable, "-c", says]
    with pytest.raises(FailedRewardError, match=r"the misbehaving reward (sent no answer|ended its process)"):
        IsolatedReward(found(), limits=LIMITS, command=command)


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("nowhere", "AttributeError: module .* has no attribute 'nowhere'"),
        ("SPEC", "is a RewardSpec and no flowgrpo.rewards.plugins.Plugin"),
        ("other_name", "no usable spec for misbehaving: it calls itself other"),
        ("upside_down", "its scale must have low < high, got 1 and 0"),
        ("gate_without_threshold", "a gate, and only a gate, has a threshold"),
        ("strange_kind", "no usable spec for misbehaving: kind: "),
        ("no_spec", "TypeError: its spec is a str"),
        ("no_factory", "has no factory: its load is a NoneType"),
        ("bad_options", "its option x must be of type string, integer, number, boolean, got 'array'"),
    ],
)
def test_a_broken_plug_in_is_described_by_its_reason(child: Child, attribute: str, reason: str) -> None:
    with pytest.raises(FailedRewardError, match=reason):
        described_by(child, found(attribute), 120.0)


def test_a_module_that_cannot_be_imported_is_a_reason() -> None:
    with pytest.raises(
        FailedRewardError, match=r"bad-manners 0.1 could not load misbehaving: ModuleNotFound"
    ):
        describe(found(module="nowhere.at_all"), LIMITS)


def test_a_factory_that_fails_or_makes_no_reward_is_a_reason() -> None:
    with pytest.raises(FailedRewardError, match="LookupError: its weights are not here"):
        IsolatedReward(found(), {"fails": True}, limits=LIMITS)
    with pytest.raises(FailedRewardError, match="returned a str without spec and score"):
        IsolatedReward(found("no_reward"), limits=LIMITS)
    with pytest.raises(FailedRewardError, match="cannot be set up: there is no option gain"):
        IsolatedReward(found(), {"gain": 1}, limits=LIMITS)


def test_a_disabled_plug_in_is_never_started() -> None:
    plugin = FoundPlugin("misbehaving", "p 1", f"{MODULE}:plugin", "two packages bring it")
    for start in (describe, IsolatedReward):
        with pytest.raises(FailedRewardError, match=r"^two packages bring it$"):
            start(plugin)


def child_of(reward: IsolatedReward) -> int:
    assert reward._child is not None
    return reward._child.process.pid
