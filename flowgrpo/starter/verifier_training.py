"""Stage 3 of the build: the two verifiers, which learn to read portraits and to refuse mush."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from flowgrpo.starter import degrade
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.dataset import Portraits
from flowgrpo.starter.training import Plan, Progress, fit
from flowgrpo.starter.verifiers import CLASSES, predict

BATCH = 64
SMALL = {"eyewear", "mouth", "detail"}
SHAPE = {"hair style"}


@dataclass(frozen=True)
class Generated:
    """Images that some pipeline drew, and what it was asked for.

    Attributes:
        images: RGB in [-1, 1], `(sample, 3, 64, 64)`.
        labels: asked label of each slot, `(sample, slot)`.
    """

    images: Tensor
    labels: Tensor


def _ramp(value: float, start: float, end: float) -> float:
    return min(1.0, max(0.0, (value - start) / (end - start)))


def _doubt(
    small: tuple[float, float], shape: tuple[float, float], colour: tuple[float, float], value: float
) -> list[float]:
    """How unclear each slot is at a severity: ramps for small parts, for the hair's shape, for colours."""
    ramps = [small if s.name in SMALL else shape if s.name in SHAPE else colour for s in v.SLOTS]
    return [_ramp(value, *ramp) for ramp in ramps]


def _spoil(kind: str, x: Tensor, others: Tensor, g: Generator) -> tuple[Tensor, list[float], bool]:
    """The spoilt images, the doubt of each slot, and whether it holds only where the two labels differ."""
    u = float(torch.rand((), generator=g))
    if kind == "blur":
        return degrade.blur(x, 0.3 + 6 * u), _doubt((1.3, 2.6), (3.0, 6.0), (5.0, 9.0), 0.3 + 6 * u), False
    if kind == "noise":
        return (
            degrade.noise(x, 1.5 * u, g).clamp(-1, 1),
            _doubt((0.4, 0.9), (0.7, 1.3), (1.1, 1.8), 1.5 * u),
            False,
        )
    if kind == "ghost":
        return degrade.ghost(x, others, 0.5 * u), _doubt((0.15, 0.35), (0.2, 0.4), (0.2, 0.4), 0.5 * u), True
    if kind == "shuffle":
        return (
            degrade.shuffle(x, 8 if u < 0.5 else 16, g),
            _doubt((0.0, 1.0), (0.0, 1.0), (0.0, 2.0), 1.0),
            False,
        )
    return degrade.warp(x, 0.25 * u, g), _doubt((0.1, 0.25), (0.15, 0.4), (1.0, 2.0), 0.25 * u), False


def _targets(labels: Tensor, doubt: Tensor) -> list[Tensor]:
    """Soft targets of each slot: the label, and `doubt` `(sample, slot)` of "unclear"."""
    targets = []
    for i, classes in enumerate(CLASSES):
        hot = F.one_hot(labels[:, i], classes).float() * (1 - doubt[:, i : i + 1])
        hot[:, -1] += doubt[:, i]
        targets.append(hot)
    return targets


def _render_batch(data: Portraits, index: Tensor, g: Generator) -> tuple[Tensor, list[Tensor]]:
    x, labels = data.floats(index), data.labels[index]
    doubt = torch.zeros(labels.shape)
    half = len(x) // 2
    kinds = ("blur", "noise", "ghost", "shuffle", "warp")
    for start in range(half, len(x), 4):
        part = slice(start, start + 4)
        kind = kinds[int(torch.randint(len(kinds), (), generator=g))]
        others = x[:4]
        x[part], levels, where_different = _spoil(kind, x[part], others, g)
        doubt[part] = torch.tensor(levels) * (
            (labels[part] != labels[:4]).float() if where_different else 1.0
        )
    return degrade.jitter(x, g), _targets(labels, doubt)


def reading_targets(model: nn.Module, generated: Generated) -> tuple[list[Tensor], Tensor]:
    """What to teach about generated images, by a first reading of the same verifier.

    Where it reads what was asked, that is the target; where it reads something else with confidence the slot
    is left out (it may be right, the generator wrong); otherwise the target is "unclear".

    Returns:
        Soft targets of each slot, and weights `(sample, slot)`.
    """
    doubt, weight = torch.zeros(generated.labels.shape), torch.ones(generated.labels.shape)
    for i, p in enumerate(predict(model, generated.images)):
        asked = p.gather(1, generated.labels[:, i : i + 1])[:, 0]
        other = p[:, :-1].scatter(1, generated.labels[:, i : i + 1], 0.0).amax(1)
        doubt[:, i] = (asked <= 0.5).float()
        weight[:, i] = (~((asked <= 0.5) & (other > 0.7))).float()
    return _targets(generated.labels, doubt), weight


def train(
    model: nn.Module,
    data: Portraits,
    rows: range,
    plan: Plan,
    state_path: Path,
    generated: Generated | None = None,
) -> Iterator[Progress]:
    """Cross-entropy on soft targets; half of each batch spoilt, and a quarter generated where there are any.

    Args:
        rows: which rows of `data` this verifier may see.
        generated: the second phase, after one without; the model's own first reading makes its targets.
    """
    taught = reading_targets(model.eval(), generated) if generated else None

    def loss(step: int, g: Generator) -> dict[str, Tensor]:
        index = rows.start + torch.randint(len(rows), (BATCH,), generator=g)
        x, targets = _render_batch(data, index, g)
        weight = torch.ones(len(x), len(v.SLOTS))
        if generated and taught:
            j = torch.randint(len(generated.images), (BATCH // 3,), generator=g)
            x = torch.cat([x, degrade.jitter(generated.images[j], g)])
            targets = [torch.cat([a, b[j]]) for a, b in zip(targets, taught[0], strict=True)]
            weight = torch.cat([weight, taught[1][j]])
        logits = model(x.contiguous(memory_format=torch.channels_last))
        losses = torch.stack(
            [F.cross_entropy(o, t, reduction="none") for o, t in zip(logits, targets, strict=True)], 1
        )
        return {"cross_entropy": (losses * weight).mean(), "_right": _share_right(logits, targets)}

    yield from fit(type(model).__name__.lower(), nn.ModuleDict({"model": model}), loss, plan, state_path)


def _share_right(logits: list[Tensor], targets: list[Tensor]) -> Tensor:
    right = [(o.argmax(1) == t.argmax(1)).float().mean() for o, t in zip(logits, targets, strict=True)]
    return torch.stack(right).mean()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Slot name -> whether each image was read as labelled, `(sample,)` of 0 and 1; NaN where free."""
    read: Callable[[int, Tensor], Tensor] = lambda i, p: (p.argmax(1) == labels[:, i]).float()  # noqa: E731
    return {
        slot.name: torch.where(labels[:, i] < 0, torch.nan, read(i, p))
        for (i, slot), p in zip(enumerate(v.SLOTS), predict(model, images), strict=True)
    }
