"""What the rules of rating mean for the groups that are open: how many ratings they still want."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from storage.engine import Database
from storage.models import ImageGroup
from storage.models_studio import CheckItem
from storage.offers import OFFERED
from storage.rating_rules import Rules, raters_wanted


@dataclass(frozen=True)
class Workload:
    """How many ratings are still wanted, of how many groups; what people are at counts as given."""

    groups: int
    ratings: int


def workload(db: Database, rules: Rules) -> Workload:
    """What these rules ask for, in force or not. Groups whose answer is known want no rating."""
    known = select(CheckItem.group_id)
    left = raters_wanted(rules) - ImageGroup.attention
    wanted = ImageGroup.state == "done", ImageGroup.kind.in_(OFFERED), ImageGroup.id.not_in(known)
    each = select(left.label("left")).select_from(ImageGroup).where(*wanted, left > 0).subquery()
    with db.read() as session:
        groups, ratings = session.execute(select(func.count(), func.sum(each.c.left)).select_from(each)).one()
    return Workload(groups, ratings or 0)
