"""The light table: images beside each other under their labels, and what differs between checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from storage.groups import GroupView
from storage.models import Image
from ui import comparing
from ui.comparing import Cell, Plan
from ui.components import render, strip
from ui.media import thumb_url
from ui.services import Services
from ui.waiting import work_of

PER_PAGE = 60
"""Images on the table at a time; the prompts that are too many for it come on further pages."""
_COLUMNS = 8
"""Images beside each other; the others go below."""


@dataclass(frozen=True)
class Tile:
    """One place on the table.

    Attributes:
        who: what is compared here, as the viewer names it.
        note: what else tells the image from others.
        image: None while it is not there.
        beside: id of the image that it is compared with unless another one is held; empty for none.
        is_open: whether it is queued or being drawn.
        failure: why it could not be drawn; empty when nobody tried or it is there.
    """

    who: str
    note: str
    image: Image | None
    beside: str = ""
    is_open: bool = False
    failure: str = ""

    @property
    def thumb(self) -> str:
        """Where the image is had for the table."""
        return thumb_url(self.image.id) if self.image else ""


@dataclass(frozen=True)
class Strip:
    """Rows of the table that share their columns.

    Attributes:
        title: the prompt of all of it; empty where each column has its own.
        heads: the prompt of each column; none where the columns are seeds.
        rows: a label and its tiles.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Tile]]]

    @property
    def columns(self) -> int:
        """Images beside each other."""
        return min(_COLUMNS, len(self.rows[0][1]))

    @property
    def lines(self) -> int:
        """Lines that a row takes."""
        return -(-len(self.rows[0][1]) // _COLUMNS)

    @property
    def failures(self) -> list[str]:
        """Why tiles could not be drawn, each reason once."""
        return list(dict.fromkeys(tile.failure for _, tiles in self.rows for tile in tiles if tile.failure))


def grid_html(
    services: Services,
    plan: Plan,
    page: int = 0,
    address: str = "",
    *,
    grid: Sequence[Sequence[Cell]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Renders one page of the table and the differences over all prompts.

    Args:
        page: counts from 0; of one that is not there, the nearest.
        address: what the browser's address says of all this (a query).
        grid: the cells, where they are known.
        notes: sentences above the table.
    """
    grid = grid or comparing.cells(services, plan)
    absent = comparing.missing(grid)
    per_page, pages = paging(plan)
    page = max(0, min(page, pages - 1))
    return render(
        "light_table.html",
        title=comparing.title(plan),
        settings=strip.settings_line(plan.config.model_dump()),
        strips=list(strips(plan, grid[page * per_page : (page + 1) * per_page])),
        page=page,
        pages=pages,
        span_of_page=(page * per_page + 1, min((page + 1) * per_page, len(plan.prompts))),
        prompts=len(plan.prompts),
        missing=len(absent),
        seconds=comparing.seconds_for(services, plan, len(absent)),
        work=work_of(services, comparing.views(grid)),
        total=len(plan.prompts) * len(plan.checkpoints),
        tables=[(row, comparing.differences(grid, n)) for n, row in enumerate(plan.checkpoints) if n],
        first=plan.checkpoints[0],
        tuned=[row for row in plan.checkpoints if row.run_id is not None],
        doubt=comparing.doubt,
        trained_on=comparing.trained_on(services, plan),
        address=address,
        notes=notes,
    )


def paging(plan: Plan) -> tuple[int, int]:
    """(prompts on a page, pages)."""
    per_page = max(1, PER_PAGE // (len(plan.checkpoints) * len(plan.seeds)))
    return per_page, -(-len(plan.prompts) // per_page)


def strips(plan: Plan, grid: Sequence[Sequence[Cell]]) -> Iterator[Strip]:
    """A strip for each prompt with seeds from left to right; of one seed, prompts from left to right."""
    if len(plan.seeds) > 1:
        for block in grid:
            rows = [(cell.checkpoint.name, _row(plan, block, n)) for n, cell in enumerate(block)]
            yield Strip(block[0].prompt, (), rows)
        return
    for start in range(0, len(grid), _COLUMNS):
        part = grid[start : start + _COLUMNS]
        rows = [
            (row.name, [tile for block in part for tile in _row(plan, block, n)])
            for n, row in enumerate(plan.checkpoints)
        ]
        yield Strip("", [block[0].prompt for block in part], rows)


def _row(plan: Plan, block: Sequence[Cell], row: int) -> list[Tile]:
    """The tiles of one checkpoint on one prompt, each against the same seed of the first checkpoint (of the
    second one, if this is the first)."""
    cell = block[row]
    other = block[0] if row else block[min(1, len(block) - 1)]
    against = _images(other.view) if other is not cell else {}
    images = _images(cell.view)
    return [
        Tile(
            cell.checkpoint.name,
            f"seed {seed}",
            images.get(place),
            beside=against[place].id if place in against else "",
            is_open=cell.view is not None,
            failure=cell.failure,
        )
        for place, seed in enumerate(plan.seeds)
    ]


def _images(view: GroupView | None) -> dict[int, Image]:
    return {one.image.index: one.image for one in view.images} if view else {}


def beside_each_other(row: Sequence[Tile]) -> list[Tile]:
    """The tiles of a row or a column, each against the one before it (the first one: the one after it)."""
    ids = [tile.image.id if tile.image else "" for tile in row]
    against = [ids[1] if len(ids) > 1 else "", *ids[:-1]]
    return [replace(tile, beside=other) for tile, other in zip(row, against, strict=True)]
