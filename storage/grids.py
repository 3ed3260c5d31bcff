"""Saved comparisons: what was compared, under a number and a name, so that it is found and run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from storage.engine import Database
from storage.lookup import next_number, required
from storage.models import User
from storage.models_studio import SavedGrid
from storage.types import canonical_json

MAX_NAME = 120
"""Characters."""


@dataclass(frozen=True)
class GridLine:
    """A saved grid in a list, with the name of who saved it."""

    grid: SavedGrid
    who: str


def save_grid(db: Database, name: str, spec: Mapping[str, Any], created_by: str) -> SavedGrid:
    """The newest saved grid if it says exactly this under this name, else a new one: none is ever changed.

    Args:
        name: what people call it; blank for one without a name of its own.

    Raises:
        ValueError: a name that is too long, or a spec that JSON has no form for.
        LookupError: unknown user.
    """
    title = " ".join(name.split())
    if len(title) > MAX_NAME:
        raise ValueError(f"the name has {len(title)} characters: shorten it to {MAX_NAME}")
    with db.write() as session:
        required(session, User, created_by, "user")
        for known in session.scalars(select(SavedGrid).order_by(SavedGrid.seq.desc())):
            is_same = canonical_json(known.spec) == canonical_json(dict(spec))
            if is_same and title in ("", known.name):
                return known
        made = SavedGrid(name=title, spec=dict(spec), created_by=created_by)
        made.seq = next_number(session, SavedGrid.seq)
        session.add(made)
        return made


def get_grid(db: Database, grid_id: str) -> SavedGrid:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, SavedGrid, grid_id, "saved grid")


def grid_of(db: Database, spec: Mapping[str, Any]) -> SavedGrid | None:
    """The newest saved grid that says exactly this; None where it was never saved."""
    asked = canonical_json(dict(spec))
    with db.read() as session:
        rows = session.scalars(select(SavedGrid).order_by(SavedGrid.seq.desc()))
        return next((row for row in rows if canonical_json(row.spec) == asked), None)


def list_grids(db: Database, limit: int = 50) -> list[GridLine]:
    """Newest first."""
    query = select(SavedGrid, User.name).join(User, User.id == SavedGrid.created_by)
    with db.read() as session:
        rows = session.execute(query.order_by(SavedGrid.seq.desc()).limit(limit)).all()
    return [GridLine(grid, who) for grid, who in rows]
