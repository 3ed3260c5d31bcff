"""The table of an X/Y grid and the list of saved ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from storage import grids
from storage.grids import GridLine
from storage.models_studio import SavedGrid
from ui import axes_cells
from ui.axes import AxesPlan, name_of
from ui.axes_cells import AxisCell
from ui.components import render
from ui.components.light_table import Tile, beside_each_other
from ui.language import t
from ui.services import Services
from ui.waiting import work_of

_ALIKE = ("prompt", "seed")
"""Axes along which images differ in everything; to compare them says little."""


def axes_html(
    services: Services,
    plan: AxesPlan,
    known: Sequence[AxisCell],
    *,
    saved: SavedGrid | None = None,
    origin: SavedGrid | None = None,
    address: str = "",
) -> str:
    """Renders a grid.

    Args:
        known: its cells, row by row.
        saved: the row that says exactly this; None where it is not saved.
        origin: the saved grid that was opened before something was changed.
        address: what the browser's address says of all this (a query).
    """
    absent = axes_cells.missing(known)
    return render(
        "axes.html",
        title=title_of(saved) if saved else name_of(plan.spec),
        state=_state(len(known), _there(known), saved, origin),
        plan=plan,
        rows=list(zip(plan.rows, tiles_of(plan, known), strict=True)),
        caption=_caption(plan),
        failures=list(dict.fromkeys(cell.failure for cell in known if cell.failure)),
        missing=len(absent),
        seconds=axes_cells.seconds_for(services, absent),
        again_seconds=axes_cells.seconds_for(services, plan.flat),
        work=work_of(services, axes_cells.views(known)),
        to_come=sum(cell.is_open for cell in known),
        total=len(known),
        saved=saved,
        changed=origin is not None,
        address=address,
    )


def title_of(saved: SavedGrid) -> str:
    """ "Grid 3 · Steps × guidance"."""
    return t("axes.saved_title", seq=saved.seq, name=saved.name)


def saved_html(services: Services, here: str) -> str:
    """Renders the list of saved grids; `here` is the id of the one that is shown."""
    lines = [(line, title_of(line.grid), _count(line)) for line in grids.list_grids(services.db)]
    return render("saved_grids.html", lines=lines, here=here)


def _count(line: GridLine) -> int:
    sides = [line.grid.spec.get(side) for side in ("x", "y")]
    return prod(len(side["values"]) for side in sides if side)


def _there(known: Sequence[AxisCell]) -> int:
    return sum(cell.found is not None and cell.found.image is not None for cell in known)


def _state(total: int, there: int, saved: SavedGrid | None, origin: SavedGrid | None) -> str:
    count = t("axes.state_all", n=total) if there == total else t("axes.state_some", there=there, n=total)
    if saved:
        return count
    return f"{count} · {t('axes.state_changed', seq=origin.seq) if origin else t('axes.state_new')}"


def _caption(plan: AxesPlan) -> str:
    x = t(f"axes.{plan.spec.x.key}")
    if plan.spec.y is None:
        return t("axes.caption_row", x=x)
    return t("axes.caption", x=x, y=t(f"axes.{plan.spec.y.key}").lower())


def tiles_of(plan: AxesPlan, known: Sequence[AxisCell]) -> list[list[Tile]]:
    """The tiles, row by row. Each is compared with its neighbour in the row; where the row only tells prompts
    or seeds apart and the column more than that, with its neighbour in the column."""
    wide = len(plan.columns)
    rows = [
        [_tile(plan, column, name, known[place * wide + at]) for at, column in enumerate(plan.columns)]
        for place, name in enumerate(plan.rows)
    ]
    is_column = plan.spec.y is not None and plan.spec.x.key in _ALIKE and plan.spec.y.key not in _ALIKE
    if not is_column:
        return [beside_each_other(row) for row in rows]
    columns = [beside_each_other(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _tile(plan: AxesPlan, column: str, row: str, cell: AxisCell) -> Tile:
    return Tile(
        " · ".join(filter(None, (column, row))),
        plan.fixed,
        cell.found.image if cell.found else None,
        is_open=cell.is_open,
        failure=cell.failure,
    )
