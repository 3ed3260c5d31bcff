"""The question that an alarm puts to a person: a sentence, pictures to look at, and the answers there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage import checkpoints, groups, runs
from storage.engine import Database
from storage.models import Image, Run
from ui.forms import Refused

PAUSE = "pause"
"""Kind of the event by which a trainer asks."""


@dataclass(frozen=True)
class Question:
    """What an alarm found.

    Attributes:
        update: after which the run paused.
        back_to: the update that it may go back to; None where there is no earlier checkpoint.
        shown: the update of the newer pictures.
        base, now: ids of the groups to compare, prompt by prompt, of the base and of that update.
    """

    sentence: str
    update: int
    back_to: int | None
    shown: int
    base: Sequence[str]
    now: Sequence[str]

    def rows(self, db: Database) -> list[tuple[str, list[tuple[Image, str]]]]:
        """(label, images with their prompts) of the base and of now; empty where nothing was drawn."""
        sides = (("base", self.base), (f"update {self.shown}", self.now))
        return [(label, _images(db, ids)) for label, ids in sides] if self.base and self.now else []


def question_of(db: Database, run: Run) -> Question | None:
    """What a paused run asks; None for one that is not paused, or paused on request or for want of space."""
    if run.state != "paused":
        return None
    asked = [e for e in runs.events(db, run.id) if e.kind == PAUSE and e.attempt == run.attempt]
    if not asked:
        return None
    found: Mapping[str, Any] = asked[-1].payload or {}
    usable = {c.update for c in checkpoints.checkpoints_of_run(db, run.id) if c.state == "committed"}
    back_to = found.get("back_to")
    return Question(
        sentence=asked[-1].detail,
        update=int(found.get("update", 0)),
        back_to=back_to if back_to in usable else None,
        shown=int(found.get("shown", 0)),
        base=found.get("base", ()),
        now=found.get("now", ()),
    )


def go_back(db: Database, target: str) -> None:
    """Resumes a run from an earlier checkpoint.

    Args:
        target: "<run id>/<update>".

    Raises:
        Refused: it is not written so. ValueError, LookupError: the run cannot, and why.
    """
    run_id, _, update = target.partition("/")
    if not update.isdigit():
        raise Refused("Choose the update to go on from.")
    runs.resume_run(db, run_id, from_update=int(update))


def _images(db: Database, ids: Sequence[str]) -> list[tuple[Image, str]]:
    views = [groups.get_group(db, group_id) for group_id in ids]
    return [(one.image, view.group.prompt) for view in views for one in view.images]
