"""From rows of ratings to votes and rewards as `flowgrpo.preferences` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from flowgrpo.preferences.votes import Kind, Vote
from storage import judged
from storage.engine import Database
from storage.judged import JudgedGroup
from storage.models import RatingEvent, Score
from storage.rating_kinds import is_repeat, said_in


def as_votes(events: Sequence[RatingEvent], groups: Mapping[str, JudgedGroup]) -> list[Vote]:
    """Votes in the order of the events; undone ones and undos must not be among them.

    Args:
        groups: of `storage.judged.judged_groups`, with every group of the events.
    """
    images = {group_id: tuple(image.id for image in found.images) for group_id, found in groups.items()}
    return [
        Vote(
            annotator=event.annotator_id,
            group=event.group_id,
            prompt=groups[event.group_id].group.prompt_hash,
            kind=cast(Kind, event.kind),
            images=images[event.group_id],
            image=event.image_id,
            value=event.value,
            payload=said_in(event.payload),
            lead_ms=event.lead_ms,
            is_repeat=is_repeat(event),
        )
        for event in events
    ]


def votes_of(db: Database, events: Sequence[RatingEvent]) -> list[Vote]:
    """The same, with the groups read from the database."""
    return as_votes(events, judged.judged_groups(db, {event.group_id for event in events}))


def by_reward(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, float]]:
    """Reward name to image id to value; what could not be scored is absent. Of `storage.judged.scores_of`."""
    found: dict[str, dict[str, float]] = {}
    for image_id, of_image in scores.items():
        for reward, score in of_image.items():
            values = found.setdefault(reward, {})
            if score.value is not None:
                values[image_id] = score.value
    return found
