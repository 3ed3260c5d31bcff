"""What a reward is: images and prompts in, one number an image out, or a reason why there is none.

Higher is better, always. A number that could not be had is NaN with a sentence beside it, never 0 or -1:
those would teach. Raw values go out; weights and normalisation are `flowgrpo.advantages`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

T = TypeVar("T")
Kind = Literal["pointwise", "groupwise", "reference", "gate", "monitor"]
"""Pointwise: of the image and its prompt alone. Groupwise: of its group as well. Reference: of another image
that it is held against. Gate: whether an image may be praised at all. Monitor: shown, never learned from."""


@dataclass(frozen=True)
class RewardSpec:
    """What a page and a row say about a reward."""

    name: str
    """The key in weights, columns and rows: "clip"."""
    title: str
    """Its own name for people; an embedded stand-in never bears the name of what it stands for."""
    kind: Kind
    """What a value depends on and what it may do (see `Kind`)."""
    low: float
    """Bottom of a scale that shows the values; values may lie outside."""
    high: float
    """Top of that scale."""
    version: str
    """Changes when values would: a fingerprint of the weights and the formula."""
    licence: str
    """Of the weights."""
    measures: str = ""
    """One sentence for the page."""
    needs: tuple[Literal["prompt", "reference", "group"], ...] = ("prompt",)
    """What it looks at beside the image."""
    threshold: float | None = None
    """Of a gate: an image with a lower value fails."""
    size_mb: float = 0.0
    """Of the weights, in memory."""
    embedded: bool = False
    """Whether the weights come with the studio."""
    notice: str = ""
    """What a person must know about the licence before the weights are fetched; empty where nothing."""

    @property
    def notice_sha256(self) -> str:
        """What stands for the notice where somebody has accepted it; empty without one."""
        return hashlib.sha256(self.notice.encode()).hexdigest() if self.notice else ""


@dataclass(frozen=True)
class ScoreBatch:
    """Images to score, as people see them, after rounding to 8 bits.

    Attributes:
        images: RGB, 0 to 255.
        prompts: What each image was asked to show, verbatim.
        groups: Which images belong together: equal numbers, one group.
        references: What each image is held against; None where there are none.
    """

    images: UInt8[Tensor, "sample 3 height width"]
    prompts: Sequence[str]
    groups: Sequence[int]
    references: UInt8[Tensor, "sample 3 height width"] | None = None
    _shared: dict[Hashable, object] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4 or self.images.shape[1] != 3:
            shape = tuple(self.images.shape)
            raise ValueError(
                f"expected uint8 images (sample, 3, height, width), got {self.images.dtype} {shape}"
            )
        if not len(self.images) == len(self.prompts) == len(self.groups):
            raise ValueError(
                f"expected one prompt and one group number per image, got {len(self.images)} images, "
                f"{len(self.prompts)} prompts and {len(self.groups)} group numbers"
            )

        if self.references is not None and self.references.shape != self.images.shape:
            raise ValueError(
                f"expected one reference per image, of its size; got {tuple(self.references.shape)} "
                f"for {tuple(self.images.shape)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def shared(self, key: Hashable, forward: Callable[[], T]) -> T:
        """The result of a forward that several rewards need; computed for the first, kept for this batch.

        Args:
            forward: Of anything but the references, for the same images may be held against others
                (`dataclasses.replace`).
        """
        if key not in self._shared:
            self._shared[key] = forward()
        return cast(T, self._shared[key])


class Abstained(str):
    """A reason that is no failure: the reward has nothing to say about such a prompt or group."""


@dataclass(frozen=True)
class ScoreResult:
    """A reward's column.

    Attributes:
        values: Raw, NaN where there is none.
        reasons: Why there is none; None where there is a value.
        details: More numbers for the page: per attribute, for example.
        warning: Something about the whole column that a person should know.
    """

    values: Float[Tensor, " sample"]
    reasons: tuple[str | None, ...]
    details: Mapping[str, Tensor] = field(default_factory=dict)
    warning: str | None = None


@runtime_checkable
class Reward(Protocol):
    """Anything with a spec that scores. It may raise; the stack turns that into reasons."""

    @property
    def spec(self) -> RewardSpec:
        """What it is."""
        ...

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """One value per image."""
        ...


def scored(values: Tensor, details: Mapping[str, Tensor] | None = None) -> ScoreResult:
    """A column where every image has a value."""
    return ScoreResult(values.float().cpu(), (None,) * len(values), details or {})


def unscored(num_images: int, reason: str) -> ScoreResult:
    """A column of NaN for one reason."""
    return ScoreResult(torch.full((num_images,), float("nan")), (reason,) * num_images)
