"""From stored races to the table, the claims and the plot."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

mpl.use("Agg")
from matplotlib import pyplot as plt

COLUMNS: Mapping[str, tuple[str, int]] = {
    "judge": ("judge", 3), "kid": ("KID", 4), "fid": ("FID", 1), "clip": ("CLIP", 3),
    "quality": ("quality", 3), "distance": ("distance", 3), "ssim": ("SSIM", 3), "psnr": ("PSNR dB", 2),
    "diversity": ("diversity", 3),
}  # fmt: skip
"""Metric to its heading and digits."""
MIN_BAND = 3
LOWER_IS_BETTER = ("kid", "fid", "distance")


@dataclass(frozen=True)
class Race:
    """A finished race, as it was stored."""

    method: str
    seed: int
    curve: list[dict[str, float]]
    final: dict[str, dict[str, float]]

    @property
    def cost(self) -> dict[str, float]:
        """Of the whole race."""
        return self.curve[-1]


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with the 95% interval of Student's t; no interval for one seed."""

    value: float
    half: float | None

    def words(self, digits: int) -> str:
        """As a cell shows it."""
        if self.half is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} ± {self.half:.{digits}f}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and interval over seeds."""
    if len(values) < 2:
        return Spread(mean(values), None)
    quantile = float(student.ppf(0.975, len(values) - 1))
    return Spread(mean(values), quantile * stdev(values) / len(values) ** 0.5)


def load(folder: Path) -> dict[str, list[Race]]:
    """Method to its finished races, by seed."""
    races = defaultdict(list)
    for path in sorted(folder.glob("*-*.json")):
        stored = json.loads(path.read_text())
        if stored["final"]:
            races[stored["method"]].append(
                Race(stored["method"], stored["seed"], stored["curve"], stored["final"])
            )
    return dict(races)


def rows(races: Mapping[str, list[Race]], titles: Mapping[str, str]) -> list[list[str]]:
    """One line per method and sampler; costs first."""
    lines = []
    for name, title in titles.items():
        for sampler in ("fast", "guided"):
            runs = [race for race in races.get(name, []) if sampler in race.final]
            if runs:
                lines.append([title, sampler, *_costs(runs), *_cells(runs, sampler)])
    return lines


def _costs(runs: Sequence[Race]) -> list[str]:
    cost = [spread([run.cost[key] for run in runs]) for key in ("images", "evaluations", "seconds")]
    return [str(len(runs)), cost[0].words(0), f"{cost[1].value / 1000:.0f}k", f"{cost[2].value:.0f}"]


def _cells(runs: Sequence[Race], sampler: str) -> list[str]:
    return [
        spread([run.final[sampler][metric] for run in runs]).words(digits)
        for metric, (_, digits) in COLUMNS.items()
    ]


HEADINGS = [
    "method", "sampler", "seeds", "images", "evaluations", "seconds",
    *(title for title, _ in COLUMNS.values()),
]  # fmt: skip


def show(lines: Sequence[Sequence[str]]) -> None:
    """Prints the table."""
    table = Table(*HEADINGS)
    for line in lines:
        table.add_row(*line)
    Console(width=200).print(table)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The table for `docs/benchmarks.md`."""
    head = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def seconds_to(race: Race, reward: float) -> float | None:
    """Wall-clock at which a race's reward first reaches this one; None if it never does."""
    return next((point["seconds"] for point in race.curve if point["reward"] >= reward), None)


def plot(races: Mapping[str, list[Race]], titles: Mapping[str, str], path: Path) -> None:
    """Judge, KID and reward against updates and against wall-clock, a line per method; a band over three
    seeds or more, for the interval of two is wider than any figure.
    """
    metrics, axes = ("judge", "kid", "reward"), (("updates", "updates"), ("seconds", "minutes"))
    figure, panels = plt.subplots(len(metrics), len(axes), figsize=(10, 9), sharey="row")
    for row, metric in zip(panels, metrics, strict=True):
        for panel, (key, label) in zip(row, axes, strict=True):
            scale = (lambda x: x / 60) if key == "seconds" else (lambda x: x)
            for name, title in titles.items():
                if len(races.get(name, [])) and len(races[name][0].curve) > 1:
                    _line(panel, races[name], metric, key, title, scale)
            panel.set_xlabel(label)
            panel.grid(alpha=0.3)
        row[0].set_ylabel(metric if metric != "kid" else "KID (lower is better)")
    figure.tight_layout()
    lines, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize=9)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def measured_by_all(runs: Sequence[Race]) -> dict[float, list[dict[str, float]]]:
    """Number of updates to the points of all seeds there; seeds may have been looked at at other places."""
    curves = [{point["updates"]: point for point in run.curve} for run in runs]
    shared = set(curves[0]).intersection(*curves[1:])
    return {updates: [curve[updates] for curve in curves] for updates in shared}


def _line(
    panel: Any, runs: Sequence[Race], metric: str, key: str, title: str, scale: Callable[[float], float]
) -> None:
    points = [at for _, at in sorted(measured_by_all(runs).items())]
    across = [scale(mean(point[key] for point in at)) for at in points]
    values = [spread([point[metric] for point in at]) for at in points]
    (line,) = panel.plot(across, [one.value for one in values], label=title)
    if len(runs) >= MIN_BAND:
        low, high = ([one.value + sign * (one.half or 0) for one in values] for sign in (-1, 1))
        panel.fill_between(across, low, high, alpha=0.15, color=line.get_color())
