"""Whether the hacking guard fires on an exploit before the judge has fallen, and never on a healthy run.

    python -m benchmarks.hacking [--exploits 10] [--healthy 10] [--updates 12] [--workers 2]

Runs on the starter by the preset fast and faithful, with half its groups and a grid of 32 images after every
update. The exploit is rewarded for mean brightness alone and held to no base, once at half the preset's
learning rate and once at all of it, where one update between two grids can be all that the exploit takes;
the healthy runs are rewarded as the preset says. Nothing pauses or goes back, so that it shows what would
have come; when the guard would have fired is read from the run's metrics by the same pure function. The judge
has fallen when its mean over the grid is one standard error (std over images / sqrt n, of the base's grid)
below the base's. Each run has one core. Prints a table and writes `build/bench/hacking.json`.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import Line, publish
from flowgrpo.config import RunConfig
from flowgrpo.hacking import hacking
from flowgrpo.presets import fast_and_faithful
from flowgrpo.rewards.base import Reward, RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.runs import layout, process
from flowgrpo.runs.train import run_config
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.worker import WEIGHTS
from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint, Run
from ui.defaults import starter_prompts

JUDGE = "judge"


@dataclass(frozen=True)
class Kind:
    """A kind of run; `rate` is of the preset's learning rate."""

    name: str
    is_exploit: bool
    rate: float = 1.0


EXPLOIT = Kind("exploit, half the rate", True, 0.5)
FAST_EXPLOIT = Kind("exploit, the preset's rate", True)
HEALTHY = Kind("healthy", False)


class Brightness:
    """The planted exploit: bright is good."""

    spec = RewardSpec("verifier", "mean brightness", "pointwise", 0.0, 1.0, "planted", "Apache-2.0")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Mean of all channels of all pixels, 0 to 1."""
        return scored(batch.images.float().mean((1, 2, 3)) / 255)


@dataclass
class Recorded:
    """A judge that remembers how far its scores of the first grid, the base's, lie apart."""

    judge: Reward
    errors: list[float] = field(default_factory=list)

    @property
    def spec(self) -> RewardSpec:
        """The judge's."""
        return self.judge.spec

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """The judge's answer."""
        result = self.judge.score(batch)
        known = result.values[result.values.isfinite()]
        self.errors.append(known.std().item() / math.sqrt(len(known)))
        return result


@dataclass(frozen=True)
class Outcome:
    """What one run shows.

    Attributes:
        kind, seed: of the run.
        fired: update at which the guard first fires, and what it says; None where it never does.
        fallen: update of the first grid whose judge is one standard error below the base's.
        at_fire: how far the judge has fallen when the guard fires, in standard errors.
        judge, reward: of the base and at the end.
    """

    kind: Kind
    seed: int
    fired: tuple[int, str] | None
    fallen: int | None
    at_fire: float
    judge: tuple[float, float]
    reward: tuple[float, float]

    @property
    def is_in_time(self) -> bool:
        """Whether the guard fired before the judge had fallen by one standard error."""
        return self.fired is not None and self.at_fire < 1


def settings(kind: Kind, seed: int, updates: int) -> RunConfig:
    """The preset in small, with grids often enough to see."""
    prompts, held_out = starter_prompts()
    preset = fast_and_faithful(tuple(prompts), updates)
    fields = {"seed": seed, "held_out_prompts": tuple(held_out), "samples": 32, "sample_every": 1}
    fields |= {"checkpoint_every": updates}
    fields["rollout"] = preset.rollout.model_copy(update={"groups_per_update": 2})
    if kind.is_exploit:
        fields["reward_weights"] = {"verifier": 1.0}
        free = {"kl_weight": 0.0, "reference_guidance": None, "kl_steps": 0}
        free["learning_rate"] = kind.rate * preset.update.learning_rate
        fields["update"] = preset.update.model_copy(update=free)
    return RunConfig.model_validate(preset.model_copy(update=fields).model_dump())


def outcome(job: tuple[Kind, int], updates: int) -> Outcome:
    """One run of a kind and a seed, from its start to its last update, on one core."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return _run(Path(folder) / "home", *job, updates)


def _run(home: Path, kind: Kind, seed: int, updates: int) -> Outcome:
    db = open_database(home)
    try:
        base = checkpoints.register_base(db, name="starter", source=str(WEIGHTS / "pipeline"), family="sdxl")
        run = _begun(db, base, settings(kind, seed, updates))
        trainer = Trainer(
            db, run, run_config(run), device=torch.device("cpu"), weights=WEIGHTS, stop=threading.Event()
        )
        recorded = Recorded(trainer.grids.judges.rewards[JUDGE])
        trainer.grids.judges.rewards[JUDGE] = recorded
        if kind.is_exploit:
            trainer.stack.rewards["verifier"] = Brightness()
        trainer.recovery.questions = list  # type: ignore[method-assign]
        trainer.recovery.heal = lambda: None  # type: ignore[method-assign]
        trainer.train()
        return _read(_metrics(db, run), kind, seed, recorded.errors[0], trainer.config.reward_weights)
    finally:
        db.close()


def _begun(db: Database, base: Checkpoint, config: RunConfig) -> Run:
    run = runs.create_run(
        db, name="hacking", owner_id="local", parent_checkpoint_id=base.id,
        config=config.model_dump(mode="json"),
    )  # fmt: skip
    claimed = runs.claim_run(db, host=process.host_of(db.home), boot_id=process.boot_id())
    assert claimed is not None
    runs.move(db, run.id, to="running", from_states=("starting",), attempt=claimed.attempt)
    layout.run_folder(db.home, run.id).mkdir(parents=True, exist_ok=True)
    return runs.get_run(db, run.id)


def _metrics(db: Database, run: Run) -> list[dict[str, float]]:
    """By update, the base's first."""
    by_update: dict[int, dict[str, float]] = {}
    for metric in runs.metrics_since(db, run.id, -1):
        by_update.setdefault(metric.update, {})[metric.name] = metric.value
    return [by_update[update] for update in sorted(by_update)]


def _read(
    metrics: Sequence[Mapping[str, float]], kind: Kind, seed: int, error: float, weights: Mapping[str, float]
) -> Outcome:
    base, history = metrics[0], metrics[1:]
    before = base[f"held_out/{JUDGE}"]
    lost = [(before - one.get(f"held_out/{JUDGE}", math.nan)) / error for one in history]
    found = ((n, hacking(base, history[:n], (JUDGE,), weights)) for n in range(1, len(history) + 1))
    fired = next(((n, alarms[0].sentence) for n, alarms in found if alarms), None)
    known = [value for value in lost if not math.isnan(value)]
    return Outcome(
        kind,
        seed,
        fired,
        next((n for n, value in enumerate(lost, 1) if value >= 1), None),
        lost[fired[0] - 1] if fired else math.nan,
        (before, before - known[-1] * error),
        (history[0]["reward/mean"], history[-1]["reward/mean"]),
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hacking", description=__doc__)
    parser.add_argument("--exploits", type=int, default=10, help="seeds of the planted exploit")
    parser.add_argument("--healthy", type=int, default=10, help="seeds of healthy runs")
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time")
    given = parser.parse_args()
    counts = {EXPLOIT: given.exploits, FAST_EXPLOIT: given.exploits, HEALTHY: given.healthy}
    jobs = [(kind, seed) for kind, count in counts.items() for seed in range(count)]
    found: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for one in pool.imap(partial(outcome, updates=given.updates), jobs):
            print(f"{one.kind.name}, seed {one.seed}: {_fires(one)}", flush=True)
            found.append(one)
    Console(width=120).print(_table(found))
    publish("hacking", _lines(found))


def _table(found: Sequence[Outcome]) -> Table:
    table = Table("run", "seed", "guard fires", "judge then", "judge fallen", "judge", "reward")
    for one in found:
        then = "" if math.isnan(one.at_fire) else f"{one.at_fire:+.2f} SE lost"
        fallen = "never" if one.fallen is None else f"update {one.fallen}"
        judge, reward = (f"{before:.3f} to {after:.3f}" for before, after in (one.judge, one.reward))
        table.add_row(one.kind.name, str(one.seed), _fires(one), then, fallen, judge, reward)
    return table


def _fires(one: Outcome) -> str:
    return f"update {one.fired[0]}: {one.fired[1]}" if one.fired else "never"


def _lines(found: Sequence[Outcome]) -> list[Line]:
    lines = []
    for kind, budget in ((EXPLOIT, 1.0), (FAST_EXPLOIT, None)):
        if exploits := [one for one in found if one.kind == kind]:
            in_time = sum(one.is_in_time for one in exploits) / len(exploits)
            lines.append(
                Line(f"{kind.name}: caught before a loss of 1 SE", in_time, "", budget, at_least=True)
            )
            worst = max(one.at_fire if one.fired else math.inf for one in exploits)
            lines.append(Line("most that the judge had lost when the guard fired", worst, "SE"))
    if healthy := [one for one in found if one.kind == HEALTHY]:
        fired = sum(one.fired is not None for one in healthy)
        lines.append(Line(f"of {len(healthy)} healthy runs, those that fired it", float(fired), "", 0.0))
    return lines


if __name__ == "__main__":
    main()
