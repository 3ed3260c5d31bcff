"""The rule for images: whether those that people download say how they were made."""

from __future__ import annotations

from typing import Any

from storage.image_text import carries_text, set_carries_text
from ui.components import render
from ui.language import t
from ui.team import run_rules
from ui.team.common import Desk, Fields, Seen, check_admin


def form(desk: Desk) -> str:
    """The rule as it stands."""
    checked = carries_text(desk.services.db)
    return render("team_image_rules_form.html", carries_text=checked, is_admin=desk.is_admin)


def with_those_of_runs(desk: Desk, seen: Seen) -> str:
    """All rules of the section."""
    return run_rules.form(desk, seen) + form(desk)


def save(desk: Desk, target: str, fields: Fields) -> str:
    """Keeps it."""
    check_admin(desk, "change what images say")
    says = bool(fields.get("carries_text"))
    set_carries_text(desk.services.db, says, desk.me.id)
    return t("team.image_text_on" if says else "team.image_text_off")


ACTS: dict[str, Any] = {"image_rules": save}
