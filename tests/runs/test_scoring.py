"""What the stack says of rollouts, as columns."""

from __future__ import annotations

import pytest
import torch

from flowgrpo.policies import Conditioning
from flowgrpo.rewards.base import Abstained, Kind, ScoreResult, scored
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Rollout
from flowgrpo.runs.scoring import BROKEN, score
from tests.given import Given

NAN = float("nan")


def rollout_of(size: int, *, broken: int | None = None) -> Rollout:
    """A group of flat grey images, of which one may be broken."""
    images = torch.full((size, 3, 8, 8), 0.5)
    if broken is not None:
        images[broken] = NAN
    nothing = Conditioning({})
    return Rollout(
        ("red hair",) * size, tuple(range(size)), images, torch.zeros(size, 4, 1, 1), (), nothing, 1.0, size
    )


def test_what_was_not_scored_has_failed_unless_the_reward_abstained() -> None:
    reasons = (None, "out of reach", Abstained("nobody asked"), None)
    result = ScoreResult(torch.tensor([1.0, NAN, NAN, 0.0]), reasons)
    columns = score(stack_of(result), [rollout_of(2), rollout_of(2, broken=1)])
    assert columns.failed["given"].tolist() == [[False, True], [False, True]]
    assert columns.failures == {"failed_share/given": 1 / 3}  # a broken image is not the reward's fault
    assert columns.reasons == {"given": "out of reach"}


def test_a_broken_image_is_named_where_nothing_else_is_missing() -> None:
    result = ScoreResult(torch.ones(2), (None, None))
    columns = score(stack_of(result), [rollout_of(2, broken=0)])
    assert columns.reasons == {"given": BROKEN}
    assert columns.rewards["given"].isnan().tolist() == [[True, False]]


def test_warnings_and_the_details_of_sound_images_come_with_the_columns() -> None:
    details = {"clipped": torch.tensor([0.1, 0.2, NAN, 0.9]), "of the group": torch.zeros(2)}
    result = ScoreResult(torch.arange(4.0), (None,) * 4, details, "read the first 77 tokens")
    columns = score(stack_of(result), [rollout_of(2), rollout_of(2, broken=1)])
    assert columns.warnings == {"given": "read the first 77 tokens"}
    assert list(columns.details["given"]) == ["clipped"]
    assert columns.details["given"]["clipped"].tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(("kind", "is_told"), [("pointwise", True), ("gate", False), ("reference", False)])
def test_one_value_for_all_images_is_worth_a_word_only_of_what_should_tell_them_apart(
    kind: Kind, is_told: bool
) -> None:
    threshold = 0.5 if kind == "gate" else None
    stack = RewardStack(
        {"given": Given(lambda batch: scored(torch.ones(len(batch))), kind=kind, threshold=threshold)}
    )
    columns = score(stack, [rollout_of(2)])
    assert ("gave all 2 images the same value" in columns.warnings.get("given", "")) == is_told


def stack_of(result: ScoreResult, name: str = "given") -> RewardStack:
    return RewardStack({name: Given(lambda _: result, name)})
