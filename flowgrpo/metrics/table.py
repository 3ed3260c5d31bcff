"""The table of an evaluation: several models on the same prompts and seeds, held against the first one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from flowgrpo.metrics import distributions
from flowgrpo.metrics.distributions import Found, Reference
from flowgrpo.metrics.intervals import FEW, MIN_PROMPTS, Column, Figure, draws, mean_of


@dataclass(frozen=True)
class Model:
    """One model on prompts x seeds.

    Attributes:
        columns: Metric to its number for each image; NaN where there is none.
        extractors: Metric to what measured.
        features: Of every image, for the distances to a reference; None where they were not extracted.
    """

    columns: Mapping[str, Float[Tensor, "prompt seed"]]
    extractors: Mapping[str, str]
    features: Float[Tensor, "prompt seed feature"] | None = None


@dataclass(frozen=True)
class Cell:
    """One metric of one model.

    Attributes:
        change: The paired difference to the first model; None in the first one's own row.
        num_images: That have a number.
        p: How likely chance alone sets the images that far from the reference; the MMD has it.
        note: What a reader must know to trust it.
    """

    metric: str
    figure: Figure
    change: Figure | None
    num_prompts: int
    num_images: int
    extractor: str
    p: float | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """The name that says what may be compared: `kid@efflite0/n256`."""
        return f"{self.metric}@{self.extractor}/n{self.num_images}"

    def to_json(self) -> dict[str, Any]:
        """As rows and reports keep it; None where there is no number."""
        told: dict[str, Any] = {"key": self.key, "extractor": self.extractor, **_finite(self.figure)}
        told |= {"num_prompts": self.num_prompts, "num_images": self.num_images}
        if self.change is not None:
            told["change"] = {**_finite(self.change), "is_clear": self.change.is_clear}
        if self.p is not None:
            told["p"] = self.p
        return told | ({"note": self.note} if self.note else {})


def _finite(figure: Figure) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in figure._asdict().items()}


@dataclass(frozen=True)
class Table:
    """What was measured.

    Attributes:
        rows: For each model, metric to cell.
        absent: Metric to why no model has it.
    """

    rows: Sequence[Mapping[str, Cell]]
    absent: Mapping[str, str] = field(default_factory=dict)


def tabulate(
    models: Sequence[Model],
    reference: Reference | None,
    wanted: Collection[str] | None = None,
    *,
    without_reference: str = "nobody gave images that the models should look like",
) -> Table:
    """Every metric of every model, with intervals and differences.

    Args:
        models: The same prompts in the same order, the same seeds; the others are held against the first.
        reference: What the images should look like; without it KID and its like are absent.
        wanted: Metrics to show; None shows those that can be had.
        without_reference: Why there is no reference.

    Raises:
        ValueError: The models were not measured on the same prompts and seeds.
    """
    shapes = {tuple(column.shape) for model in models for column in model.columns.values()}
    shapes |= {tuple(model.features.shape[:2]) for model in models if model.features is not None}
    if len(shapes) != 1:
        raise ValueError(f"expected all models on the same prompts and seeds, got {sorted(shapes)}")
    ((num_prompts, _),) = shapes
    counts = draws(num_prompts)
    rows = [_of_columns(model, models[0], counts) for model in models]
    absent: dict[str, str] = {}
    names = [name for name in distributions.NAMES if wanted is None or name in wanted]
    if reference is None:
        absent |= dict.fromkeys(names, without_reference)
    else:
        absent |= _add_distances(rows, models, reference, names, counts)
    shown = [{name: cell for name, cell in row.items() if _is_wanted(name, wanted)} for row in rows]
    return Table(shown, absent)


def _is_wanted(name: str, wanted: Collection[str] | None) -> bool:
    """A metric's parts (judge/mouth) come with it."""
    return wanted is None or name in wanted or name.partition("/")[0] in wanted


def _of_columns(model: Model, first: Model, counts: Int64[np.ndarray, "draw prompt"]) -> dict[str, Cell]:
    cells = {}
    for name, values in model.columns.items():
        column = by_prompt(values)
        present = int((~np.isnan(column)).sum())
        images = int((~values.isnan()).sum())
        figure, change = mean_of(column, counts).figure(), None
        if model is not first and name in first.columns:
            change = mean_of(column - by_prompt(first.columns[name]), counts).figure()
        note = _doubt(figure, change)
        cells[name] = Cell(name, figure, change, present, images, model.extractors[name], note=note)
    return cells


def _doubt(figure: Figure, change: Figure | None) -> str:
    """Why a number has no interval; empty where it has one, or where there is no number."""
    if any(one and not np.isnan(one.value) and np.isnan(one.low) for one in (figure, change)):
        return FEW
    return ""


def by_prompt(values: Float[Tensor, "prompt seed"]) -> Column:
    """Each prompt's mean over its seeds; NaN where none has a number."""
    means: Column = values.double().nanmean(dim=1).numpy()
    return means


def _add_distances(
    rows: Sequence[dict[str, Cell]],
    models: Sequence[Model],
    reference: Reference,
    names: Sequence[str],
    counts: Int64[np.ndarray, "draw prompt"],
) -> dict[str, str]:
    """Adds what is measured against the reference; returns what could not be, with the reason."""
    features = [model.features for model in models if model.features is not None]
    if len(features) < len(models):
        return dict.fromkeys(names, "the images have no features: the extractor is missing")
    num_prompts, num_seeds = features[0].shape[:2]
    absent = {}
    for name in names:
        found = distributions.measure(name, features, reference, counts)
        if isinstance(found, str):
            absent[name] = found
            continue
        for row, one in zip(rows, found, strict=True):
            row[name] = _cell(name, one, num_prompts, num_prompts * num_seeds)
    return absent


def _cell(name: str, found: Found, num_prompts: int, num_images: int) -> Cell:
    doubt = _doubt(found.figure, found.change) if num_prompts < MIN_PROMPTS else ""
    note = "; ".join(part for part in (found.note, doubt) if part)
    return Cell(name, found.figure, found.change, num_prompts, num_images, found.extractor, found.p, note)
