"""Which of many wanted images are there already, however they came: a few queries for a whole page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select

from storage import groups
from storage.engine import Database
from storage.groups import REUSABLE, WANTED, GroupView
from storage.lookup import prompt_hash
from storage.models import GroupState, Image, ImageGroup
from storage.types import canonical_json

_PER_QUERY = 500
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """Images that may be there: everything that decides how they look.

    Attributes:
        config: a SamplingConfig's dump.
    """

    prompt: str
    checkpoint_id: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]

    @property
    def cast(self) -> tuple[str, str, str]:
        """All but the seeds."""
        return self.checkpoint_id, self.prompt, canonical_json(dict(self.config))


@dataclass(frozen=True)
class Found:
    """One wanted image: its group, and the image itself once it is drawn."""

    view: GroupView
    image: Image | None


def find_groups(
    db: Database, wanted: Sequence[Wanted], states: Collection[GroupState] = WANTED
) -> list[GroupView | None]:
    """For each, the newest group of exactly these seeds in one of `states`; None where there is none."""
    known = _candidates(db, wanted, states)
    chosen = [
        next((group for group in known.get(one.cast, ()) if tuple(group.seeds) == one.seeds), None)
        for one in wanted
    ]
    shown = _views(db, chosen)
    return [shown[group.id] if group else None for group in chosen]


def find_images(
    db: Database, wanted: Sequence[Wanted], states: Collection[GroupState] = WANTED
) -> list[Found | None]:
    """For each (of one seed), the newest group in one of `states` that has the seed among others."""
    known = _candidates(db, wanted, states)
    chosen = [
        next((group for group in known.get(one.cast, ()) if one.seeds[0] in group.seeds), None)
        for one in wanted
    ]
    shown = _views(db, chosen)
    return [
        _found(shown[group.id], one.seeds[0]) if group else None
        for group, one in zip(chosen, wanted, strict=True)
    ]


def _found(view: GroupView, seed: int) -> Found:
    index = view.group.seeds.index(seed)
    return Found(view, next((one.image for one in view.images if one.image.index == index), None))


def _candidates(
    db: Database, wanted: Sequence[Wanted], states: Collection[GroupState]
) -> dict[tuple[str, str, str], list[ImageGroup]]:
    """Groups of the wanted prompts and checkpoints by all but their seeds, newest first."""
    found: dict[tuple[str, str, str], list[ImageGroup]] = {}
    hashes = {prompt_hash(one.prompt) for one in wanted}
    for part in _parts(sorted(hashes)):
        query = select(ImageGroup).where(
            ImageGroup.prompt_hash.in_(part),
            ImageGroup.checkpoint_id.in_({one.checkpoint_id for one in wanted}),
            ImageGroup.kind.in_(REUSABLE),
            ImageGroup.state.in_(states),
        )
        with db.read() as session:
            for group in session.scalars(query.order_by(ImageGroup.seq.desc())):
                cast = group.checkpoint_id, group.prompt, canonical_json(group.config)
                found.setdefault(cast, []).append(group)
    return found


def _views(db: Database, chosen: Sequence[ImageGroup | None]) -> dict[str, GroupView]:
    rows = list({group.id: group for group in chosen if group}.values())
    with db.read() as session:
        return {view.group.id: view for part in _parts(rows) for view in groups.views(session, part)}


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _PER_QUERY] for start in range(0, len(items), _PER_QUERY))
