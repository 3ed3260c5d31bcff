"""Rules for all runs: when one counts as stalled, and which of its checkpoints are kept."""

from __future__ import annotations

from typing import Any

from storage.run_rules import RunRules, run_rules, set_run_rules
from ui.components import render
from ui.forms import Refused
from ui.language import t
from ui.team.common import Desk, Fields, Seen, check_admin

_WHOLE = {
    "keep_all_up_to": "The checkpoints that a run may have before any are removed",
    "keep_last": "The last checkpoints that are kept",
    "keep_every": "The distance of the earlier checkpoints that are kept",
}


def form(desk: Desk, seen: Seen) -> str:
    """The rules as they stand."""
    return render("team_run_rules_form.html", rules=run_rules(desk.services.db), is_admin=desk.is_admin)


def save(desk: Desk, target: str, fields: Fields) -> str:
    """Keeps what was changed; all of it, or nothing where something cannot hold."""
    check_admin(desk, "change the rules of runs")
    whole = {name: int(_number(fields, name, label)) for name, label in _WHOLE.items()}
    minutes = _number(fields, "stall_minutes", "The minutes without progress")
    rules = RunRules(stall_minutes=minutes, end_stalled=bool(fields.get("end_stalled")), **whole)
    set_run_rules(desk.services.db, rules, desk.me.id)
    return t("team.run_rules_saved")


def _number(fields: Fields, name: str, label: str) -> float:
    typed = str(fields.get(name, "")).strip().replace(",", ".")
    try:
        value = float(typed)
    except ValueError as error:
        raise Refused(f"{label}: expected a number, got {typed or 'nothing'}.") from error
    if name in _WHOLE and value != int(value):
        raise Refused(f"{label}: expected a whole number, got {typed}.")
    return value


ACTS: dict[str, Any] = {"run_rules": save}
