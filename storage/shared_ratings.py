"""Ratings on their way out: groups with all that was ever said of them, a few at a time, of one moment."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from storage.engine import Database
from storage.models import Checkpoint, Image, ImageGroup, PromptRecord, RatingEvent
from storage.models_studio import Setting
from storage.secrecy import new_secret

KEY = "ratings.export_key"
"""The setting: what turns ids of people into names that say nothing, the same ones in every export."""
HASH_LENGTH = 16
"""Hexadecimal digits that stand for a person."""


@dataclass(frozen=True)
class SharedGroup:
    """A group as it goes out.

    Attributes:
        images: in the order in which they were shown.
        said: every event, in order, those that were taken back among them.
    """

    group: ImageGroup
    model: str
    images: tuple[Image, ...]
    said: tuple[RatingEvent, ...]


def last_number(db: Database) -> int:
    """Of the newest rating event; an export leaves out what comes after it. 0 where there is none."""
    with db.read() as session:
        return session.scalar(select(func.max(RatingEvent.seq))) or 0


def rated_group_ids(db: Database, upto: int) -> list[tuple[str, str]]:
    """(id, prompt hash) of every group of which anything was said up to an event, oldest first."""
    said = select(RatingEvent.group_id).where(RatingEvent.seq <= upto)
    query = select(ImageGroup.id, ImageGroup.prompt_hash).where(ImageGroup.id.in_(said))
    with db.read() as session:
        return [(one, prompt) for one, prompt in session.execute(query.order_by(ImageGroup.seq))]


def shared_groups(db: Database, ids: Sequence[str], upto: int) -> list[SharedGroup]:
    """Some groups, in this order: few enough for one query.

    Args:
        upto: number of the last event that counts as said.
    """
    said: dict[str, list[RatingEvent]] = {one: [] for one in ids}
    images: dict[str, list[Image]] = {one: [] for one in ids}
    with db.read() as session:
        rows = select(ImageGroup, Checkpoint.name).join(Checkpoint, Checkpoint.id == ImageGroup.checkpoint_id)
        found = {
            group.id: (group, name) for group, name in session.execute(rows.where(ImageGroup.id.in_(ids)))
        }
        for image in session.scalars(select(Image).where(Image.group_id.in_(ids)).order_by(Image.index)):
            images[image.group_id].append(image)
        events = select(RatingEvent).where(RatingEvent.group_id.in_(ids), RatingEvent.seq <= upto)
        for event in session.scalars(events.order_by(RatingEvent.seq)):
            said[event.group_id].append(event)
    return [SharedGroup(*found[one], tuple(images[one]), tuple(said[one])) for one in ids if one in found]


def held_out_hashes(db: Database) -> set[str]:
    """Of prompts that any version of any prompt set holds out."""
    query = select(PromptRecord.text_hash).where(PromptRecord.split == "held_out").distinct()
    with db.read() as session:
        return set(session.scalars(query))


def hashing_key(db: Database) -> bytes:
    """The studio's own key, drawn when it is first asked for."""
    with db.write() as session:
        found = session.get(Setting, KEY)
        if found is None:
            found = Setting(key=KEY, value=new_secret(), changed_by="local")
            session.add(found)
        return str(found.value).encode()


def hashed(key: bytes, user_id: str) -> str:
    """What stands for a person: without the key nobody can tell whom."""
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()[:HASH_LENGTH]
