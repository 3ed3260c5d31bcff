"""The metrics of a report in their order: what people call them, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """How a report shows a metric.

    Attributes:
        better: Neither: a change says that images differ, not that they are better.
    """

    title: str
    better: Better
    unit: str = ""


METRICS: Final = {
    "judge": Metric("judge", "higher"),
    "preference": Metric("preference", "higher"),
    "clip": Metric("CLIP score", "higher"),
    "aesthetic": Metric("aesthetic", "higher"),
    "quality": Metric("quality", "higher"),
    "fid": Metric("FID", "lower"),
    "kid": Metric("KID", "lower"),
    "mmd": Metric("MMD²", "lower"),
    "precision": Metric("precision", "higher"),
    "recall": Metric("recall", "higher"),
    "diversity": Metric("diversity", "higher"),
    "lpips/base": Metric("LPIPS to base", "neither"),
    "perceptual/base": Metric("distance to base", "neither"),
    "ssim/base": Metric("SSIM to base", "neither"),
    "psnr/base": Metric("PSNR to base", "neither", "dB"),
    "lpips/ref": Metric("LPIPS to validation image", "neither"),
    "perceptual/ref": Metric("distance to validation image", "neither"),
    "ssim/ref": Metric("SSIM to validation image", "neither"),
    "psnr/ref": Metric("PSNR to validation image", "neither", "dB"),
}
"""`base`: paired with the first model's image of the same prompt and seed. `ref`: paired with the image that
was meant by the prompt. A caption leaves a picture many freedoms: both say how alike pictures are."""


def metric_of(name: str) -> Metric:
    """Of any name; a reward is better when it is higher, and so are the judge's parts."""
    return METRICS.get(name) or Metric(name.replace("_", " "), "higher")


def is_part(name: str) -> bool:
    """Whether a metric is a part of another one: the judge's slots are."""
    return name.startswith("judge/")


def in_order(names: set[str]) -> list[str]:
    """As a report shows them: the known ones, other rewards, and parts last."""
    known = list(METRICS)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))
