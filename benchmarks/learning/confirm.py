"""What finished races reach on prompts and at seeds that no recipe was chosen by.

    python -m benchmarks.learning.confirm [--task fine_and_rare] [--only ours] [--out FOLDER]

The table is measured on the first 256 held-out prompts; recipes were chosen by those and by the last 512, and
these are the 256 between. Reads the weights that the races of a folder keep, writes `confirmed.json` there
and prints it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.common import RESULTS
from benchmarks.learning.judging import Judging
from benchmarks.learning.table import Spread, spread
from benchmarks.learning.tasks import FAST, TASKS
from flowgrpo import lora
from flowgrpo.checkpoint import newest_valid
from flowgrpo.policies import load_policy
from flowgrpo.runs.device import use_all_cores
from flowgrpo.runs.worker import WEIGHTS

Found = dict[str, list[dict[str, float]]]
"""Row to what each seed of it measures."""
METRICS = {"judge": 4, "kid": 4, "fid": 1, "quality": 3, "diversity": 3}
"""Columns and their digits."""


def main() -> None:
    """Entry point."""
    use_all_cores()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.confirm", description=__doc__)
    parser.add_argument("--task", choices=TASKS, default=FAST.name)
    parser.add_argument("--only", action="append", help="a method; may be given several times")
    parser.add_argument("--out", type=Path, help=f"folder of the races, by default in {RESULTS}")
    given = parser.parse_args()
    task = TASKS[given.task]
    folder = given.out or RESULTS / task.folder
    judging = Judging(WEIGHTS, folder, task=task)
    fresh = replace(judging, first_prompt=judging.num_prompts)
    try:
        found = confirm(fresh, folder, given.only or [name for name in task.entrants if "ours" in name])
    except LookupError as error:
        parser.error(str(error))
    (folder / "confirmed.json").write_text(json.dumps(found, indent=1) + "\n")
    _show(found)


def confirm(judging: Judging, folder: Path, names: Sequence[str]) -> Found:
    """The base in both samplers and the races of these names in the task's; raises LookupError where a race
    has kept no weights.
    """
    kept = {name: sorted((folder / "kept").glob(f"{name}-[0-9]*")) for name in names}
    if missing := [name for name, races in kept.items() if not races]:
        raise LookupError(f"{folder} keeps no weights of {', '.join(missing)}: race first, into this folder")
    base = load_policy(WEIGHTS / "pipeline")
    found: Found = {
        f"base, {sampler}": [judging.measure(base, "confirmed-base", 0, sampler)]
        for sampler in judging.task.samplers
    }
    for name, races in kept.items():
        found[name] = [_measured(judging, race, name) for race in races]
    return found


def _measured(judging: Judging, race: Path, name: str) -> dict[str, float]:
    newest, _ = newest_valid(race)
    if newest is None:
        raise LookupError(f"{race} has no checkpoint that is whole")
    config, tensors = lora.load(newest, "ema")
    policy = load_policy(WEIGHTS / "pipeline")
    policy.attach_lora(config, seed=0)
    seed = int(race.name.rpartition("-")[2])
    with policy.weights(tensors):
        return judging.measure(policy, f"confirmed-{name}", seed, "fast")


def _show(found: Found) -> None:
    table = Table("", "seeds", *METRICS)
    for name, runs in found.items():
        cells: list[Spread] = [spread([run[metric] for run in runs]) for metric in METRICS]
        words = [cell.words(digits) for cell, digits in zip(cells, METRICS.values(), strict=True)]
        table.add_row(name, str(len(runs)), *words)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
