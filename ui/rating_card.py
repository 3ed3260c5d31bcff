"""What stands on the rating card: a group to judge, why it is shown, what was chosen before, or nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from sqlalchemy import select

from storage import checks, pairing, ratings
from storage.assignments import RATEABLE
from storage.engine import Database
from storage.groups import GroupView, get_group
from storage.models import RatingEvent
from storage.models_studio import CheckItem
from storage.offers import Waiting
from storage.rating_kinds import is_repeat
from storage.ratings import Progress
from storage.ratings_current import RatingsView, view_of
from storage.types import utc_now
from ui.components import render
from ui.language import t

BATCH = 20
"""Tasks, after which the card says how it went."""
AHEAD = 2
"""Tasks whose images are loaded before they are shown."""
_NOBODY = Waiting(0, None)


@dataclass(frozen=True)
class Card:
    """What a card begins with.

    Attributes:
        view: the group; None when there is nothing to rate.
        said: what was chosen before, empty for a new group.
        notice: a sentence about why this group is shown; mostly empty.
        is_judged: whether the group was rated or skipped before, and that still stands.
        is_practice: whether the group is one to practise on, and nothing said of it is a vote.
        waiting: where there is no group, what other people hold.
    """

    view: GroupView | None
    said: RatingsView = field(default_factory=RatingsView)
    notice: str = ""
    is_judged: bool = False
    is_practice: bool = False
    waiting: Waiting = _NOBODY


def start(db: Database, annotator_id: str, wanted: object) -> Card:
    """What the page opens with: the group in its address, judged already or not, else the next task; for
    somebody who never rated, the groups to practise on come first.

    Raises:
        NotSavedError: the lease could not be written.
    """
    if not isinstance(wanted, str) or not wanted:
        return onwards(db, annotator_id)
    try:
        leased = ratings.lease_group(db, annotator_id, wanted)
        asked = leased or get_group(db, wanted, annotator_id)
    except LookupError:
        return following(db, annotator_id, notice=t("rate.unknown"))
    check = checks.get_check(db, wanted)
    if leased:
        known = check is not None and not check.is_practice
        return Card(leased, notice=t("rate.known") if known else "", is_practice=_practises(check))
    if asked.group.state != "done" or asked.group.kind not in RATEABLE:
        return following(db, annotator_id, notice=t("rate.not_offered", number=asked.group.seq))
    said = ratings.current_ratings(db, wanted, annotator_id)
    why = t("rate.was_skipped") if said.skipped else t("rate.was_rated")
    return Card(asked, said, why, is_judged=True, is_practice=_practises(check))


def onwards(db: Database, annotator_id: str) -> Card:
    """What comes by itself: practice for somebody who never rated here, else the next task."""
    is_new = ratings.progress(db, annotator_id).answered == 0
    return practice(db, annotator_id) if is_new else following(db, annotator_id)


def following(db: Database, annotator_id: str, notice: str = "") -> Card:
    """The next task, or what there is to say where there is none."""
    return shown(db, annotator_id, ratings.next_task(db, annotator_id), notice)


def shown(db: Database, annotator_id: str, view: GroupView | None, notice: str = "") -> Card:
    """The card of a task that was just leased."""
    waiting = _NOBODY if view else ratings.waiting(db, annotator_id)
    return Card(view, notice=notice, waiting=waiting)


def practice(db: Database, annotator_id: str) -> Card:
    """The next group to practise on; the next task where all of them are done."""
    left = checks.to_practise(db, annotator_id)
    if not left:
        return following(db, annotator_id)
    return Card(get_group(db, left[0], annotator_id), is_practice=True)


def undo(db: Database, annotator_id: str, key: str) -> Card | None:
    """Takes back the last answer and opens its group with what was chosen; None when there is none."""
    event = ratings.undo(db, annotator_id, f"{key[:48]}:undo")
    if event is None:
        return None
    with db.read() as session:
        query = select(RatingEvent).where(RatingEvent.act_id == event.act_id, RatingEvent.kind != "undo")
        act = session.scalars(query.order_by(RatingEvent.seq)).all()
    stands = ratings.current_ratings(db, event.group_id, annotator_id)
    was_second = is_repeat(event)  # asked twice, and to be asked again just like the second time
    is_judged = not (
        was_second or stands.skipped or stands.says_nothing()
    )  # by the vote before the one taken back
    is_practice = _practises(checks.get_check(db, event.group_id))
    notice = t("rate.was_rated") if is_judged else ""
    said = RatingsView() if act[-1].kind == "skip" else view_of(act)
    view = get_group(db, event.group_id, annotator_id)
    return Card(view, said, notice, is_judged=is_judged, is_practice=is_practice)


def upcoming(db: Database, annotator_id: str, at: str | None) -> list[str]:
    """Image ids of the groups after the one that is shown, so that the browser can load them ahead."""
    if at is None:
        return []
    return ratings.images_ahead(db, annotator_id, [at], AHEAD)


def card_html(
    card: Card,
    progress: Progress,
    *,
    turn: str,
    heard: int = 0,
    saved: str = "",
    problem: str = "",
    ahead: Sequence[str] = (),
    pair: tuple[str, str] | None = None,
) -> str:
    """Renders the card, or the honest empty state; scores and checkpoint stay hidden while somebody judges.

    Args:
        turn: changes with every card, so that the browser knows a new one from a redrawn one.
        heard: changes with every answer, so that the browser knows of each, two equal refusals too.
        ahead: image ids of the cards after this one, to load them.
        pair: the two images of the mode that compares two.
    """
    view = card.view
    return render(
        "card.html",
        group=view.group if view else None,
        images=[image.image for image in view.images] if view else [],
        card=card,
        turn=turn,
        heard=heard,
        before=json.dumps(chosen_before(card.said)),
        pair=_reopened_pair(card.said) or pair or (),
        ahead=ahead,
        progress=progress,
        total=progress.rated + progress.open,
        left=min(left_in_batch(progress), max(progress.open, 1)),  # a batch ends where nothing is left, too
        minutes=minutes_until(card.waiting),
        saved=saved,
        problem=problem,
    )


def chosen_before(said: RatingsView) -> dict[str, Any]:
    """What was said, in the form in which the card holds what is chosen; empty for nothing."""
    if said.says_nothing() or said.skipped:
        return {}
    flags = {
        image or "": {"flags": given, "note": said.notes.get(image, "")}
        for image, given in said.flags.items()
    }
    outcome = next(iter(said.pairs.values()), None)
    return {
        "mode": mode_of(said), "best": said.best, "worst": said.worst, "none": said.none_good,
        "stars": said.stars, "rank": [] if said.none_good else said.order, "pair": outcome, "flags": flags,
    }  # fmt: skip


def mode_of(said: RatingsView) -> str | None:
    """In which mode it was said; None for flags alone."""
    if said.best or said.none_good:
        return "best"
    if said.pairs:
        return "pair"
    return "rank" if said.order else "stars" if said.stars else None


def left_in_batch(progress: Progress) -> int:
    """Tasks until the card says how it went."""
    return BATCH - progress.answered % BATCH


def minutes_until(waiting: Waiting) -> int:
    """Until the last of what others hold is free again, at least one."""
    if waiting.until is None:
        return 1
    return max(1, ceil((waiting.until - utc_now()).total_seconds() / 60))


def pair_for(db: Database, card: Card, annotator_id: str) -> tuple[str, str] | None:
    """The two images that somebody is asked to compare."""
    if card.view is None:
        return None
    images = [one.image.id for one in card.view.images]
    return pairing.pair_of(db, card.view.group.id, images, annotator_id)


def _reopened_pair(said: RatingsView) -> tuple[str, str] | None:
    return next(iter(said.pairs), None)


def _practises(check: CheckItem | None) -> bool:
    return check is not None and check.is_practice
