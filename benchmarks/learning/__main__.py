"""The proof: base, continued SFT, DDPO, FlowGRPO as published, FlowGRPO ours, NFT and AWM on the starter.

    python -m benchmarks.learning [--task fine_and_rare] [--quick] [--only ours --only ddpo] [--seeds 3]
        [--updates 40] [--report]

Races that are on disk are not run again, and one that was cut short goes on, so the whole may be done in
parts. Writes `build/bench/learning/<method>-<seed>.json`, `table.md`, `claims-<method>.md` and `curves.png`;
those of another task than the first lie in a folder of its name.
Times are of computing; with OMP_NUM_THREADS=1 they are wall-clock, whatever else runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from benchmarks.common import RESULTS, machine
from benchmarks.learning import claims, table
from benchmarks.learning.judging import Judging
from benchmarks.learning.methods import Method, methods
from benchmarks.learning.race import Result, race, save
from benchmarks.learning.tasks import FAST, TASKS, Task
from flowgrpo.policies import load_policy
from flowgrpo.runs.device import use_all_cores
from flowgrpo.runs.worker import WEIGHTS


def main() -> None:
    """Entry point."""
    use_all_cores()
    given = _arguments()
    task = TASKS[given.task]
    home = RESULTS / task.folder
    folder = given.out or (home / "quick" if given.quick else home)
    judging = Judging(WEIGHTS, folder, task=task)
    if given.quick:
        judging = Judging(WEIGHTS, folder, num_prompts=32, num_seeds=2, glance_prompts=32, task=task)
    entrants = methods(task)
    left_out = task.variants if given.quick else ()
    if not given.report:
        _base(judging, folder)
        for seed in range(given.seeds):
            for name in given.only or [name for name in entrants if name not in left_out]:
                _run(entrants[name], seed, given.updates, given.every, judging, folder)
    _report(task, folder, {"base": "base"} | {name: method.title for name, method in entrants.items()})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--task", choices=TASKS, default=FAST.name)
    parser.add_argument("--quick", action="store_true", help="one seed, few updates, at most 12 minutes")
    parser.add_argument("--only", action="append", help="a method; may be given several times")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, help="by default the task's")
    parser.add_argument("--every", type=int, default=10, help="updates between measurements")
    parser.add_argument("--out", type=Path, help=f"by default in {RESULTS}")
    parser.add_argument("--report", action="store_true", help="only the table, from what is on disk")
    given = parser.parse_args()
    given.updates = given.updates or TASKS[given.task].updates
    entrants = TASKS[given.task].entrants
    if odd := set(given.only or ()) - set(entrants):
        parser.error(f"{', '.join(sorted(odd))} does not race for {given.task}: {', '.join(entrants)}")
    if given.quick:
        given.seeds, given.updates, given.every = 1, min(given.updates, 3), 3
    return given


def _base(judging: Judging, folder: Path) -> None:
    """The base is a race of no updates."""
    if not (folder / "base-0.json").exists():
        policy = load_policy(WEIGHTS / "pipeline")
        base = Result("base", 0, final=judging.whole(policy, "base", 0, judging.task.samplers))
        base.curve.append({"updates": 0, "images": 0, "evaluations": 0, "seconds": 0.0})
        save(base, folder)


def _run(method: Method, seed: int, updates: int, every: int, judging: Judging, folder: Path) -> None:
    stored = folder / f"{method.name}-{seed}.json"
    if stored.exists() and json.loads(stored.read_text())["final"]:
        return
    console = Console()
    for result in race(method, seed, updates, every, judging, folder):
        result.machine = machine()
        save(result, folder)
        point = {key: round(value, 4) for key, value in result.curve[-1].items()}
        console.print(f"{method.title}, seed {seed}: {point}")


def _report(task: Task, folder: Path, titles: dict[str, str]) -> None:
    races = table.load(folder)
    lines = table.rows(races, titles)
    table.show(lines)
    (folder / "table.md").write_text(table.markdown(lines))
    for name in titles:
        if name.startswith("ours") and name in races:
            told = claims.markdown(claims.check(races, name, task))
            (folder / f"claims-{name}.md").write_text(told)
            Console(width=160).print(f"[bold]{titles[name]}[/]\n{told}")
    table.plot(races, titles, folder / "curves.png")


if __name__ == "__main__":
    main()
