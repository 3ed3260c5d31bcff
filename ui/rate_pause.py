"""Between two tasks: how an answer to practise was, and how the last twenty tasks went."""

from __future__ import annotations

from storage import checks, ratings, shared_items
from storage.engine import Database
from storage.groups import get_group
from storage.shared_items import MIN_SHARED, Shared
from ui import rating_card
from ui.components import render, span
from ui.language import t


def batch_html(db: Database, annotator_id: str, *, turn: str, heard: int, saved: str = "") -> str:
    """How long the last batch took, how often others say the same, and what is left."""
    seconds = shared_items.seconds_of_last(db, annotator_id, rating_card.BATCH)
    left = ratings.progress(db, annotator_id).open
    lines = [
        agreement_line(shared_items.with_others(db, annotator_id)),
        t("rate.batch_left", n=left) if left else t("rate.batch_none_left"),
    ]
    title = t("rate.batch_title", n=rating_card.BATCH, time=span(seconds))
    return _html(turn, heard, saved, title=title, lines=lines, go=t("rate.go_on"))


def agreement_line(shared: Shared) -> str:
    """What is said of somebody's agreement with others; nothing of it before it means something."""
    if shared.share is None:
        return t("rate.agree_later", min=MIN_SHARED, n=shared.items)
    return t("rate.agree", share=f"{shared.share:.0%}", n=shared.items)


def practice_html(
    db: Database, annotator_id: str, group_id: str, *, turn: str, heard: int, saved: str = ""
) -> str:
    """Whether the answer to a group to practise on is an accepted one, and why."""
    item = checks.get_check(db, group_id)
    said = checks.said_of_check(db, group_id, annotator_id)
    view = get_group(db, group_id)
    accepted = list(item.accepted) if item else []
    is_answered = checks.has_answer(said)
    verdict = "right" if checks.is_right(said, accepted) else "wrong" if is_answered else "practice_skipped"
    is_over = not checks.to_practise(db, annotator_id)
    return _html(
        turn, heard, saved,
        group=view.group,
        images=[one.image for one in view.images],
        verdict=t(f"rate.{verdict}"),
        why=item.why if item else "",
        accepted=accepted,
        chosen=checks.chosen(said) if is_answered else set(),
        go=t("rate.practice_over" if is_over else "rate.practice_next"),
    )  # fmt: skip


def _html(turn: str, heard: int, saved: str, **values: object) -> str:
    plain: dict[str, object] = {"group": None, "title": "", "lines": []}
    return render("rate_pause.html", turn=turn, heard=heard, saved=saved, **plain | values)
