"""A value from the cache is the value that was computed; only what belongs to image and prompt is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from flowgrpo.rewards.base import Abstained, Kind, RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cache import Kept, ScoreKey, image_hash, is_kept
from flowgrpo.rewards.stack import EMBEDDED, RewardStack, load_stack
from flowgrpo.starter import features

SPEC = RewardSpec("counting", "counts", "pointwise", 0.0, 1.0, "1", "Apache-2.0")


class MemoryCache:
    """Keeps all values, in this process; the studio's own cache is rows (tests/runs/test_score_cache.py)."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, ScoreKey], Kept] = {}

    def __len__(self) -> int:
        return len(self.values)

    def get_many(self, reward: str, version: str, keys: Collection[ScoreKey]) -> Mapping[ScoreKey, Kept]:
        known = {key: self.values.get((reward, version, key)) for key in keys}
        return {key: kept for key, kept in known.items() if kept is not None}

    def put_many(self, reward: str, version: str, values: Mapping[ScoreKey, Kept]) -> None:
        self.values |= {(reward, version, key): kept for key, kept in values.items()}


@dataclass
class Counting:
    """Brightness; knows how many images it has seen."""

    spec: RewardSpec = SPEC
    seen: list[int] = field(default_factory=list)

    def score(self, batch: ScoreBatch) -> ScoreResult:
        self.seen.append(len(batch))
        result = scored(batch.images.double().mean(dim=(1, 2, 3)), {"half": torch.full((len(batch),), 0.5)})
        reasons = [self._reason(prompt) for prompt in batch.prompts]
        gone = torch.tensor([reason is not None for reason in reasons])
        return replace(result, values=result.values.masked_fill(gone, float("nan")), reasons=tuple(reasons))

    def _reason(self, prompt: str) -> str | None:
        return {"fails": "the service is gone", "abstains": Abstained("nothing to say")}.get(prompt)


def stack_of(reward: Counting) -> RewardStack:
    return RewardStack({"counting": reward}, cache=MemoryCache())


def batch(images: Tensor, indices: Sequence[int], prompt: str = "a prompt") -> ScoreBatch:
    picked = images[list(indices)]
    return ScoreBatch(picked, [prompt] * len(picked), [0] * len(picked))


def test_the_embedded_rewards_give_the_same_bits_from_the_cache(
    weights: Path, renders: tuple[Tensor, list[str]]
) -> None:
    stack = load_stack(EMBEDDED, weights)
    stack.cache = MemoryCache()
    given = ScoreBatch(renders[0][:8], renders[1][:8], [0] * 8)
    fresh = stack.score(given)
    again = stack.score(ScoreBatch(renders[0][:8], renders[1][:8], [0] * 8))
    assert len(stack.cache) == 3 * 8  # diversity is of the group and never kept
    for name in EMBEDDED:
        assert torch.equal(fresh[name].values, again[name].values)
        assert fresh[name].reasons == again[name].reasons


def test_only_images_that_are_new_are_scored_and_each_keeps_its_place(
    renders: tuple[Tensor, list[str]],
) -> None:
    reward = Counting()
    stack = stack_of(reward)
    images = renders[0]
    first = stack.score(batch(images, [2, 5]))["counting"]
    mixed = stack.score(batch(images, [5, 0, 2, 0, 7]))["counting"]
    assert reward.seen == [2, 3]
    alone = Counting().score(batch(images, [5, 0, 2, 0, 7]))
    assert torch.equal(mixed.values, alone.values)
    assert mixed.values[2] == first.values[0]
    assert mixed.details["half"].isnan().tolist() == [True, False, True, False, False]


def test_another_prompt_version_or_reward_is_another_value(renders: tuple[Tensor, list[str]]) -> None:
    cache = MemoryCache()
    for spec in (SPEC, replace(SPEC, version="2"), replace(SPEC, name="other")):
        reward = Counting(spec)
        stack = RewardStack({spec.name: reward}, cache=cache)
        for prompt in ("a prompt", "another", "a prompt"):
            stack.score(batch(renders[0], [0], prompt))
        assert reward.seen == [1, 1]


def test_a_reward_that_does_not_look_at_prompts_scores_an_image_once(
    renders: tuple[Tensor, list[str]],
) -> None:
    reward = Counting(replace(SPEC, needs=()))
    stack = stack_of(reward)
    for prompt in ("a prompt", "another"):
        stack.score(batch(renders[0], [0], prompt))
    assert reward.seen == [1]


@pytest.mark.parametrize(
    ("kind", "needs", "kept"),
    [
        ("pointwise", ("prompt",), True),
        ("gate", (), True),
        ("monitor", (), True),
        ("groupwise", ("group",), False),
        ("reference", ("reference",), False),
        ("gate", ("reference",), False),
        ("monitor", ("group",), False),
    ],
)
def test_what_depends_on_a_group_or_a_reference_is_never_kept(
    renders: tuple[Tensor, list[str]], kind: Kind, needs: tuple[str, ...], kept: bool
) -> None:
    spec = replace(SPEC, kind=kind, needs=needs)  # type: ignore[arg-type]
    reward = Counting(spec)
    stack = stack_of(reward)
    for _ in range(2):
        stack.score(batch(renders[0], [0, 1]))
    assert is_kept(spec) == kept
    assert reward.seen == ([2] if kept else [2, 2])


def test_a_failure_is_tried_again_and_an_abstention_is_not(renders: tuple[Tensor, list[str]]) -> None:
    reward = Counting()
    stack = stack_of(reward)
    for _ in range(2):
        failed = stack.score(batch(renders[0], [0], "fails"))["counting"]
        abstained = stack.score(batch(renders[0], [0], "abstains"))["counting"]
    assert reward.seen == [1, 1, 1]
    assert not isinstance(failed.reasons[0], Abstained)
    assert isinstance(abstained.reasons[0], Abstained)
    assert abstained.values.isnan().all()


def test_rewards_that_lack_the_same_images_share_one_forward(
    weights: Path, renders: tuple[Tensor, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = load_stack(["quality"], weights)
    stack.rewards["twin"] = type("Twin", (), {
        "spec": replace(stack.rewards["quality"].spec, name="twin"), "score": stack.rewards["quality"].score,
    })()  # fmt: skip
    stack.cache = MemoryCache()
    stack.score(batch(renders[0], [0, 1]))
    seen: list[int] = []
    original = features.taps_of

    def counting(images: Tensor, *, smooth: bool, device: str = "cpu") -> tuple[Tensor, ...]:
        seen.append(len(images))
        return original(images, smooth=smooth, device=device)

    monkeypatch.setattr(features, "taps_of", counting)
    stack.score(batch(renders[0], [0, 1, 2, 3, 4]))
    assert seen == [3]


def test_a_column_from_the_cache_still_says_that_it_teaches_nothing(
    renders: tuple[Tensor, list[str]],
) -> None:
    stack = stack_of(Counting())
    same = batch(renders[0], [3, 3, 3])
    warnings = [stack.score(same)["counting"].warning for _ in range(2)]
    assert warnings[0] is not None and warnings[0] == warnings[1]
    assert stack.score(batch(renders[0], [3, 3, 4]))["counting"].warning is None


def test_the_hash_of_an_image_is_that_of_its_shape_and_pillows_bytes(
    renders: tuple[Tensor, list[str]],
) -> None:
    image = renders[0][0][:, :48]
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).tobytes()
    assert image_hash(image) == hashlib.sha256(b"48x64" + pixels).hexdigest()
    assert image_hash(image.transpose(1, 2)) != image_hash(image)
    flat = torch.zeros(3, 4, 8, dtype=torch.uint8)
    assert image_hash(flat) != image_hash(flat.reshape(3, 8, 4))
