"""The table and the plot of ratings to win, from the races that are on disk."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

WON_LOW, WON_MEAN = 0.60, 0.75
"""Where the plot draws its lines; the same as the race's own."""
Race = dict[str, Any]


def races(folder: Path) -> list[Race]:
    """Every race of a folder that has a result."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [race for race in found if race["rows"]]


def won_at(race: Race) -> dict[str, Any] | None:
    """The first batch at which the tuned model had won."""
    won = (row for row in race["rows"] if row["win"][0] >= WON_MEAN and row["win"][1] > WON_LOW)
    return next(won, None)


def table(found: list[Race]) -> Table:
    """One row a taste and seed, where it was won or where it ended."""
    shown = Table(
        "taste", "seed", "won", "groups", "comparisons", "annotator min", "core min / 2", "win rate",
        "ties", "fidelity",
    )  # fmt: skip
    for race in found:
        won = won_at(race)
        row = won or race["rows"][-1]
        win, low, high = row["win"]
        before, after = row["fidelity"]
        shown.add_row(
            race["taste"], str(race["seed"]), "yes" if won else "no", str(row["groups"]),
            str(row["comparisons"]),
            f"{row['annotator_minutes']:.1f}", f"{row['core_seconds'] / 120:.1f}",
            f"{win:.3f} ({low:.3f} to {high:.3f})", f"{row['ties']:.2f}", f"{100 * (after - before):+.1f}",
        )  # fmt: skip
    return shown


def plot(found: list[Race], path: Path) -> None:
    """Win rate over rated groups, a line a race, a colour a taste."""
    names = list(dict.fromkeys(race["taste"] for race in found))
    colours = dict(zip(names, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.axhline(0.5, color="0.75", linewidth=1)
    axes.axhline(WON_MEAN, color="0.4", linewidth=1, linestyle="--")
    axes.text(0.3, WON_MEAN + 0.008, "won: mean 75%, lower end above 60%", fontsize=8, color="0.35")
    first = {race["taste"]: race["seed"] for race in reversed(found)}
    for race in found:
        groups = [0, *(row["groups"] for row in race["rows"])]
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
    axes.set_xlim(0, most + 4)
    axes.set_xticks(range(0, most + 1, 20))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def publish(folder: Path) -> None:
    """Prints the table and writes the plot."""
    found = races(folder)
    console = Console(width=170)
    console.print(table(found))
    won = [row["groups"] for race in found if (row := won_at(race)) is not None]
    if won:
        console.print(
            f"won {len(won)} of {len(found)}; median {statistics.median(won):g} groups where it was"
        )
    plot(found, folder / "ratings_to_win.png")
