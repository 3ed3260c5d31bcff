"""The result of an evaluation as a picture: a panel per metric, whiskers for the 95% intervals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from flowgrpo.runs.evaluation_result import Result, shown

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A7A7A")
"""Okabe and Ito's, which people who see colours differently can tell apart."""
_INK, _FAINT, _BAND = "#2b2b33", "#e4e4ea", "#0072B2"
_BETTER: Final = {"higher": "higher is better", "lower": "lower is better", "neither": "not better or worse"}
_COLUMNS: Final = 4
_MOST_COLUMNS: Final = 5  # of a sweep
_DODGE: Final = 0.015  # of the axis, between the whiskers of two checkpoints
_NAME: Final = 22  # letters of a checkpoint's name in one line
Across = Literal["steps", "seconds"]
Metric = dict[str, Any]


def write_plot(result: Result, path: Path) -> None:
    """Draws dots with whiskers; curves over steps and seconds where the evaluation was a sweep."""
    is_sweep = len({row["steps"] for row in result["rows"]}) > 1
    figure = _sweep(result) if is_sweep else _dots(result)
    FigureCanvasAgg(figure)
    partial = path.with_suffix(".partial.png")
    figure.savefig(partial, dpi=150, facecolor="white")
    partial.replace(path)


def _grid(
    num_panels: int, across: int, panel: tuple[float, float], result: Result
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, `across` of them beside each other; sizes in inches."""
    down = max(1, math.ceil(num_panels / across))
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(across * panel[0] + 1.4, down * panel[1] + 1.0), layout=layout)
    axes = [figure.add_subplot(down, across, number + 1) for number in range(num_panels)]
    size = f"{len(result['prompts'])} prompts × {len(result['seeds'])} seeds, base {result['base']}"
    told = "whiskers are 95% intervals over prompts"
    if len(result["rows"]) > 1:
        told += f"; a filled dot differs clearly from {result['against']}, paired"
    figure.suptitle(f"{size}\n{told}", fontsize=10, color=_INK)
    return figure, axes


def _dots(result: Result) -> Figure:
    """A line per checkpoint; the band is the interval of the first one."""
    metrics, rows = shown(result), result["rows"]
    across = max(1, min(_COLUMNS, len(metrics)))
    figure, axes = _grid(len(metrics), across, (2.9, 0.75 + 0.42 * len(rows)), result)
    for number, (panel, metric) in enumerate(zip(axes, metrics, strict=True)):
        _dress(panel, metric)
        for at, row in enumerate(rows):
            cell = row["figures"].get(metric["name"])
            if at == 0 and cell and cell["low"] is not None:
                panel.axvspan(cell["low"], cell["high"], color=_BAND, alpha=0.1, linewidth=0)
            _whisker(panel, cell, float(at), _colour(at), is_across=True)
        panel.set_yticks(range(len(rows)), [_short(row["name"]) for row in rows])
        panel.set_ylim(len(rows) - 0.45, -0.55)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.tick_params(axis="y", labelleft=number % _COLUMNS == 0, length=0)
        panel.grid(axis="x", color=_FAINT)
    return figure


def _sweep(result: Result) -> Figure:
    """A curve per checkpoint, of the metrics that have a better and a worse end."""
    metrics = [metric for metric in shown(result) if metric["better"] != "neither"]
    has_seconds = all(row["seconds"] is not None for row in result["rows"])
    ways: list[Across] = ["steps", "seconds"] if has_seconds else ["steps"]
    across = max(1, math.ceil(len(metrics) / max(1, math.ceil(len(metrics) / _MOST_COLUMNS))))
    panels = _below_each_other(metrics, ways, across)
    figure, axes = _grid(len(panels), across, (2.7, 2.5), result)
    names = list(dict.fromkeys(row["name"] for row in result["rows"]))
    handles: dict[str, Any] = {}
    for panel, (metric, way) in zip(axes, panels, strict=True):
        if metric is None:
            panel.set_axis_off()
            continue
        _dress(panel, metric)
        ends = [row[way] for row in result["rows"]]
        for at, name in enumerate(names):
            rows = sorted(
                (row for row in result["rows"] if row["name"] == name), key=lambda row: row["steps"]
            )
            beside = (at - (len(names) - 1) / 2) * _DODGE * (max(ends) - min(ends))
            handles[name] = _curve(panel, rows, metric["name"], way, _colour(at), beside)
        panel.set_xlabel("steps" if way == "steps" else "seconds an image", fontsize=9, color=_INK)
        if way == "steps":
            panel.set_xticks(sorted({row["steps"] for row in result["rows"]}))
        panel.yaxis.set_major_locator(MaxNLocator(5))
        panel.grid(color=_FAINT)
    figure.legend(
        list(handles.values()),
        [_short(name) for name in handles],
        loc="outside lower center",
        ncols=min(4, len(names)),
        frameon=False,
    )
    return figure


def _below_each_other(
    metrics: Sequence[Metric], ways: Sequence[Across], across: int
) -> list[tuple[Metric | None, Across]]:
    """The panels row by row, a metric's steps above its seconds; None is an empty place."""
    panels: list[tuple[Metric | None, Across]] = []
    for start in range(0, len(metrics), across):
        row: list[Metric | None] = [*metrics[start : start + across]]
        row += [None] * (across - len(row))
        panels += [(metric, way) for way in ways for metric in row]
    return panels


def _curve(panel: Axes, rows: Sequence[Result], metric: str, way: Across, colour: str, beside: float) -> Any:
    """Draws it, its whiskers a little beside those of the others, and returns its line for the legend."""
    known = [row for row in rows if row["figures"].get(metric, {}).get("value") is not None]
    across = [row[way] + beside for row in known]
    (line,) = panel.plot(
        across, [row["figures"][metric]["value"] for row in known], color=colour, linewidth=1.4, zorder=2
    )
    for at, row in zip(across, known, strict=True):
        _whisker(panel, row["figures"][metric], float(at), colour, is_across=False)
    return line


def _whisker(panel: Axes, cell: Result | None, at: float, colour: str, *, is_across: bool) -> None:
    """A dot with its interval; nothing where there is no number."""
    if not cell or cell["value"] is None:
        return
    low, high = (cell["value"] if cell[end] is None else cell[end] for end in ("low", "high"))
    style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "solid_capstyle": "round", "zorder": 3}
    ends, place = [low, high], [at, at]
    panel.plot(*((ends, place) if is_across else (place, ends)), **style)
    dot = ([cell["value"]], [at]) if is_across else ([at], [cell["value"]])
    change = cell.get("change")
    inside = colour if change is None or change["is_clear"] else "white"
    panel.plot(*dot, "o", markersize=5.5, markerfacecolor=inside, markeredgecolor=colour, zorder=4)


def _dress(panel: Axes, metric: Metric) -> None:
    unit = f" in {metric['unit']}" if metric["unit"] else ""
    panel.set_title(metric["title"] + unit, fontsize=10, color=_INK, loc="left", pad=18, fontweight="bold")
    panel.text(
        0,
        1.02,
        _BETTER[metric["better"]],
        transform=panel.transAxes,
        fontsize=8,
        color="#6b6b76",
        va="bottom",
    )
    panel.tick_params(labelsize=8.5, colors=_INK, length=2)
    for side, spine in panel.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#a8a8b2")
    panel.set_axisbelow(True)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _short(name: str) -> str:
    """A name in at most two lines."""
    plain = name.replace("$", "\\$")  # matplotlib takes a pair of dollars for mathematics
    lines = textwrap.wrap(plain, _NAME) or [plain]
    return "\n".join(lines[:2]) if len(lines) <= 2 else f"{lines[0]}\n{lines[1][: _NAME - 1]}…"
