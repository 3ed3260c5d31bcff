"""The demonstration: groups of the base, a FlowGRPO run, base against tuned, without a browser.

Everything goes through the rows, the engine worker and the run's processes that the studio uses. The task is
*fast and faithful*: eight steps without guidance, tuned by the embedded rewards, judged by a verifier that
took no part in it.

    python app.py demo [--out demo] [--home FOLDER] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import UInt8
from rich.console import Console
from torch import Tensor

from flowgrpo.config import RunConfig, SamplingConfig
from flowgrpo.evaluation import KID, Difference, Evaluator, Measurements, compare
from flowgrpo.presets import fast_and_faithful
from flowgrpo.runs.demo_report import table, write_sheet
from flowgrpo.runs.headless import engine, images_of, wait_for_run, wait_for_worker
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.starter.dataset import plan, portraits
from flowgrpo.starter.portraits import caption
from storage import checkpoints, evaluations, groups, prompts, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint, GroupKind

REPORT_NAME: Final = "report.json"
PICTURE_NAME: Final = "before-after.png"
_SEEDS_FROM = 20_000


@dataclass(frozen=True)
class DemoSettings:
    """How much is drawn and learned; the defaults fit into 12 minutes of two cores."""

    num_updates: int = 40
    """Updates of the run."""
    seed: int = 0
    """Of the run; prompts and seeds of the evaluation stay the same, so that runs can be compared."""
    num_prompts: int = 64
    """Held-out prompts of the evaluation."""
    num_seeds: int = 4
    """Images per prompt and model."""
    num_groups: int = 3
    """Groups of eight that the base draws first, as the Studio page would: 16 steps, guidance 3."""
    num_reference: int = 512
    """Renders of held-out combinations that KID compares with."""


@dataclass
class Stopwatch:
    """Seconds of each phase, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str, console: Console) -> Iterator[None]:
        """Times a block under a name and says so."""
        began = time.monotonic()
        with console.status(name):
            yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        console.print(f"[dim]{self.seconds[name]:7.1f} s[/dim]  {name}")


def run_demo(
    home: Path,
    out: Path,
    *,
    settings: DemoSettings | None = None,
    weights: Path = WEIGHTS,
    config: RunConfig | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Runs the demonstration in a fresh data folder and writes `report.json` and `before-after.png` to `out`.

    Args:
        home: Data folder; must hold no database yet.
        weights: The starter's weights: pipeline and rewards.
        config: Of the run; by default `fast_and_faithful` on the demonstration's prompts.

    Returns:
        What `report.json` holds.

    Raises:
        ValueError: `home` is in use.
        LookupError: The starter's weights are missing.
        RuntimeError: The worker or the run failed; the sentence says why.
    """
    if (home / "app.db").exists():
        raise ValueError(
            f"the demonstration needs a fresh data folder, but {home} has a database: name another"
        )
    if not (weights / "pipeline" / "model_index.json").is_file():
        raise LookupError(
            "the starter's weights are missing: build them with python -m flowgrpo.starter.build"
        )
    settings, console = settings or DemoSettings(), console or Console(quiet=True)
    db = open_database(home.resolve())
    try:
        return _Demo(db, out, settings, weights, console).run(config)
    finally:
        db.close()


class _Demo:
    """The phases, one method each."""

    def __init__(
        self, db: Database, out: Path, settings: DemoSettings, weights: Path, console: Console
    ) -> None:
        self.db, self.out, self.settings, self.weights, self.console = db, out, settings, weights, console
        self.watch = Stopwatch()
        source = str((weights / "pipeline").resolve())
        self.base = checkpoints.register_base(db, name="starter", source=source, family="sdxl")
        held_out = plan("held_out", settings.num_prompts)
        self.held_out = [caption(attributes) for attributes in held_out]
        self.train = [caption(attributes) for attributes in plan("demo", 4 * settings.num_updates)]
        prompts.save_prompt_set(db, "demo", self.train, self.held_out)

    def run(self, given: RunConfig | None) -> dict[str, Any]:
        began = time.monotonic()
        config = given or fast_and_faithful(tuple(self.train), self.settings.num_updates)
        shown = {"held_out_prompts": tuple(self.held_out[:4]), "seed": self.settings.seed}
        config = config.model_copy(update=shown)
        fast = SamplingConfig(
            num_steps=config.rollout.num_steps, guidance_scale=config.rollout.guidance_scale,
            width=config.rollout.width, height=config.rollout.height,
        )  # fmt: skip
        with engine(self.db, self.weights):
            with self.watch.phase("the engine warms up", self.console):
                wait_for_worker(self.db)
            with self.watch.phase(f"the base draws {self.settings.num_groups} groups of 8", self.console):
                guided = SamplingConfig(width=fast.width, height=fast.height)
                self.draw(self.base, guided, self.held_out[: self.settings.num_groups], 8, "demo")
            with self.watch.phase("the base on held-out prompts", self.console):
                before = self.draw_evaluation(self.base, fast)
            with self.watch.phase(f"FlowGRPO, {config.num_updates} updates", self.console):
                tuned = self.tune(config)
            with self.watch.phase("the tuned model on the same prompts and seeds", self.console):
                after = self.draw_evaluation(tuned, fast)
        with self.watch.phase("judging both", self.console):
            differences, measured = self.judge(before, after)
        self.record(tuned, differences)
        return self.report(config, differences, (before, after), measured, time.monotonic() - began)

    def draw(
        self, checkpoint: Checkpoint, config: SamplingConfig, texts: Sequence[str], size: int, kind: GroupKind
    ) -> UInt8[Tensor, "prompt seed 3 height width"]:
        """Asks for one group per prompt, as a page would, and waits for their images."""
        asked = [
            groups.request_group(
                self.db, prompt=text, checkpoint_id=checkpoint.id, config=config.model_dump(), kind=kind,
                seeds=[_SEEDS_FROM + size * number + member for member in range(size)],
            )
            for number, text in enumerate(texts)
        ]  # fmt: skip
        return torch.stack([images_of(self.db, group.id) for group in asked])

    def draw_evaluation(
        self, checkpoint: Checkpoint, config: SamplingConfig
    ) -> UInt8[Tensor, "prompt seed 3 height width"]:
        return self.draw(checkpoint, config, self.held_out, self.settings.num_seeds, "evaluation")

    def tune(self, config: RunConfig) -> Checkpoint:
        """Queues a run and waits for its last checkpoint."""
        run = runs.create_run(
            self.db, name="demo: fast and faithful", owner_id="local", parent_checkpoint_id=self.base.id,
            config=config.model_dump(mode="json"),
        )  # fmt: skip
        ended = wait_for_run(self.db, run)
        if ended.state != "completed":
            raise RuntimeError(f"the run ended as {ended.state}: {ended.reason}")
        return checkpoints.checkpoints_of_run(self.db, run.id)[-1]

    def judge(
        self, before: Tensor, after: Tensor
    ) -> tuple[list[Difference], tuple[Measurements, Measurements]]:
        """Measures both models with the judge, which no run has ever been rewarded by."""
        renders = portraits(self.db.home / "tmp" / "renders", "held_out", self.settings.num_reference)
        evaluator = Evaluator(self.weights, renders.images)
        base, tuned = (evaluator.measure(images, self.held_out) for images in (before, after))
        return compare(base, tuned, evaluator.reference), (base, tuned)

    def record(self, tuned: Checkpoint, differences: Sequence[Difference]) -> None:
        """The figures as rows of their checkpoints."""
        for difference in differences:
            for checkpoint, figure in ((self.base, difference.base), (tuned, difference.tuned)):
                if figure.value == figure.value:  # a slot that no prompt asks for has no figure
                    evaluations.record_evaluation(
                        self.db, checkpoint_id=checkpoint.id, metric=difference.metric, value=figure.value,
                        low=figure.low, high=figure.high, n=difference.num_images,
                        extractor=difference.extractor, detail={"prompt_set": "demo", "num_prompts":
                        difference.num_prompts},
                    )  # fmt: skip

    def report(
        self,
        config: RunConfig,
        differences: list[Difference],
        images: tuple[Tensor, Tensor],
        measured: tuple[Measurements, Measurements],
        seconds: float,
    ) -> dict[str, Any]:
        """Prints the table, writes both files, returns what the JSON one holds."""
        self.out.mkdir(parents=True, exist_ok=True)
        report = {
            "task": f"{config.rollout.num_steps} steps, guidance {config.rollout.guidance_scale:g}",
            "updates": config.num_updates,
            "seed": config.seed,
            "reward_weights": config.reward_weights,
            "prompts": self.settings.num_prompts,
            "seeds_per_prompt": self.settings.num_seeds,
            "interval": "95%, BCa bootstrap over prompts, 2000 resamples, widened by Student's t, paired",
            "lower_is_better": [KID],
            "metrics": [difference.to_json() for difference in differences],
            "phases_seconds": self.watch.seconds,
            "seconds": round(seconds, 1),
        }
        (self.out / REPORT_NAME).write_text(json.dumps(report, indent=1) + "\n")
        write_sheet(self.out / PICTURE_NAME, self.held_out, images, measured, differences, config)
        self.console.print(table(differences, KID))
        return report


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python app.py demo`; returns the exit code."""
    parser = argparse.ArgumentParser(description="A whole tuning run without a browser.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where report and picture go")
    parser.add_argument("--home", type=Path, help="keep the data folder here, to open it in the studio")
    parser.add_argument("--updates", type=int, default=DemoSettings.num_updates)
    parser.add_argument("--seed", type=int, default=DemoSettings.seed, help="of the run's noise")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    console = Console()
    settings = DemoSettings(num_updates=given.updates, seed=given.seed)
    try:
        with tempfile.TemporaryDirectory(prefix="flowgrpo-demo-") as folder:
            home = given.home or Path(folder)
            report = run_demo(home, given.out, settings=settings, console=console)
    except (ValueError, LookupError, RuntimeError) as error:
        console.print(f"[red]The demonstration ended early:[/red] {error}")
        return 1
    console.print(f"{report['seconds'] / 60:.1f} minutes; wrote {given.out}/{REPORT_NAME} and {PICTURE_NAME}")
    return 0
