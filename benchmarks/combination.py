"""How much each of three rewards of unlike scales has to say, by every rule that combines them.

    python -m benchmarks.combination

Planted: independent rewards of scales 0.3 (a cosine), 6 (an aesthetic score) and 21 (PickScore), which vary
by a tenth of their scale within a group and as much between prompts. Measured: the correlation, over all
samples, of the advantage with each reward's distance from its group's mean; equal shares of three are
1 / sqrt(3) = 0.577. Prints a table and writes `build/bench/combination.json`.
"""

from __future__ import annotations

import math
import statistics

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common import Line, publish
from flowgrpo.advantages import calibrate, combine
from flowgrpo.config import AdvantageConfig

SCALES = (0.3, 6.0, 21.0)
SPREAD = 0.1
"""Of the scale, within groups and between prompts."""
GROUPS, SAMPLES, SEEDS = 64, 16, 10
EQUAL = 1 / math.sqrt(len(SCALES))
MARGIN = 0.1
"""How far from equal our rule may be."""
RULES: dict[str, AdvantageConfig] = {
    "ours: normalised, calibrated": AdvantageConfig(diversity=False),
    "normalised, pooled": AdvantageConfig(std="pooled", diversity=False),
    "normalised, group": AdvantageConfig(std="group", diversity=False),
    "gdpo": AdvantageConfig(combine="gdpo", std="group", diversity=False),
    "winrate": AdvantageConfig(combine="winrate", std="group", diversity=False),
    "raw_sum, group": AdvantageConfig(combine="raw_sum", std="group", diversity=False),
    "raw_sum, global (Flow-GRPO)": AdvantageConfig(combine="raw_sum", std="global", diversity=False),
}


def planted(seed: int) -> dict[str, Tensor]:
    """Reward name to (group, sample)."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"scale {scale:g}": scale
        * (
            1
            + SPREAD * torch.randn(GROUPS, 1, generator=generator)
            + SPREAD * torch.randn(GROUPS, SAMPLES, generator=generator)
        )
        for scale in SCALES
    }


def correlations(rewards: dict[str, Tensor], config: AdvantageConfig) -> list[float]:
    """Of the advantage with each reward, within groups; weights are 1."""
    weights = dict.fromkeys(rewards, 1.0)
    values = combine(rewards, weights, calibrate(rewards), config=config).values.flatten()
    within = [column - column.mean(1, keepdim=True) for column in rewards.values()]
    return [torch.corrcoef(torch.stack([values, one.flatten()]))[0, 1].item() for one in within]


def shares(config: AdvantageConfig) -> list[float]:
    """Mean correlations over the seeds, one a reward."""
    found = [correlations(planted(seed), config) for seed in range(SEEDS)]
    return [statistics.fmean(column) for column in zip(*found, strict=True)]


def main() -> None:
    """Entry point."""
    table = Table(
        "rule",
        *planted(0),
        "furthest from equal",
        title=f"correlation with the advantage, {EQUAL:.3f} is equal",
    )
    lines = []
    for name, config in RULES.items():
        each = shares(config)
        furthest = max(abs(one - EQUAL) for one in each)
        table.add_row(name, *(f"{one:.3f}" for one in each), f"{furthest:.3f}")
        budget = MARGIN if name.startswith("ours") else None
        lines.append(Line(f"{name}: furthest from equal", furthest, "", budget))
        lines += [Line(f"{name}: {r}", one, "") for r, one in zip(planted(0), each, strict=True)]
    Console(width=110).print(table)
    publish("combination", lines)


if __name__ == "__main__":
    main()
