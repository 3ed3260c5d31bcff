"""The races themselves: an update at equal settings, its memory, and the time to an equal reward."""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from benchmarks.common import RESULTS, Line
from benchmarks.families import FAMILIES, grown
from benchmarks.learning.table import Spread, spread
from benchmarks.peers.child import OURS, TRL, Answer, Child
from benchmarks.peers.side import Work
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.starter.dataset import plan
from flowgrpo.starter.portraits import caption

MB = 1e6
NAMES = {"sd15": "SD 1.5", "sdxl": "SDXL"}
HELD_OUT = 24
RECIPES = {"own": "its example's settings", "tuned": "settings for this task"}
TRL_EPOCHS, OUR_UPDATES = {"own": 4, "tuned": 24}, 20
"""After which a race for a reward is over: TRL's goes first, ours may take as many updates as it needs up to
these.
"""


def prompts(name: str, count: int) -> tuple[str, ...]:
    """Captions of the starter's world."""
    return tuple(caption(attributes) for attributes in plan(name, count))


def updates(python: Path, repeats: int) -> list[Line]:
    """Both families' updates: ours, ours with both halves of guidance learning, and TRL's, in turns."""
    lines: list[Line] = []
    for family, name in NAMES.items():
        make, part, settings, _ = FAMILIES[name]
        with tempfile.TemporaryDirectory() as folder:
            pipeline = Path(folder) / "pipeline"
            grown(make(pipeline), part, settings)
            work = Work(
                str(pipeline), family, prompts("bench", 24), prompts("held", HELD_OUT), reward="bright"
            )
            lines += _updates(python, work, name, repeats)
    return lines


def _updates(python: Path, work: Work, name: str, repeats: int) -> list[Line]:
    RESULTS.mkdir(parents=True, exist_ok=True)
    both = replace(work, both_halves=True)
    with (
        Child(sys.executable, OURS, work, RESULTS / "ours.log") as ours,
        Child(sys.executable, OURS, both, RESULTS / "ours-both.log") as ours_both,
        Child(python, TRL, work, RESULTS / "trl.log") as trl,
    ):
        sides = (ours, ours_both, trl)
        for side in sides:
            side.ask("update")  # warms up
            side.ask("forget")
        turns = [[side.ask("update") for side in sides] for _ in range(repeats)]
        memory = [side.ask("memory") for side in sides]
    what = f"{name}: update of {work.images} images, {work.num_steps} steps, guidance {work.guidance:g}"
    return update_lines(what, turns, memory)


def update_lines(what: str, turns: Sequence[Sequence[Answer]], memory: Sequence[Answer]) -> list[Line]:
    """Medians, and median ratios of turns, of (ours, ours with both halves, TRL's)."""

    def ratio(side: int, key: str) -> float:
        return statistics.median(float(turn[side][key]) / float(turn[2][key]) for turn in turns)

    peaks = [one["peak"] for one in memory]
    beyond = [one["peak"] - one["imported"] for one in memory]
    return [
        Line(f"{what}, ours", statistics.median(turn[0]["seconds"] for turn in turns), "s"),
        Line("the same by TRL", statistics.median(turn[2]["seconds"] for turn in turns), "s"),
        Line("ratio, ours to TRL's", ratio(0, "seconds"), "", 0.8),
        Line("the same in processor time", ratio(0, "cpu"), "", 0.8),
        Line("the same where both halves of guidance learn, processor time", ratio(1, "cpu"), ""),
        Line("peak of memory, ours", peaks[0] / MB, "MB"),
        Line("the same by TRL", peaks[2] / MB, "MB"),
        Line("ratio, ours to TRL's", peaks[0] / peaks[2], "", 0.8),
        Line("the same without what imports take", beyond[0] / beyond[2], "", 0.8),
        Line("the same where both halves of guidance learn", beyond[1] / beyond[2], ""),
    ]


def reward(python: Path, seeds: int) -> list[Line]:
    """Processor time until the held-out reward is what TRL has after its epochs, on the starter: with the
    settings of its example, and with those that suit this task."""
    work = Work(
        str(WEIGHTS / "pipeline"), "sdxl", prompts("bench", 24), prompts("held", HELD_OUT),
        recipe="own", reward="bright",
    )  # fmt: skip
    lines: list[Line] = []
    for recipe, epochs in TRL_EPOCHS.items():
        tasks = [replace(work, recipe=recipe, seed=seed) for seed in range(seeds)]
        with ThreadPoolExecutor(at_a_time()) as pool:
            races = list(pool.map(race, repeat(python), tasks, repeat(epochs)))
        lines += reward_lines(f"TRL with {RECIPES[recipe]}, {epochs} epochs", races)
    return lines


def at_a_time() -> int:
    """How many races the cores are enough for, each side with as many threads as it was given."""
    cores = os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("OMP_NUM_THREADS") or cores))


@dataclass(frozen=True)
class Race:
    """One seed: what TRL gained over the base and how long that took, and when ours had gained as much."""

    gained: float
    theirs: float
    ours: float


def race(python: Path, task: Work, epochs: int) -> Race:
    """TRL goes first; ours, by its defaults, until it has as much."""
    log = f"{task.recipe}-{task.seed}.log"
    with Child(python, TRL, task, RESULTS / f"trl-{log}") as trl:
        base = trl.ask("held_out")["reward"]
        theirs = sum(trl.ask("update")["cpu"] for _ in range(epochs))
        level = trl.ask("held_out")["reward"]
    with Child(sys.executable, OURS, replace(task, recipe="own"), RESULTS / f"ours-{log}") as ours:
        found = Race(level - base, theirs, seconds_to(ours, level))
    print(f"{RECIPES[task.recipe]}, seed {task.seed}, from {base:.4f}: {found}", flush=True)
    return found


def reward_lines(what: str, races: Sequence[Race]) -> list[Line]:
    """Means over seeds with half of their 95% intervals, and each seed's share."""
    gained = spread([one.gained for one in races])
    shares = [one.ours / one.theirs for one in races]
    share = spread(shares) if all(map(math.isfinite, shares)) else Spread(math.inf, None)
    return [
        Line(f"{what}: reward gained, mean of {len(races)} seeds", gained.value, ""),
        Line("half of its 95% interval", gained.half or 0.0, ""),
        Line("its time", statistics.mean(one.theirs for one in races), "s"),
        Line("share of that after which ours has as much", share.value, "", 1 / 3),
        Line("half of its 95% interval", share.half or 0.0, ""),
        *(Line(f"seed {seed}", one, "") for seed, one in enumerate(shares)),
    ]


def seconds_to(side: Child, level: float) -> float:
    """Processor seconds of learning until the held-out reward is as high; infinite where it never is."""
    took = 0.0
    for _ in range(OUR_UPDATES):
        took += float(side.ask("update")["cpu"])
        if side.ask("held_out")["reward"] >= level:
            return took
    return float("inf")
