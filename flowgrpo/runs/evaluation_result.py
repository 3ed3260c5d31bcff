"""The result of an evaluation as JSON, and the rows that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowgrpo.config import SamplingConfig
from flowgrpo.metrics.intervals import NUM_RESAMPLES
from flowgrpo.metrics.names import in_order, is_part, metric_of
from flowgrpo.metrics.table import Cell, Table
from flowgrpo.runs.evaluation_images import Entry, Pictures
from storage.evaluations import NewFigure

INTERVAL = f"95%, BCa bootstrap over prompts, {NUM_RESAMPLES:,} resamples, widened by Student's t"

Result = dict[str, Any]


def result_of(
    drawn: tuple[Sequence[Entry], Sequence[Pictures]],
    table: Table,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    base: str,
    absent: Mapping[str, str],
    failed: Mapping[str, str],
    references: str,
) -> Result:
    """The table with all that it takes to trust it.

    Args:
        base: Name of the base under all checkpoints.
        absent: Metric to why nobody has it.
        failed: Entry to why it was not drawn.
        references: What the images were held against; empty for nothing.
    """
    entries, pictures = drawn
    config = entries[0].config
    names = in_order({name for row in table.rows for name in row})
    rows = [
        _row(entry, one, cells, names)
        for entry, one, cells in zip(entries, pictures, table.rows, strict=True)
    ]
    return {
        "base": base,
        "prompts": list(prompts),
        "seeds": list(seeds),
        "guidance_scale": config.guidance_scale,
        "size": [config.width, config.height],
        "interval": INTERVAL,
        "references": references,
        "against": entries[0].name,
        "metrics": [{"name": name, **vars(metric_of(name))} for name in names],
        "rows": rows,
        "absent": dict(absent),
        "failed": dict(failed),
    }


def _row(entry: Entry, pictures: Pictures, cells: Mapping[str, Cell], names: Sequence[str]) -> Result:
    return {
        "checkpoint": entry.checkpoint.id,
        "name": entry.checkpoint.name,
        "steps": entry.config.num_steps,
        "evaluations": evaluations(entry.config),
        "seconds": pictures.seconds,
        "figures": {name: cells[name].to_json() for name in names if name in cells},
    }


def evaluations(config: SamplingConfig) -> int:
    """Evaluations of the network that one image takes."""
    return config.num_steps * (2 if config.guidance_scale > 1 else 1)


def figures_of(result: Result) -> list[NewFigure]:
    """Rows of the table `evaluation`, one per checkpoint, number of steps and metric that has a number."""
    rows = []
    for row in result["rows"]:
        how = {"steps": row["steps"], "guidance_scale": result["guidance_scale"], "seeds": result["seeds"]}
        for name, cell in row["figures"].items():
            if cell["value"] is not None:
                rest = {key: cell[key] for key in ("num_prompts", "change", "p", "note") if key in cell}
                detail = {"name": name, "against": result["against"], **how, **rest}
                rows.append(
                    NewFigure(
                        row["checkpoint"], cell["key"], cell["value"], cell["low"], cell["high"],
                        cell["num_images"], cell["extractor"], detail,
                    )
                )  # fmt: skip
    return rows


def shown(result: Result) -> list[dict[str, Any]]:
    """The metrics of tables and plot: those that are no part of another and that somebody has."""
    return [
        metric
        for metric in result["metrics"]
        if not is_part(metric["name"]) and any(_has(row, metric["name"]) for row in result["rows"])
    ]


def _has(row: Result, name: str) -> bool:
    return row["figures"].get(name, {}).get("value") is not None
