"""What the stack says of rollouts, as columns."""

from __future__ import annotations

import torch

from flowgrpo.policies import Conditioning
from flowgrpo.rewards.base import Abstained, ScoreResult
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


def stack_of(result: ScoreResult, name: str = "given") -> RewardStack:
    return RewardStack({name: Given(lambda _: result, name)})
