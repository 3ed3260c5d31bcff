"""What every reward that runs here owes to whoever learns from it (issue 4, Show 4)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import Reward, ScoreBatch
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.registry import load
from flowgrpo.starter.damage import degrade
from flowgrpo.starter.package import WEIGHTS
from flowgrpo.starter.vocabulary import SLOTS
from tests.tiny_rewards import tiny_aesthetic, tiny_anime, tiny_hps, tiny_lpips, tiny_pickscore

HERE = [
    "verifier", "clip", "quality", "diversity", "diversity:clip", "perceptual_ref", "safety", "pixel_stats",
]  # fmt: skip
"""And `ocr`, which takes a second for three images: test_ocr.py."""
TINY = ["aesthetic", "aesthetic_anime", "hpsv21", "pickscore", "lpips_ref"]
GROUP = 2
TOLERANCE = 2e-4
"""Of a reward's scale. A convolution sums in another order in a batch of another size: float32's 1e-7 grows
over 50 layers to about 1e-5 of a feature, and the quality head multiplies it. A real dependence on the batch
(its statistics, its neighbours, a padded prompt) is a hundred times larger."""


@pytest.fixture(scope="module")
def rewards(tiny_openai: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reward]:
    options = Options(WEIGHTS, offline=True)
    folder = tmp_path_factory.mktemp("tiny_rewards")
    return {name: load(name, options) for name in HERE} | {
        "aesthetic": tiny_aesthetic(tiny_openai),
        "aesthetic_anime": tiny_anime(tiny_openai, folder),
        "hpsv21": tiny_hps(tiny_openai, folder),
        "pickscore": tiny_pickscore(folder / "pickscore"),
        "lpips_ref": tiny_lpips(folder),
    }


@pytest.fixture(scope="module")
def drawn(renders: tuple[Tensor, list[str]]) -> tuple[Tensor, list[str]]:
    return renders[0][:6], renders[1][:6]


def values(reward: Reward, images: Tensor, prompts: list[str], order: list[int]) -> Tensor:
    """Scores of these images, given in this order in groups of two; back in the usual order."""
    index = torch.tensor(order)
    batch = ScoreBatch(
        images[index], [prompts[i] for i in order], [i // GROUP for i in order], images.roll(1, 0)[index]
    )
    found = torch.empty(len(images))
    found[index] = reward.score(batch).values
    return found


@pytest.mark.parametrize("name", HERE + TINY)
def test_scores_do_not_depend_on_order_or_size_of_the_batch(
    name: str, rewards: dict[str, Reward], drawn: tuple[Tensor, list[str]]
) -> None:
    images, prompts = drawn
    reward, num = rewards[name], len(images)
    whole = values(reward, images, prompts, list(range(num)))
    shuffled = values(reward, images, prompts, [4, 1, 0, 5, 3, 2])
    scale = max(1.0, reward.spec.high - reward.spec.low)
    assert whole.isfinite().all()
    torch.testing.assert_close(shuffled, whole, atol=TOLERANCE * scale, rtol=0)
    for start in range(0, num, GROUP):
        part = reward.score(
            ScoreBatch(
                images[start : start + GROUP],
                prompts[start : start + GROUP],
                [7] * GROUP,
                images.roll(1, 0)[start : start + GROUP],
            )
        ).values
        torch.testing.assert_close(part, whole[start : start + GROUP], atol=TOLERANCE * scale, rtol=0)


@pytest.mark.parametrize("damage", ["blur", "noise"])
@pytest.mark.parametrize("name", ["quality", "perceptual_ref", "lpips_ref", "clip", "verifier"])
def test_more_blur_and_more_noise_score_less(
    name: str, damage: str, rewards: dict[str, Reward], renders: tuple[Tensor, list[str]]
) -> None:
    """On the mean of 24 renders. The untrained trunk of LPIPS stands for its formula, not for its weights."""
    images, prompts = renders
    means = []
    for severity in (0.0, 0.35, 0.7, 1.0):
        level = torch.full((len(images),), severity)
        damaged = degrade(images, damage, level, torch.Generator().manual_seed(0))
        batch = ScoreBatch(damaged, prompts, [0] * len(images), references=images)
        means.append(rewards[name].score(batch).values.mean().item())
    assert all(better > worse for better, worse in pairwise(means)), means


@pytest.mark.parametrize("name", ["clip", "verifier"])
def test_a_prompt_with_one_attribute_swapped_scores_less(
    name: str, rewards: dict[str, Reward], renders: tuple[Tensor, list[str]]
) -> None:
    """For at least nine in ten pairs of image and prompt, over hair colour and background."""
    images, prompts = renders
    wins = []
    for slot in (slot for slot in SLOTS if slot.name in ("hair colour", "background")):
        for shift in (1, 3):
            swapped = [_swapped(prompt, slot.labels, shift) for prompt in prompts]
            told = [i for i, (a, b) in enumerate(zip(prompts, swapped, strict=True)) if a != b]
            right = rewards[name].score(ScoreBatch(images, prompts, [0] * len(images))).values
            wrong = rewards[name].score(ScoreBatch(images, swapped, [0] * len(images))).values
            wins.append((right > wrong)[told].float())
    assert torch.cat(wins).mean() >= 0.9


def _swapped(prompt: str, labels: tuple[str, ...], shift: int) -> str:
    """The prompt with the label that it names replaced by another of the slot."""
    tags = prompt.split(", ")
    named = [label for label in labels if label in tags]
    other = {label: labels[(labels.index(label) + shift) % len(labels)] for label in named}
    return ", ".join(other.get(tag, tag) for tag in tags)
