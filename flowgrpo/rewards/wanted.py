"""A reward of kind reference, held to images that are wanted for a prompt: how near is the nearest of them.

    value(x) = max over the images r that are wanted for x's prompt of reward(x, r)

With `lpips_ref` that is -min LPIPS(x, r). Now that the images are fixed, a value belongs to the image and its
prompt alone. So this is a pointwise reward: it varies within a group of the base, it is calibrated and capped
like any other, and a run may learn from it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import UInt8
from torch import Tensor

from flowgrpo.rewards.base import Abstained, Reward, RewardSpec, ScoreBatch, ScoreResult, unscored
from flowgrpo.rewards.cache import image_hash
from flowgrpo.rewards.checks import checked, own_warning

Wanted = Mapping[str, UInt8[Tensor, "wanted 3 height width"]]
"""Prompt to the images that are wanted for it, one or more; all of one size."""
NOTHING_WANTED: Final = Abstained("no image among the run's references is wanted for this prompt")


class NearestWanted:
    """Scores by another reward.

    Args:
        reward: Of kind reference.
        wanted: Of the size of the images that will be scored.
    """

    def __init__(self, reward: Reward, wanted: Wanted) -> None:
        self.reward, self.wanted = reward, wanted
        self._version = f"wanted {digest_of(wanted)}"

    @property
    def spec(self) -> RewardSpec:
        """The reward's own, with a version that names the wanted images."""
        spec = self.reward.spec
        version = f"{spec.version}, {self._version}"
        if "group" in spec.needs:
            return replace(spec, kind="pointwise", needs=("prompt", "group"), version=version)
        return replace(spec, kind="pointwise", needs=("prompt",), version=version)

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """One value per image; NaN where nothing is wanted, and where one of the wanted images could not be
        compared with: the nearest may have been that one.
        """
        rows = [row for row, prompt in enumerate(batch.prompts) if prompt in self.wanted]
        if not rows:
            return unscored(len(batch), NOTHING_WANTED)
        part = batch if len(rows) == len(batch) else _part(batch, rows)
        choices = [self.wanted[prompt] for prompt in part.prompts]
        results = []
        for rank in range(max(len(choice) for choice in choices)):
            references = torch.stack([choice[rank % len(choice)] for choice in choices])
            results.append(checked(self.reward, replace(part, references=references)))
        return _placed(_nearest(self.reward.spec.name, results), rows, len(batch))


def bare(reward: Reward) -> Reward:
    """The reward that scores, of one that is held to wanted images."""
    return reward.reward if isinstance(reward, NearestWanted) else reward


def digest_of(wanted: Wanted) -> str:
    """Twelve hexadecimal digits that stand for the prompts and the pixels that are wanted for them."""
    digest = hashlib.sha256()
    for prompt in sorted(wanted):
        digest.update(hashlib.sha256(prompt.encode()).digest())
        for image in wanted[prompt]:
            digest.update(bytes.fromhex(image_hash(image)))
    return digest.hexdigest()[:12]


def _part(batch: ScoreBatch, rows: Sequence[int]) -> ScoreBatch:
    prompts, groups = [batch.prompts[row] for row in rows], [batch.groups[row] for row in rows]
    return ScoreBatch(batch.images[list(rows)], prompts, groups)


def _nearest(name: str, results: Sequence[ScoreResult]) -> ScoreResult:
    """Of each image the best of its values, with the details of that one; NaN where one is."""
    values, best = torch.stack([result.values for result in results]).max(dim=0)  # NaN is above all
    reasons = tuple(results[which].reasons[row] for row, which in enumerate(best.tolist()))
    details = {
        label: torch.stack([result.details[label].detach().float().cpu() for result in results])
        .gather(0, best[None])[0]
        for label in results[0].details
        if all(_is_column(result, label) for result in results)
    }  # fmt: skip
    said = dict.fromkeys(warning for result in results if (warning := own_warning(name, result)))
    return ScoreResult(values, reasons, details, "; ".join(said) or None)


def _is_column(result: ScoreResult, label: str) -> bool:
    return label in result.details and result.details[label].shape == result.values.shape


def _placed(result: ScoreResult, rows: Sequence[int], count: int) -> ScoreResult:
    """The column of all images, of which these rows were scored."""
    places = torch.tensor(rows)
    blank = torch.full((count,), float("nan"))
    reasons: list[str | None] = [NOTHING_WANTED] * count
    for row, reason in zip(rows, result.reasons, strict=True):
        reasons[row] = reason
    details = {label: blank.index_copy(0, places, column) for label, column in result.details.items()}
    return ScoreResult(blank.index_copy(0, places, result.values), tuple(reasons), details, result.warning)
