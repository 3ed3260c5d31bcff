from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.stack import EMBEDDED, RewardStack, load_stack
from flowgrpo.starter import features
from tests.given import Given


@pytest.fixture
def batch(renders: tuple[Tensor, list[str]]) -> ScoreBatch:
    return ScoreBatch(renders[0][:4], renders[1][:4], [0, 0, 1, 1])


def score(answer: Callable[[ScoreBatch], ScoreResult], batch: ScoreBatch) -> ScoreResult:
    return RewardStack({"given": Given(answer)}).score(batch)["given"]


def test_every_embedded_reward_scores_every_image(weights: Path, batch: ScoreBatch) -> None:
    results = load_stack(EMBEDDED, weights).score(batch)
    assert tuple(results) == EMBEDDED
    assert all(result.values.isfinite().all() for result in results.values())


def test_scores_do_not_depend_on_the_batch(weights: Path, renders: tuple[Tensor, list[str]]) -> None:
    images, prompts = renders
    stack = load_stack(EMBEDDED, weights)
    whole = stack.score(ScoreBatch(images, prompts, [i // 4 for i in range(24)]))
    part = stack.score(ScoreBatch(images[8:16], prompts[8:16], [i // 4 for i in range(8)]))
    for name in EMBEDDED:
        torch.testing.assert_close(whole[name].values[8:16], part[name].values, atol=2e-4, rtol=1e-4)


def test_a_reward_that_raises_is_reported_on_every_image(batch: ScoreBatch) -> None:
    def fail(_: ScoreBatch) -> ScoreResult:
        raise RuntimeError("the service is gone")

    result = score(fail, batch)
    assert result.values.isnan().all()
    assert result.reasons == ("the given reward failed: RuntimeError: the service is gone",) * 4


def test_an_error_of_a_library_that_is_only_an_exception_is_reported_too(batch: ScoreBatch) -> None:
    def fail(_: ScoreBatch) -> ScoreResult:
        onnxruntime.InferenceSession(b"no model")
        raise AssertionError

    assert "InvalidProtobuf" in str(score(fail, batch).reasons[0])


def test_the_other_rewards_of_a_stack_still_score(batch: ScoreBatch) -> None:
    def fail(_: ScoreBatch) -> ScoreResult:
        raise KeyError("x")

    good = Given(lambda b: scored(torch.arange(len(b)).float()), "good")
    results = RewardStack({"bad": Given(fail, "bad"), "good": good}).score(batch)
    assert results["good"].values.tolist() == [0, 1, 2, 3]


def test_memory_that_runs_out_is_not_taken_for_a_reward_that_fails(batch: ScoreBatch) -> None:
    def exhaust(_: ScoreBatch) -> ScoreResult:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    with pytest.raises(torch.OutOfMemoryError, match="2 GiB"):
        score(exhaust, batch)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "returned a NoneType instead of a ScoreResult"),
        (torch.ones(4), "returned a Tensor instead of a ScoreResult"),
        (scored(torch.ones(4, 1)[:, 0][:0]), "returned 0 values for 4 images"),
    ],
)
def test_an_answer_of_another_form_is_reported(batch: ScoreBatch, answer: Any, reason: str) -> None:
    result = score(lambda _: answer, batch)
    assert result.reasons == (f"the given reward {reason}",) * 4


def test_a_wrong_number_of_values_is_reported(batch: ScoreBatch) -> None:
    result = score(lambda _: scored(torch.ones(3)), batch)
    assert result.values.isnan().all()
    assert result.reasons[0] == "the given reward returned 3 values for 4 images"


def test_a_value_that_is_no_number_becomes_a_gap_with_a_reason(batch: ScoreBatch) -> None:
    result = score(lambda _: scored(torch.tensor([0.5, float("inf"), float("nan"), 0.1])), batch)
    assert result.values.isnan().tolist() == [False, True, True, False]
    assert result.reasons[1] == "the given reward returned a value that is no number"
    assert result.reasons[0] is None


def test_a_reward_that_cannot_tell_images_apart_is_reported(batch: ScoreBatch) -> None:
    result = score(lambda _: scored(torch.full((4,), 0.25)), batch)
    assert result.warning is not None
    assert "all 4 images the same value, 0.25" in result.warning
    assert result.values.tolist() == [0.25] * 4


def test_rewards_share_one_forward(weights: Path, batch: ScoreBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = features.taps_of

    def counting(images: Tensor, *, smooth: bool, device: str = "cpu") -> tuple[Tensor, ...]:
        seen.append(smooth)
        return original(images, smooth=smooth, device=device)

    monkeypatch.setattr(features, "taps_of", counting)
    stack = load_stack(["quality", "diversity"], weights)
    stack.score(batch)
    stack.score(batch)
    assert sorted(seen) == [False, True]


def test_an_unknown_reward_is_refused_with_the_names_there_are(weights: Path) -> None:
    with pytest.raises(LookupError, match='no reward "beauty"; the rewards are verifier, clip'):
        load_stack(["beauty"], weights)


def test_the_judge_never_rewards(weights: Path) -> None:
    with pytest.raises(LookupError, match='no reward "judge"'):
        load_stack(["judge"], weights)


def test_missing_weights_are_a_reason_on_every_image(tmp_path: Path, batch: ScoreBatch) -> None:
    stack = load_stack(["quality", "diversity"], tmp_path)
    results = stack.score(batch)
    assert "quality/quality.safetensors" in str(results["quality"].reasons[0])
    assert results["quality"].values.isnan().all()
    assert results["diversity"].values.isfinite().all()
    assert stack.versions["quality"] == "unavailable"


def test_damaged_weights_are_a_reason_on_every_image(tmp_path: Path, batch: ScoreBatch) -> None:
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "quality.safetensors").write_bytes(b"not tensors")
    stack = load_stack(["quality"], tmp_path)
    assert "could not be loaded" in stack.unavailable["quality"]


def test_names_of_embedded_rewards_are_their_own(weights: Path) -> None:
    titles = " ".join(reward.spec.title for reward in load_stack(EMBEDDED, weights).rewards.values())
    assert titles.count("embedded") == len(EMBEDDED)
    assert not any(word in titles for word in ("LAION", "LPIPS", "CLIP-L", "aesthetic"))
