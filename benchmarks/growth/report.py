"""What is on disk of the axes, as a table and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.growth.axis import Axis, Measured
from benchmarks.growth.fit import Growth, growth_of

HEADINGS = ("cost", "of", "seconds", "exponent, 95% interval", "with an offset", "so")
_COLUMNS = 2
_ON_CURVE = 100
"""Points of a drawn curve."""


def save(folder: Path, axis: Axis, measured: Sequence[Measured], before: Mapping[str, Any]) -> None:
    """Writes the JSON of an axis.

    Args:
        before: the machine as it was before the axis was measured.
    """
    costs = [
        asdict(one)
        | {"seconds": [[round(turn, 6) for turn in row] for row in one.seconds]}
        | {"growth": _rounded(asdict(growth_of(one.sizes, one.seconds)))}
        for one in measured
    ]
    folder.mkdir(parents=True, exist_ok=True)
    found = {"axis": axis.name, "unit": axis.unit, "machine": before, "costs": costs}
    (folder / f"{axis.name}.json").write_text(json.dumps(found) + "\n")


def _rounded(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _rounded(value) if isinstance(value, dict) else float(f"{value:.5g}")
        for key, value in numbers.items()
    }


def load(folder: Path, axes: Sequence[Axis]) -> dict[Axis, list[Measured]]:
    """The axes that are on disk, in this order."""
    found = {}
    for axis in axes:
        path = folder / f"{axis.name}.json"
        if path.exists():
            stored = json.loads(path.read_text())["costs"]
            found[axis] = [Measured(one["what"], tuple(one["sizes"]), one["seconds"]) for one in stored]
    return found


def markdown(found: Mapping[Axis, Sequence[Measured]]) -> str:
    """One row a cost."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    for axis, measured in found.items():
        lines += [f"| {' | '.join(_cells(axis, one))} |" for one in measured]
    return "\n".join(lines) + "\n"


def _cells(axis: Axis, one: Measured) -> list[str]:
    growth = growth_of(one.sizes, one.seconds)
    first, last = (f"{median(row):.2g}" for row in (one.seconds[0], one.seconds[-1]))
    return [
        one.what,
        f"{one.sizes[0]:,} to {one.sizes[-1]:,} {axis.unit}",
        f"{first} to {last}",
        f"{growth.exponent:.2f} ± {growth.half:.2f}",
        _with_offset(growth),
        _so(growth),
    ]


def _with_offset(growth: Growth) -> str:
    """The power of the curve, its range over turns, the offset, and how well it fits."""
    if growth.is_flat:
        return ""
    curve = growth.curve
    power = f"{curve.power:.2f} ({growth.lowest:.2f} to {growth.highest:.2f})"
    return f"{power}, offset {growth.offset_share:.0%} of the first, off by {curve.off_by:.0%}"


def _so(growth: Growth) -> str:
    """How to read the row."""
    if growth.is_flat:
        return f"hardly grows: {growth.rise:.2f} times"
    if growth.misleads:
        return "an offset hides growth: its power counts"
    return "too uncertain to say" if growth.is_uncertain else "the exponent counts"


def plot(found: Mapping[Axis, Sequence[Measured]], path: Path) -> None:
    """A panel an axis: medians with the range of their turns, and the curves with an offset."""
    rows = -(-len(found) // _COLUMNS)
    figure = Figure(figsize=(5.5 * _COLUMNS, 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for panel, (axis, measured) in zip(panels, found.items(), strict=False):
        _panel(panel, axis, measured)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _panel(panel: Axes, axis: Axis, measured: Sequence[Measured]) -> None:
    for one in measured:
        growth, middle = growth_of(one.sizes, one.seconds), [median(row) for row in one.seconds]
        ranges = [
            [at - min(row) for at, row in zip(middle, one.seconds, strict=True)],
            [max(row) - at for at, row in zip(middle, one.seconds, strict=True)],
        ]
        label = f"{one.what}: {growth.exponent:.2f} ± {growth.half:.2f}"
        (dots, *_) = panel.errorbar(
            one.sizes, middle, yerr=ranges, fmt="o", markersize=4, capsize=2, label=label
        )
        across = np.geomspace(one.sizes[0], one.sizes[-1], _ON_CURVE)
        panel.plot(across, growth.curve.at(across), color=dots.get_color(), linewidth=1)
    panel.set(xscale="log", yscale="log", xlabel=axis.unit, ylabel="seconds")
    panel.set_xticks(measured[0].sizes, [f"{size:,}" for size in measured[0].sizes])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.3)
    panel.set_title(axis.name.replace("-", " "), fontsize=10, loc="left")
    panel.legend(fontsize=7, loc="best")


def machine_words(folder: Path, axes: Sequence[Axis]) -> str:
    """The machine of each axis, told once where it is the same; the loads that each began at."""
    told = {axis.name: json.loads((folder / f"{axis.name}.json").read_text())["machine"] for axis in axes}
    loads = ", ".join(f"{name} {one.pop('load_before')}" for name, one in told.items())
    machines = dict.fromkeys(
        ", ".join(f"{key} {value}" for key, value in one.items()) for one in told.values()
    )
    return f"{'; '.join(machines)}. Load before: {loads}.\n"
