"""How costs grow: with group size, steps, resolution, rewards, what the Library holds, annotators.

    python -m benchmarks.growth [--only library --only annotators] [--turns 5] [--quick] [--out FOLDER]

Along each axis, sizes take turns. Writes a JSON an axis and `table.md` into the folder `growth` of `docs`, or
of another folder, and `growth.png` into the folder `images` beside it; the table and the picture are of all
axes that lie there, so that one may be measured again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from benchmarks.common import RESULTS, ROOT, machine
from benchmarks.growth import drawing, report, studio
from benchmarks.growth.axis import measure
from flowgrpo.runs.device import use_all_cores

AXES = {axis.name: axis for axis in (*drawing.AXES, *studio.AXES)}


def main(argv: list[str] | None = None) -> None:
    """Measures, and writes what is known then."""
    given = _arguments(argv)
    use_all_cores()
    folder = given.out / "growth"
    for name in given.only or AXES:
        axis, before = AXES[name], machine()
        measured = measure(axis, axis.quick if given.quick else axis.sizes, given.turns)
        report.save(folder, axis, measured, before)
        Console(width=200).print(f"{name}: measured")
    found = report.load(folder, list(AXES.values()))
    table = f"{report.markdown(found)}\n{report.machine_words(folder, list(found))}"
    (folder / "table.md").write_text(table)
    report.plot(found, given.out / "images" / "growth.png")
    Console(width=200).print(table, markup=False, soft_wrap=True)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--only", action="append", choices=AXES, help="an axis; may be given several times")
    parser.add_argument("--turns", type=int, default=5, help="three at least")
    parser.add_argument("--quick", action="store_true", help="few small sizes: does it run?")
    parser.add_argument("--out", type=Path, help=f"by default docs, of a quick run {RESULTS}/quick")
    given = parser.parse_args(argv)
    given.turns = 3 if given.quick else given.turns
    given.out = given.out or (RESULTS / "quick" if given.quick else ROOT / "docs")
    if given.turns < 3:
        parser.error("a median needs three turns at least")
    if "DATABASE_URL" in os.environ:
        parser.error("the rows of a benchmark that fills data folders are SQLite's: unset DATABASE_URL")
    return given


if __name__ == "__main__":
    main()
