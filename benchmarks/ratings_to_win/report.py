"""The tables and the plot of ratings to win, from the races that are on disk."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from rich.console import Console

WON_LOW, WON_MEAN = 0.60, 0.75
"""Where the plot draws its lines; the same as the race's own."""
Race = dict[str, Any]
_APART = 0.25
"""Groups between the points of two races in the plot, so that none hides another."""


def races(folder: Path) -> list[Race]:
    """Every race of a folder that has a result."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [race for race in found if race["rows"]]


def won_at(race: Race) -> dict[str, Any] | None:
    """The first batch at which the tuned model had won."""
    won = (row for row in race["rows"] if row["win"][0] >= WON_MEAN and row["win"][1] > WON_LOW)
    return next(won, None)


def markdown(found: list[Race]) -> str:
    """One row a taste and seed, where it was won or where it ended."""
    lines = [
        "| taste | seed | won | groups | comparisons | annotator minutes | core minutes / 2 | win rate "
        "| ties | fidelity, points |",
        "|---" * 10 + "|",
    ]
    for race in found:
        won = won_at(race)
        row = won or race["rows"][-1]
        win, low, high = row["win"]
        cells = [
            race["taste"], str(race["seed"]), "yes" if won else "no" if race["is_over"] else "not yet",
            str(row["groups"]), str(row["comparisons"]), f"{row['annotator_minutes']:.1f}",
            f"{row['core_seconds'] / 120:.1f}", f"{win:.3f} ({low:.3f} to {high:.3f})", f"{row['ties']:.2f}",
            f"{fidelity(row):+.1f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fidelity(row: Race) -> float:
    """Points by which the tuned model follows prompts better than the base."""
    before, after = row["fidelity"]
    return float(100 * (after - before))


def by_taste(found: list[Race]) -> str:
    """One row a taste, over its seeds: medians until it was won, mean fidelity there."""
    lines = ["| taste | won | groups | core minutes / 2 | fidelity, points |", "|---" * 5 + "|"]
    medians = []
    for taste in dict.fromkeys(race["taste"] for race in found):
        ours = [race for race in found if race["taste"] == taste]
        ends = [(won_at(race) is not None, won_at(race) or race["rows"][-1]) for race in ours]
        groups = statistics.median([row["groups"] if won else math.inf for won, row in ends])
        minutes = statistics.median([row["core_seconds"] / 120 if won else math.inf for won, row in ends])
        medians.append((groups, minutes))
        change = [fidelity(row) for _, row in ends]
        error = statistics.stdev(change) / len(change) ** 0.5 if len(change) > 1 else math.nan
        won = f"{sum(won for won, _ in ends)} of {len(ends)}"
        middle = f"{groups:g} | {minutes:.1f}" if math.isfinite(groups) else "more | more"
        lines.append(f"| {taste} | {won} | {middle} | {statistics.fmean(change):+.1f} ± {error:.1f} |")
    groups, minutes = (statistics.median(column) for column in zip(*medians, strict=True))
    lines += ["", f"Median over tastes: {groups:g} groups, {minutes:.1f} minutes of two cores."]
    return "\n".join(lines)


def plot(found: list[Race], path: Path) -> None:
    """Win rate over rated groups, a line a race, a colour a taste."""
    names = list(dict.fromkeys(race["taste"] for race in found))
    colours = dict(zip(names, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.axhline(0.5, color="0.75", linewidth=1)
    axes.axhline(WON_MEAN, color="0.4", linewidth=1, linestyle="--")
    first = {race["taste"]: race["seed"] for race in reversed(found)}
    for place, race in enumerate(found):
        beside = _APART * (place - len(found) / 2)
        groups = [0, *(row["groups"] + beside for row in race["rows"])]
        wins = [0.5, *(row["win"][0] for row in race["rows"])]
        errors = [
            [0, *(row["win"][0] - row["win"][1] for row in race["rows"])],
            [0, *(row["win"][2] - row["win"][0] for row in race["rows"])],
        ]
        label = race["taste"] if race["seed"] == first[race["taste"]] else None
        axes.errorbar(
            groups, wins, yerr=errors, marker="o", markersize=4, capsize=2, linewidth=1.4,
            color=colours[race["taste"]], label=label,
        )  # fmt: skip
    axes.set(xlabel="groups of eight rated (best of each picked)", ylabel="blind win rate over the base")
    axes.set_ylim(0.3, 1.0)
    most = max(row["groups"] for race in found for row in race["rows"])
    axes.set_xlim(0, most + 5)
    won = "won: mean 75%, lower end above 60%"
    axes.text(most + 4.5, WON_MEAN + 0.008, won, fontsize=8, color="0.35", ha="right")
    axes.set_xticks(range(0, most + 1, 20))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def publish(folder: Path) -> None:
    """Prints the tables and draws the plot."""
    found = races(folder)
    Console(width=200).print(by_taste(found), markdown(found), sep="\n\n", markup=False)
    plot(found, folder / "ratings_to_win.png")
