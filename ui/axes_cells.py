"""The images of an X/Y grid: which are there, which are missing, how long they take, and asking for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flowgrpo.config import MAX_GROUP_SIZE
from storage import finding, grids, groups, quotas
from storage.finding import Found, Wanted
from storage.groups import GroupView
from storage.models import GroupState
from storage.models_studio import SavedGrid
from ui.axes import AxesPlan, name_of
from ui.comparing import failure_of
from ui.services import LOCAL_USER, Services
from ui.waiting import OPEN

_FAILED: tuple[GroupState, ...] = ("failed",)


@dataclass(frozen=True)
class AxisCell:
    """One wanted image.

    Attributes:
        found: its group, with the image once it is drawn; None while nobody asked for it, or after it could
            not be drawn.
        failure: why it could not; empty where nobody tried.
    """

    wanted: Wanted
    found: Found | None
    failure: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it is queued or being drawn."""
        return self.found is not None and self.found.image is None and self.found.view.group.state in OPEN


def cells(services: Services, plan: AxesPlan) -> list[AxisCell]:
    """Every cell, row by row; images that are there already are found, in whatever group they came."""
    found = finding.find_images(services.db, plan.flat)
    absent = [one for one, there in zip(plan.flat, found, strict=True) if there is None]
    failed = iter(finding.find_images(services.db, absent, states=_FAILED))
    return [
        AxisCell(one, there) if there else AxisCell(one, None, _reason(next(failed)))
        for one, there in zip(plan.flat, found, strict=True)
    ]


def _reason(found: Found | None) -> str:
    return failure_of(found.view) if found else ""


def missing(known: Iterable[AxisCell]) -> list[Wanted]:
    """What has to be drawn."""
    return [cell.wanted for cell in known if cell.found is None]


def views(known: Iterable[AxisCell]) -> list[GroupView]:
    """The groups of all cells that have one."""
    return [cell.found.view for cell in known if cell.found]


def news(known: Iterable[AxisCell]) -> list[tuple[object, ...]]:
    """What a table of these cells changes with."""
    return [
        (cell.found.view.group.state, cell.found.image and cell.found.image.id)
        if cell.found
        else (cell.failure,)
        for cell in known
    ]


def seconds_for(services: Services, wanted: Sequence[Wanted]) -> float | None:
    """Seconds that these images take; None when nothing was measured yet."""
    each = services.seconds_per_evaluation()
    return None if each is None else each * sum(map(_evaluations, wanted))


def _evaluations(wanted: Wanted) -> int:
    passes = 2 if float(wanted.config["guidance_scale"]) > 1 else 1
    return int(wanted.config["num_steps"]) * passes * len(wanted.seeds)


def save(services: Services, plan: AxesPlan, name: object, person_id: str = LOCAL_USER) -> SavedGrid:
    """Keeps the grid under a number; the same grid under the same name is kept once."""
    known = grids.grid_of(services.db, plan.spec.dump())
    title = str(name or "").strip() or (known.name if known else name_of(plan.spec))
    return grids.save_grid(services.db, title, plan.spec.dump(), person_id)


def generate(
    services: Services, plan: AxesPlan, person_id: str = LOCAL_USER, *, is_again: bool = False
) -> int:
    """Queues what is missing, row by row; returns how many images.

    Cells that only differ by their seed make one group, all others a group of their own, so that nothing of
    one cell can reach another.

    Args:
        is_again: draw the images that are there once more as well; those still in work are left to it.
    """
    known = cells(services, plan)
    wanted = [cell.wanted for cell in known if not cell.is_open] if is_again else missing(known)
    quotas.check_images(services.db, person_id, sum(len(one.seeds) for one in wanted))
    casts: dict[tuple[str, str, str], list[Wanted]] = {}
    for one in wanted:
        casts.setdefault(one.cast, []).append(one)
    for alike in casts.values():
        seeds = [seed for one in alike for seed in one.seeds]
        for start in range(0, len(seeds), MAX_GROUP_SIZE):
            groups.request_group(
                services.db,
                prompt=alike[0].prompt,
                checkpoint_id=alike[0].checkpoint_id,
                config=dict(alike[0].config),
                seeds=seeds[start : start + MAX_GROUP_SIZE],
                kind="compare",
                created_by=person_id,
            )
    return len(wanted)
