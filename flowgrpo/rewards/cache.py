"""What rewards said about pixels before, so that nothing is computed twice.

A value is found again by the image (SHA-256 of its shape and RGB bytes), the prompt (SHA-256 of its text;
empty where the reward does not look at prompts), the reward and its version. Only rewards of the image and
its prompt alone are kept: a value within a group or against a reference belongs to more than that. A failure
is never kept; that a reward has nothing to say is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from flowgrpo.rewards.base import Abstained, Reward, RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.checks import checked, constant_warning, own_warning

_KEPT: Final = ("pointwise", "gate", "monitor")
Kept = tuple[float | None, str | None]
"""A value; or None and why the reward abstained."""


class ScoreKey(NamedTuple):
    """What a value belongs to."""

    image_sha256: str
    prompt_hash: str


@runtime_checkable
class ScoreCache(Protocol):
    """Where values are kept. Neither function may raise: a cache that fails has nothing and keeps nothing."""

    def get_many(self, reward: str, version: str, keys: Collection[ScoreKey]) -> Mapping[ScoreKey, Kept]:
        """Those of the keys that are known."""
        ...

    def put_many(self, reward: str, version: str, values: Mapping[ScoreKey, Kept]) -> None:
        """Keeps values."""
        ...


def image_hash(image: UInt8[Tensor, "3 height width"]) -> str:
    """SHA-256 over "HEIGHTxWIDTH" and the RGB bytes, row by row, as Pillow's `tobytes()` has them."""
    _, height, width = image.shape
    pixels = image.permute(1, 2, 0).contiguous().cpu().numpy().tobytes()
    return hashlib.sha256(f"{height}x{width}".encode() + pixels).hexdigest()


def is_kept(spec: RewardSpec) -> bool:
    """Whether a value of this reward belongs to the image and its prompt alone."""
    return spec.kind in _KEPT and not {"group", "reference"} & set(spec.needs)


def keys_of(spec: RewardSpec, batch: ScoreBatch) -> list[ScoreKey]:
    """One key per image."""
    images = batch.shared(("hashes",), lambda: [image_hash(image) for image in batch.images])
    prompts = [""] * len(batch)
    if "prompt" in spec.needs:
        prompts = [hashlib.sha256(prompt.encode()).hexdigest() for prompt in batch.prompts]
    return [ScoreKey(image, prompt) for image, prompt in zip(images, prompts, strict=True)]


def score_with(cache: ScoreCache | None, reward: Reward, batch: ScoreBatch) -> ScoreResult:
    """The reward's column; values that are known are not computed again. Never raises for the reward's sake.

    Raises:
        torch.OutOfMemoryError: Not the reward but the size of the batch is to blame.
    """
    spec = reward.spec
    if cache is None or not is_kept(spec):
        return checked(reward, batch)
    keys = keys_of(spec, batch)
    known = cache.get_many(spec.name, spec.version, set(keys))
    new = tuple(index for index, key in enumerate(keys) if key not in known)
    if len(new) == len(keys):
        result = checked(reward, batch)
    else:
        # The same part for every reward that lacks the same images: they share its forwards.
        part = batch.shared(("part", new), lambda: _part(batch, list(new))) if new else None
        result = _joined(spec.name, known, keys, new, checked(reward, part) if part else None)
    worth = {keys[index]: kept for index in new if (kept := _worth_keeping(result, index)) is not None}
    if worth and reward.spec.version == spec.version:
        cache.put_many(spec.name, spec.version, worth)
    return result


def _part(batch: ScoreBatch, indices: list[int]) -> ScoreBatch:
    """Some images of a batch. What was computed for the whole is not theirs."""
    references = None if batch.references is None else batch.references[indices]
    prompts, groups = [batch.prompts[i] for i in indices], [batch.groups[i] for i in indices]
    return ScoreBatch(batch.images[indices], prompts, groups, references)


def _joined(
    name: str,
    known: Mapping[ScoreKey, Kept],
    keys: list[ScoreKey],
    new: tuple[int, ...],
    fresh: ScoreResult | None,
) -> ScoreResult:
    """Known values and fresh ones in the order of the images; details of known ones are NaN."""
    values = torch.full((len(keys),), float("nan"))
    reasons: list[str | None] = [None] * len(keys)
    for index, key in enumerate(keys):
        if key in known:
            value, reason = known[key]
            values[index] = float("nan") if value is None else value
            reasons[index] = None if reason is None else Abstained(reason)
    if fresh is None:
        return ScoreResult(values, tuple(reasons), {}, constant_warning(name, values))
    places = torch.tensor(new)
    values[places] = fresh.values
    for index, reason in zip(new, fresh.reasons, strict=True):
        reasons[index] = reason
    blank = torch.full((len(keys),), float("nan"))
    details = {
        label: blank.index_copy(0, places, column.float().cpu())
        for label, column in fresh.details.items()
        if column.shape == fresh.values.shape
    }
    warning = own_warning(name, fresh) or constant_warning(name, values)
    return ScoreResult(values, tuple(reasons), details, warning)


def _worth_keeping(result: ScoreResult, index: int) -> Kept | None:
    """None for a failure."""
    reason = result.reasons[index]
    if reason is None:
        return result.values[index].item(), None
    return (None, str(reason)) if isinstance(reason, Abstained) else None
