"""What is kept of how many people are at each group, beside what its rows say."""

from __future__ import annotations

from sqlalchemy import select

from storage import offers
from storage.engine import Database
from storage.models import ImageGroup


def counted(db: Database) -> dict[str, tuple[int, int]]:
    """Group id to what is kept of it and what its rows say."""
    with db.read() as session:
        rows = session.execute(select(ImageGroup.id, ImageGroup.attention, offers.attention()))
        return {group: (kept, rows_say) for group, kept, rows_say in rows}
