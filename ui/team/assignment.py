"""Assignment: how many people judge a group, how often they are checked, and who is at what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage import activity, conduct, rating_rules, ratings, users
from storage.activity import Activity
from storage.models import User
from storage.rating_rules import MODES, Rules
from storage.workload import workload
from ui.components import render, span
from ui.forms import Refused
from ui.language import t
from ui.services import shown
from ui.team import checking
from ui.team.common import Desk, Fields, Seen, check_admin

_KEYS = {
    "share": rating_rules.OVERLAP,
    "gold_share": rating_rules.GOLD_SHARE,
    "repeat_share": rating_rules.REPEAT_SHARE,
    "modes": rating_rules.OFFERED_MODES,
    "guidelines": rating_rules.GUIDELINES,
}
_LABELS = {
    "share": "The share of groups that several people rate",
    "raters": "People for such a group",
    "gold_share": "The share of groups with a known answer",
    "repeat_share": "The share of groups that come again",
}


@dataclass(frozen=True)
class Row:
    """How far one person is."""

    user: User
    open: int
    did: Activity


def form(desk: Desk, seen: Seen) -> str:
    """The rules as they stand, or the group that is made a check item."""
    if desk.is_admin and seen.group:
        return checking.form(desk, seen.group)
    rules = rating_rules.get_rules(desk.services.db)
    return render(
        "team_assignment_form.html",
        rules=rules,
        modes=MODES,
        is_admin=desk.is_admin,
        percent=_percent,
        max_raters=rating_rules.MAX_RATERS,
        max_guidelines=rating_rules.MAX_GUIDELINES,
    )


def body(desk: Desk, seen: Seen) -> str:
    """What the rules mean, who is at what, and the groups with a known answer."""
    db = desk.services.db
    rules, trouble = rating_rules.get_rules(db), ""
    if seen.typed:
        try:
            rules = rules_of(seen.typed)
        except (Refused, ValueError) as error:
            trouble = shown(error)
    did = activity.activity(db, desk.services.now())
    rows = [
        Row(one, ratings.progress(db, one.id).open, did.get(one.id, Activity()))
        for one in users.list_users(db, active_only=True)
    ]
    return render(
        "team_assignment.html",
        preview=trouble or preview(desk, rules),
        is_typed=bool(seen.typed) and not trouble,
        rows=rows,
        **checking.values(desk),
    )


def preview(desk: Desk, rules: Rules) -> str:
    """ "412 groups are open: about 536 ratings, 2 h 10 min at your pace." """
    db = desk.services.db
    left, each = workload(db, rules), conduct.pace(db, desk.me.id)
    if not left.groups:
        return t("team.nothing_open")
    asked = round(left.ratings / max(0.25, 1 - rules.gold_share - rules.repeat_share))
    said = t("team.preview", groups=left.groups, ratings=asked)
    return f"{said} {t('team.at_your_pace', span=span(each * asked)) if each else t('team.no_pace')}"


def save(desk: Desk, target: str, fields: Fields) -> str:
    """Keeps what was changed; all of it, or nothing where something cannot hold."""
    check_admin(desk, "change how rating is done")
    db, wanted = desk.services.db, rules_of(fields)
    before, after = (_kept(rules) for rules in (rating_rules.get_rules(db), wanted))
    for key, value in after.items():
        if before[key] != value:
            rating_rules.put_rule(db, key, value, desk.me.id)
    return t("team.saved")


def rules_of(fields: Mapping[str, Any]) -> Rules:
    """What a form asks for. Raises `Refused` or ValueError with a sentence."""
    rules = Rules(
        share=_share(fields, "share"),
        raters=int(_number(fields, "raters", 1, rating_rules.MAX_RATERS)),
        gold_share=_share(fields, "gold_share", 50),
        repeat_share=_share(fields, "repeat_share", 50),
        modes=tuple(mode for mode in MODES if mode in str(fields.get("modes", "")).split()),
        guidelines=str(fields.get("guidelines", "")).replace("\r\n", "\n"),
    )
    if not rules.modes:
        raise Refused("No way to rate is chosen: choose at least one.")
    for key, value in _kept(rules).items():
        rating_rules.checked(key, value)
    return rules


def _kept(rules: Rules) -> dict[str, Any]:
    """Each key with its value."""
    values = {
        "share": {"share": rules.share, "raters": rules.raters},
        "gold_share": rules.gold_share,
        "repeat_share": rules.repeat_share,
        "modes": list(rules.modes),
        "guidelines": rules.guidelines.strip(),
    }
    return {_KEYS[name]: value for name, value in values.items()}


def _share(fields: Mapping[str, Any], name: str, most: int = 100) -> float:
    return round(_number(fields, name, 0, most) / 100, 4)


def _number(fields: Mapping[str, Any], name: str, least: int, most: int) -> float:
    typed = str(fields.get(name, "")).strip().rstrip("%").replace(",", ".")
    try:
        value = float(typed)
    except ValueError as error:
        raise Refused(f"{_LABELS[name]} is no number: write {least} to {most}.") from error
    if not least <= value <= most or (name == "raters" and value != int(value)):
        raise Refused(f"{_LABELS[name]}: write {least} to {most}, not {typed}.")
    return value


def _percent(share: float) -> str:
    """A share as it stands in the form."""
    return f"{100 * share:g}"


ACTS: dict[str, Any] = {"save": save}
