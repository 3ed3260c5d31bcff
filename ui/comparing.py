"""Checkpoints x prompts at the same seeds: which cells exist, which are missing, what the difference is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from flowgrpo.config import MAX_GROUP_SIZE, SamplingConfig
from flowgrpo.metrics.intervals import FEW, MIN_PROMPTS, draws, mean_of
from storage import finding, groups, lineage, quotas
from storage.finding import Wanted
from storage.groups import GroupView, ImageView
from storage.models import Checkpoint, GroupState
from ui import forms
from ui.components import signed, strip
from ui.forms import GroupForm, Refused
from ui.services import LOCAL_USER, Services, shown

MAX_CHECKPOINTS, MAX_PROMPTS, MAX_IMAGES = 6, 24, MAX_GROUP_SIZE
LINE_BREAK = "↵"
"""Stands for a line break inside a prompt where prompts are written one a line."""
_FAILED: tuple[GroupState, ...] = ("failed",)


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        checkpoints: the rows; the first is what the others are measured against.
        prompts: one block each.
        seeds: the columns.
        config: the same sampling for every cell.
    """

    checkpoints: tuple[Checkpoint, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    config: SamplingConfig


@dataclass(frozen=True)
class Cell:
    """One checkpoint on one prompt.

    Attributes:
        view: the images, None while nobody has asked for them or after they could not be made.
        failure: why they could not be made; empty when nobody tried or there are some.
    """

    prompt: str
    checkpoint: Checkpoint
    view: GroupView | None
    failure: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether it has to be generated."""
        return self.view is None


@dataclass(frozen=True)
class Difference:
    """One reward of two checkpoints on the same prompts and seeds, with a 95% interval over
    prompts."""

    reward: str
    first: float
    other: float
    difference: float
    low: float
    high: float
    n: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def check(
    services: Services,
    checkpoint_ids: object,
    prompts: object,
    seeds: object,
    count: object,
    num_steps: object,
    guidance_scale: object,
    negative: object = "",
    width: object = None,
    height: object = None,
) -> Plan:
    """Checks the Compare form; raises `Refused` with the first thing that is wrong."""
    rows = of_one_base(services, checkpoint_ids, MAX_CHECKPOINTS)
    lines = _prompts(prompts)
    if not 1 <= len(lines) <= MAX_PROMPTS:
        raise Refused(f"Write 1 to {MAX_PROMPTS} prompts, one a line, not {len(lines)}.")
    columns = forms.whole(count, "Images per prompt", 1, MAX_IMAGES)
    typed = seeds if str(seeds or "").strip() else "1"
    form = GroupForm(
        prompt=lines[0],
        group_size=columns,
        seeds=str(typed),
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        negative=negative,
        width=width,
        height=height,
    )
    request = services.check_group(rows[0].id, form)
    return Plan(rows, lines, request.seeds, request.config)


def of_one_base(services: Services, checkpoint_ids: object, at_most: int) -> tuple[Checkpoint, ...]:
    """The checkpoints of these ids; raises `Refused` where they cannot stand beside each other."""
    ids = list(dict.fromkeys(checkpoint_ids)) if isinstance(checkpoint_ids, list | tuple) else []
    if not 1 <= len(ids) <= at_most:
        raise Refused(f"Choose 1 to {at_most} checkpoints, not {len(ids)}.")
    rows = tuple(services.checkpoint(checkpoint_id) for checkpoint_id in ids)
    if len({row.base_model_id for row in rows}) > 1:
        raise Refused(
            "The chosen checkpoints have different bases, where one seed means two images: choose one base."
        )
    return rows


def _prompts(typed: object) -> tuple[str, ...]:
    """One prompt a line, each with its own line breaks again."""
    lines = forms.prompt_lines(typed, "The prompts")
    read = [line.replace(LINE_BREAK, "\n").strip() for line in lines]
    return tuple(dict.fromkeys(prompt for prompt in read if prompt))


def one_line(prompt: str) -> str:
    """Writes a prompt as a line that is read back as the same prompt."""
    return prompt.replace("\n", LINE_BREAK)


def cells(services: Services, plan: Plan) -> list[list[Cell]]:
    """The grid: one list per prompt, one cell per checkpoint; cells that exist already are found, however
    they came."""
    config = plan.config.model_dump()
    wanted = [
        Wanted(prompt, row.id, config, plan.seeds) for prompt in plan.prompts for row in plan.checkpoints
    ]
    found = finding.find_groups(services.db, wanted)
    absent = [one for one, view in zip(wanted, found, strict=True) if view is None]
    failed = finding.find_groups(services.db, absent, states=_FAILED)
    failures = {one: failure_of(view) for one, view in zip(map(_key, absent), failed, strict=True) if view}
    grid = [
        Cell(one.prompt, plan.checkpoints[place % len(plan.checkpoints)], view, failures.get(_key(one), ""))
        for place, (one, view) in enumerate(zip(wanted, found, strict=True))
    ]
    return [grid[at : at + len(plan.checkpoints)] for at in range(0, len(grid), len(plan.checkpoints))]


def _key(one: Wanted) -> tuple[str, str]:
    return one.prompt, one.checkpoint_id


def failure_of(view: GroupView) -> str:
    """The sentence that a group failed with."""
    return shown(view.group.reason or "the engine gave no reason")


def missing(grid: Sequence[Sequence[Cell]]) -> list[Cell]:
    """The cells that have to be generated."""
    return [cell for block in grid for cell in block if cell.is_missing]


def generate_missing(services: Services, plan: Plan, created_by: str = LOCAL_USER) -> int:
    """Queues every missing cell; returns how many. A cell that exists, or is in work, is never made twice."""
    wanted = missing(cells(services, plan))
    quotas.check_images(services.db, created_by, len(wanted) * len(plan.seeds))
    for cell in wanted:
        groups.request_group(
            services.db,
            prompt=cell.prompt,
            checkpoint_id=cell.checkpoint.id,
            config=plan.config.model_dump(),
            seeds=plan.seeds,
            kind="compare",
            created_by=created_by,
        )
    return len(wanted)


def seconds_for(services: Services, plan: Plan, count: int) -> float | None:
    """Seconds that `count` cells take; None when nothing was measured yet."""
    each = services.seconds_per_evaluation()
    passes = 2 if plan.config.guidance_scale > 1 else 1
    return None if each is None else each * count * len(plan.seeds) * plan.config.num_steps * passes


def differences(grid: Sequence[Sequence[Cell]], row: int) -> list[Difference]:
    """Every reward of checkpoint `row` against the first, over the prompts where both are done."""
    pairs = [(block[0].view, block[row].view) for block in grid]
    done = [(a, b) for a, b in pairs if a and b and a.group.state == b.group.state == "done"]
    if not done:
        return []
    return [
        found for name in strip.reward_names(done[0][0]) if (found := _difference(name, done)) is not None
    ]


def _difference(reward: str, pairs: Sequence[tuple[GroupView, GroupView]]) -> Difference | None:
    by_prompt: list[list[tuple[float, float]]] = []
    for first, other in pairs:
        values = [
            (strip.value_of(a, reward), strip.value_of(b, reward))
            for a, b in zip(first.images, other.images, strict=False)
        ]
        if both := [(a, b) for a, b in values if a is not None and b is not None]:
            by_prompt.append(both)
    if not by_prompt:
        return None
    flat = [pair for block in by_prompt for pair in block]
    low, high = interval([statistics.fmean(b - a for a, b in block) for block in by_prompt])
    return Difference(
        reward,
        statistics.fmean(a for a, _ in flat),
        statistics.fmean(b for _, b in flat),
        statistics.fmean(b - a for a, b in flat),
        low,
        high,
        len(by_prompt),
    )


def interval(means: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean over prompts, the evaluation's own: images of one prompt are not independent.

    Fewer than `MIN_PROMPTS` have none: the bounds are infinite.
    """
    if len(means) < MIN_PROMPTS:
        return float("-inf"), float("inf")
    found = mean_of(np.array(means), _drawn(len(means))).figure()
    return found.low, found.high


@cache
def _drawn(num_prompts: int) -> NDArray[np.int64]:
    """The same prompts drawn again for each reward and checkpoint, since a page asks for dozens."""
    return draws(num_prompts)


def trained_on(services: Services, plan: Plan) -> dict[str, str]:
    """Checkpoint id to a sentence about those of the prompts that taught it; absent where all are new."""
    return lineage.trained_on(services.db, [row.id for row in plan.checkpoints], plan.prompts)


def doubt(found: Difference) -> str:
    """The interval, or why there is none."""
    if found.n < MIN_PROMPTS:
        return FEW
    return f"{signed(found.low, 3)} to {signed(found.high, 3)}"


def views(grid: Sequence[Sequence[Cell]]) -> list[GroupView]:
    """The groups of all cells that have one."""
    return [cell.view for block in grid for cell in block if cell.view is not None]


def title(plan: Plan) -> str:
    """ "base against run 3, update 60"."""
    names = [row.name for row in plan.checkpoints]
    return names[0] if len(names) == 1 else f"{names[0]} against {', '.join(names[1:])}"


def news(grid: Sequence[Sequence[Cell]]) -> list[tuple[object, ...]]:
    """What a table of these cells changes with."""
    return [
        (cell.view.group.id, cell.view.group.state, *map(_judged, cell.view.images))
        if cell.view
        else (cell.failure,)
        for block in grid
        for cell in block
    ]


def _judged(image: ImageView) -> tuple[object, ...]:
    return len(image.scores), image.stars
