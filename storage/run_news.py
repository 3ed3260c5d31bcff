"""What is new of a run, in a few numbers: a page that has drawn it looks here before it draws it again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from storage.engine import Database
from storage.models import Checkpoint, Image, ImageGroup, Metric, Run, RunEvent
from storage.models_studio import Export


@dataclass(frozen=True)
class News:
    """Another one whenever a point, an image, an event, a checkpoint or an export has come.

    Attributes:
        points: how many points its curves have.
        last_update: of the newest of them; -1 before the first.
        attempt: a later one may write points anew.
    """

    attempt: int
    points: int
    last_update: int
    images: int
    events: int
    checkpoints: int
    exports: int


def news_of(db: Database, run_id: str) -> News:
    """Of a run; all zero where there is none with this id."""
    made = select(Checkpoint.id).where(Checkpoint.run_id == run_id)
    drawn = select(func.count(Image.id)).join(ImageGroup, ImageGroup.id == Image.group_id)
    with db.read() as session:
        points, last = session.execute(
            select(func.count(), func.max(Metric.update)).where(Metric.run_id == run_id)
        ).one()
        count = session.scalar
        return News(
            attempt=count(select(Run.attempt).where(Run.id == run_id)) or 0,
            points=points,
            last_update=-1 if last is None else last,
            images=count(drawn.where(ImageGroup.run_id == run_id)) or 0,
            events=count(select(func.count()).where(RunEvent.run_id == run_id)) or 0,
            checkpoints=count(select(func.count()).where(Checkpoint.run_id == run_id)) or 0,
            exports=count(select(func.count()).where(Export.checkpoint_id.in_(made))) or 0,
        )
