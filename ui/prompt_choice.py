"""Saved prompt sets as something to train on: which there are, what they hold, and whether a form still says
what the chosen one does."""

from __future__ import annotations

from storage import prompts
from storage.engine import Database
from ui.forms import RunForm
from ui.language import t

TYPED = ""
"""The choice of what is typed into the form."""


def choices(db: Database) -> list[tuple[str, str]]:
    """(what it is called, id): what is typed, then the newest version of each set."""
    named = [
        (
            t(
                "train.set_words",
                name=one.name,
                version=one.version,
                train=len(prompts.prompts_of(db, one.id, "train")),
                held_out=len(prompts.prompts_of(db, one.id, "held_out")),
            ),
            one.id,
        )
        for one in prompts.list_prompt_sets(db)
    ]
    return [(t("train.typed"), TYPED), *named]


def lines_of(db: Database, set_id: str) -> tuple[str, str]:
    """(training prompts, held-out prompts), one a line; raises LookupError for no such set."""
    train, held_out = (
        "\n".join(row.text for row in prompts.prompts_of(db, set_id, split))
        for split in ("train", "held_out")
    )
    return train, held_out


def chosen(db: Database, set_id: object, form: RunForm) -> str | None:
    """The set whose prompts the form holds, word for word; None for none, or for one changed since."""
    if not isinstance(set_id, str) or not set_id:
        return None
    try:
        held = lines_of(db, set_id)
    except LookupError:
        return None
    return set_id if held == (str(form.prompts), str(form.held_out)) else None
