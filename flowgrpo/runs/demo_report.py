"""What the demonstration shows at its end: a table for the terminal and a sheet of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from torch import Tensor

from flowgrpo.config import RunConfig
from flowgrpo.evaluation import Difference, Measurements
from flowgrpo.metrics.intervals import FEW, Figure
from flowgrpo.runs.sheet import Block, Strip, before_after

NUM_BLOCKS = 6


def table(differences: Sequence[Difference], lower_is_better: str) -> Table:
    """One line per metric: base, tuned, difference, its interval; green or red when the interval leaves out
    zero.
    """
    made = Table(
        "metric", "base", "tuned", "difference", "95% interval", title="Held-out prompts, same seeds"
    )
    for column in made.columns[1:]:
        column.justify = "right"
    for one in differences:
        change = one.change
        better, worse = (change.high < 0, change.low > 0) if one.metric == lower_is_better else (
            change.low > 0, change.high < 0,
        )  # fmt: skip
        colour = "green" if better else "red" if worse else "default"
        made.add_row(
            one.metric, f"{one.base.value:.3f}", f"{one.tuned.value:.3f}",
            f"[{colour}]{change.value:+.3f}[/]", _ends(change, 1.0, 3),
        )  # fmt: skip
    return made


def _ends(change: Figure, scale: float, digits: int, before: str = "") -> str:
    """The interval in words, `scale` times as large, or why there is none."""
    if math.isnan(change.low):
        return FEW
    return f"{before}{scale * change.low:+.{digits}f} to {scale * change.high:+.{digits}f}"


def write_sheet(
    path: Path,
    prompts: Sequence[str],
    images: tuple[Tensor, Tensor],
    measured: tuple[Measurements, Measurements],
    differences: Sequence[Difference],
    config: RunConfig,
) -> None:
    """Writes the before-and-after picture: the first prompts as they come, not chosen."""
    judge = next(one for one in differences if one.metric == "judge")
    blocks = [
        Block(prompt, tuple(
            Strip(label, f"{measurements.columns['judge'][number]:.0%} right", drawn[number])
            for label, drawn, measurements in zip(("base", "tuned"), images, measured, strict=True)
        ))
        for number, prompt in enumerate(prompts[:NUM_BLOCKS])
    ]  # fmt: skip
    rollout = config.rollout
    guidance = "no guidance" if rollout.guidance_scale == 1 else f"guidance {rollout.guidance_scale:g}"
    summary = (
        f"Attributes that the judge finds as asked, {judge.num_prompts} held-out prompts: "
        f"{judge.base.value:.1%} before, {judge.tuned.value:.1%} after "
        f"({100 * judge.change.value:+.1f} points, {_ends(judge.change, 100.0, 1, '95% interval ')})"
    )
    title = (
        f"{rollout.num_steps} steps, {guidance}: before and after {config.num_updates} updates of FlowGRPO"
    )
    foot = (
        "The first held-out prompts of the evaluation, not chosen; each column is one seed, above and below."
    )
    before_after(title, summary, foot, blocks).save(path, optimize=True)
