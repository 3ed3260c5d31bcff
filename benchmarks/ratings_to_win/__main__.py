"""How many ratings until the tuned model wins: simulated annotators with hidden tastes, at the public API.

    python -m benchmarks.ratings_to_win [--seeds 0 1 2] [--only NAME ...] [--out FOLDER]
        [--from-ratings nft] [--updates 60]

Each annotator rates batches of groups of eight by picking the best; after each batch a run of the preset
"your taste" learns from all votes so far, and the next groups come from what it learned. A fresh blind A/B
against the base, at held-out prompts, is judged by the same taste. Results are kept after every batch, and a
race that is there is not run again. With --from-ratings each batch is followed by a run that draws nothing
and learns from the rated groups alone (`learn_from_ratings`), in place of "your taste".
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import machine, studio
from benchmarks.ratings_to_win.people import Meter, Person
from benchmarks.ratings_to_win.report import publish
from benchmarks.ratings_to_win.tastes import Judge, Taste, prompts, tastes
from flowgrpo.presets import RATED
from flowgrpo.runs.worker import WEIGHTS

BATCH = 20
"""Groups between two runs."""
NUM_UPDATES, RATED_UPDATES = 14, 60
"""Of a run of "your taste", and of one from the rated groups alone, the studio's own number."""
HELD_OUT, IMAGES = 64, 2
"""Prompts of the blind test, and seeds of each."""
TRAIN = 400
SECONDS_PER_GROUP = 6.0
"""Of an annotator's time."""
WON_LOW, WON_MEAN = 0.60, 0.75
"""Ends of the win rate's interval and its mean, from which on the tuned model has won."""


def has_won(row: dict[str, Any]) -> bool:
    """Whether a blind test says so."""
    win, low, _ = row["win"]
    return bool(win >= WON_MEAN and low > WON_LOW)


def race(
    taste: Taste, judge: Judge, seed: int, home: Path, algorithm: str = "", num_updates: int = NUM_UPDATES
) -> Iterator[list[dict[str, Any]]]:
    """The rows so far, after each batch, until the tuned model has won or the patience is over.

    Args:
        algorithm: Of a run from the rated groups alone; empty for "your taste".
    """
    held = prompts(HELD_OUT, 10_000)
    pool = prompts(TRAIN, seed, avoid=frozenset(held))
    rows: list[dict[str, Any]] = []
    with studio(home) as server:
        meter = Meter(str(home))
        person = Person(server.url, taste, meter, seed)
        base = person.ask("list_checkpoints")[0]["id"]
        current, spent = base, 0.0
        for number in range(taste.most_groups // BATCH):
            began, at = meter.look(), time.monotonic()
            person.generate([pool[(number * BATCH + i) % TRAIN] for i in range(BATCH)], current)
            person.rate_all()
            if algorithm:
                current = person.tune_from_ratings(current, algorithm, num_updates)
            else:
                current = person.tune(current, pool, held[:4], num_updates)
            spent += meter.look() - began
            seconds = time.monotonic() - at
            rows.append(measured(person, judge, [base, current], held) | {
                "groups": person.groups, "skipped": person.skipped, "comparisons": person.comparisons,
                "annotator_minutes": person.groups * SECONDS_PER_GROUP / 60, "core_seconds": spent,
                "wall_seconds": seconds,
            })  # fmt: skip
            yield rows
            if has_won(rows[-1]):
                return


def measured(person: Person, judge: Judge, both: list[str], held: list[str]) -> dict[str, Any]:
    """A blind test at the held-out prompts, and how well both models follow them."""
    drawn = [torch.cat(images) for images in person.side_by_side(both, held, IMAGES)]
    person.spread = person.taste.score(drawn[0]).std().item()
    said = [prompt for prompt in held for _ in range(IMAGES)]
    fidelity = [_mean(judge.fidelity(images, said)) for images in drawn]
    liked = [person.taste.score(images).mean().item() for images in drawn]
    blind = person.judge_blind(both, held, IMAGES)
    return blind | {"fidelity": fidelity, "taste": liked, "spread": person.spread}


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[], help="Names of tastes, or their beginnings.")
    parser.add_argument("--out", type=Path, default=Path("build/bench/ratings_to_win"))
    parser.add_argument(
        "--from-ratings", choices=RATED, default="", help="Algorithm, in place of your taste."
    )
    parser.add_argument("--updates", type=int, help="Of each run.")
    given = parser.parse_args()
    how = (given.from_ratings, given.updates or (RATED_UPDATES if given.from_ratings else NUM_UPDATES))
    judge = Judge(WEIGHTS)
    wanted = [
        taste
        for taste in tastes(judge)
        if not given.only or any(taste.name.startswith(name) for name in given.only)
    ]
    for seed in given.seeds:
        for taste in wanted:
            _run(taste, judge, seed, given.out, how)
    publish(given.out)


def _run(taste: Taste, judge: Judge, seed: int, out: Path, how: tuple[str, int]) -> None:
    path = (
        out / f"{taste.name.replace(' ', '_').replace(';', '').replace(',', '').replace('%', '')}-{seed}.json"
    )
    if path.exists() and json.loads(path.read_text())["is_over"]:
        return
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    facts = {"taste": taste.name, "seed": seed, "most_groups": taste.most_groups, "machine": machine()}
    facts |= {"from_ratings": how[0], "updates": how[1]}

    def keep(*, is_over: bool) -> None:
        path.write_text(json.dumps(facts | {"is_over": is_over, "rows": rows}, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        for found in race(taste, judge, seed, Path(folder) / "home", *how):
            rows[:] = found
            keep(is_over=False)
            print(taste.name, seed, {k: v for k, v in rows[-1].items() if k != "votes"}, flush=True)
    keep(is_over=True)


if __name__ == "__main__":
    main()
