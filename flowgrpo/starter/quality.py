"""The technical-quality head: how undamaged a drawing is, from feature statistics. It knows nothing of taste.

Trained on graded damage to renders: the target is 1 - severity, and of two versions of one image the less
damaged one must come out ahead. A ladder of generated images, best first, adds the generator's own kind of
mush.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from flowgrpo.starter.damage import DEGRADATIONS, degrade
from flowgrpo.starter.dataset import Portraits
from flowgrpo.starter.features import FEATURES, statistics, taps_of

WEIGHTS_NAME: Final = "quality.safetensors"
_NUM_FEATURES: Final = 1024  # mean and std of 16 + 24 + 40 + 112 + 320 channels
_HIDDEN: Final = 64
_BATCH: Final = 128
_LEARNING_RATE: Final = 2e-3
_SHARPNESS: Final = 6.0  # a lead of a third of the scale is a sure win of a pair
_HELD_OUT_SHARE: Final = 0.15


class QualityHead(nn.Module):
    """Statistics of features -> technical quality: 1 is a clean render, 0 a wreck."""

    mean: Tensor
    std: Tensor
    ceiling: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(_NUM_FEATURES))
        self.register_buffer("std", torch.ones(_NUM_FEATURES))
        self.register_buffer("ceiling", torch.tensor(float("inf")))
        self.layers = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(_NUM_FEATURES, _HIDDEN),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(_HIDDEN, 1),
        )

    def forward(self, features: Float[Tensor, "sample feature"]) -> Float[Tensor, " sample"]:
        """Quality, never above the ceiling: nothing is to be gained beyond what clean renders have."""
        normal = ((features - self.mean) / self.std).clamp(-4, 4)
        values: Tensor = self.layers(normal).squeeze(1)
        return torch.minimum(values, self.ceiling)


class _Pairs(NamedTuple):
    """Two versions of the same images, as features; `severity` is NaN where only the order is known."""

    better: Tensor
    worse: Tensor
    severity: Float[Tensor, "pair 2"]


def load_quality(folder: Path) -> QualityHead:
    """The head in `folder`.

    Raises:
        LookupError: There is none.
    """
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise LookupError(
            f"the technical-quality reward needs {WEIGHTS_NAME} in {folder.name}/; build the starter first"
        )
    head = QualityHead()
    head.load_state_dict(load_file(path))
    return head.eval().requires_grad_(False)


def train_quality(
    data: Portraits,
    out: Path,
    *,
    ladder: Sequence[UInt8[Tensor, "sample 3 height width"]] = (),
    num_images: int = 6000,
    steps: int = 2500,
    seed: int = 0,
) -> dict[str, float]:
    """Trains the head, in about a minute of one core, and writes `quality.safetensors` and `config.json`.

    Args:
        data: Clean renders; the first `num_images` are used, the last 15% of them only to measure.
        ladder: Sets of generated images of equal number, best first (16 guided steps, 8 steps, 4 steps ...).
        steps: Of the optimiser.
        seed: Of every draw.

    Returns:
        For each degradation and for the ladder, measured on held-out images: `<name>/spearman` of quality
        with minus severity, and `<name>/pairs`, the share of pairs in the right order.
    """
    generator = torch.Generator().manual_seed(seed)
    images = data.images[:num_images]
    split = int(len(images) * (1 - _HELD_OUT_SHARE))
    training = [
        *_damaged_pairs(images[:split], generator).values(),
        *_ladder_pairs(ladder, slice(None, None, 2)),
    ]
    head = QualityHead()
    _standardise(head, torch.cat([half for pairs in training for half in (pairs.better, pairs.worse)]))
    _fit(head, training, steps, generator)
    clean = statistics(taps_of(images[:split], smooth=False))
    head.ceiling.copy_(_values(head, clean).quantile(0.95))
    out.mkdir(parents=True, exist_ok=True)
    save_file(head.state_dict(), out / WEIGHTS_NAME)
    report = _measure(head, images[split:], ladder, generator)
    config = {"features": FEATURES, "ceiling": head.ceiling.item(), "measured": report}
    (out / "config.json").write_text(json.dumps(config, indent=1))
    return report


def _damaged_pairs(images: Tensor, generator: Generator) -> dict[str, _Pairs]:
    """Every image once, damaged in one way at two severities; every third time the milder is none."""
    pairs = {}
    for number, name in enumerate(DEGRADATIONS):
        chosen = images[number :: len(DEGRADATIONS)]
        severity = torch.rand(len(chosen), 2, generator=generator).sort(dim=1).values
        severity[::3, 0] = 0.0
        halves = [
            statistics(taps_of(degrade(chosen, name, column, generator), smooth=False))
            for column in severity.T
        ]
        pairs[name] = _Pairs(halves[0], halves[1], severity)
    return pairs


def _ladder_pairs(ladder: Sequence[Tensor], part: slice) -> list[_Pairs]:
    """Each rung against the next."""
    rungs = [statistics(taps_of(images[part], smooth=False)) for images in ladder]
    unknown = [torch.full((len(rung), 2), float("nan")) for rung in rungs]
    return [_Pairs(a, b, u) for a, b, u in zip(rungs, rungs[1:], unknown, strict=False)]


def _standardise(head: QualityHead, features: Tensor) -> None:
    head.mean.copy_(features.mean(0))
    head.std.copy_(features.std(0) + 1e-3)


def _fit(head: QualityHead, training: Sequence[_Pairs], steps: int, generator: Generator) -> None:
    """Pairwise logistic loss, and squared error to 1 - severity where that is known."""
    better = torch.cat([pairs.better for pairs in training])
    worse = torch.cat([pairs.worse for pairs in training])
    target = 1 - torch.cat([pairs.severity for pairs in training])
    torch.manual_seed(
        int(torch.randint(2**31, (), generator=generator))
    )  # dropout and the new layers draw from it
    for layer in head.layers:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    optimizer = torch.optim.AdamW(head.parameters(), _LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    head.train()
    for _ in range(steps):
        rows = torch.randint(len(better), (_BATCH,), generator=generator)
        values = torch.stack([head(better[rows]), head(worse[rows])], dim=1)
        order = -F.logsigmoid(_SHARPNESS * (values[:, 0] - values[:, 1])).mean()
        known = target[rows].isfinite()
        error = (values[known] - target[rows][known]).pow(2).sum() / max(1, int(known.sum()))
        optimizer.zero_grad(set_to_none=True)
        (order + 2 * error).backward()
        optimizer.step()
        schedule.step()
    head.eval()


@torch.no_grad()
def _values(head: QualityHead, features: Tensor) -> Tensor:
    values: Tensor = head(features)
    return values


def _measure(
    head: QualityHead, images: Tensor, ladder: Sequence[Tensor], generator: Generator
) -> dict[str, float]:
    report: dict[str, float] = {}
    for name, pairs in _damaged_pairs(images, generator).items():
        better, worse = _values(head, pairs.better), _values(head, pairs.worse)
        rank = _spearman(torch.cat([better, worse]), -pairs.severity.T.flatten())
        report |= {f"{name}/spearman": rank, f"{name}/pairs": (better > worse).float().mean().item()}
    for number, pairs in enumerate(_ladder_pairs(ladder, slice(1, None, 2))):
        right = _values(head, pairs.better) > _values(head, pairs.worse)
        report[f"generated {number} over {number + 1}/pairs"] = right.float().mean().item()
    return report


def _spearman(first: Float[Tensor, " sample"], second: Float[Tensor, " sample"]) -> float:
    """Rank correlation; ties share their mean rank."""
    ranks = [(x[:, None] > x).sum(1) + 0.5 * (x[:, None] == x).sum(1) for x in (first, second)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()
