"""The audit log: who did what, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from storage import audit, judged, users
from storage.audit import AuditEntry
from storage.models import Role
from ui.components import render
from ui.language import t
from ui.team.common import Desk, Seen, address, ago

PAGE = 50
_MAX_DETAIL = 160
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KNOWN = (
    "user.add", "user.role", "user.active", "user.exclude", "user.include", "setting", "check.add",
    "check.remove", "user.link", "user.password", "login", "logout", "session.revoke", "token.make",
    "token.revoke",
)  # fmt: skip
"""Acts that have words of their own; others show their verb and what they were done to."""


@dataclass(frozen=True)
class Names:
    """What ids stand for: people by their names, groups by their numbers."""

    people: Mapping[str, str]
    groups: Mapping[str, int]


@dataclass(frozen=True)
class Line:
    """One act in words."""

    at: datetime
    ago: str
    who: str
    words: str
    detail: str


def form(desk: Desk, seen: Seen) -> str:
    """The filters. Who is no admin sees what they did themselves, and nothing of others."""
    people = audit.people(desk.services.db) if desk.is_admin else []
    return render(
        "team_audit_form.html",
        people=people,
        acts=[(act, _verb(act)) for act in audit.acts(desk.services.db)],
        seen=seen,
        is_admin=desk.is_admin,
    )


def body(desk: Desk, seen: Seen) -> str:
    """One page of the log."""
    db, now = desk.services.db, desk.services.now()
    who = seen.who if desk.is_admin else desk.me.id
    found = audit.page(db, who=who, act=seen.act, before=seen.before, limit=PAGE + 1)
    shown = found[:PAGE]
    found_groups = judged.judged_groups(db, {one.target for one in shown if one.act.startswith("check.")})
    numbers = {group_id: one.group.seq for group_id, one in found_groups.items()}
    names = Names({one.id: one.name for one in users.list_users(db)}, numbers)
    older = address("audit", who=seen.who, act=seen.act, before=shown[-1].id) if len(found) > PAGE else ""
    newest = address("audit", who=seen.who, act=seen.act) if seen.before else ""
    lines = [Line(one.at, ago(one.at, now), one.who, _words(one, names), _detail(one)) for one in shown]
    return render(
        "team_audit.html", lines=lines, older=older, newest=newest, is_filtered=bool(seen.who or seen.act)
    )


def _verb(act: str) -> str:
    return t(f"team.verb_{act.replace('.', '_')}") if act in _KNOWN else act.replace(".", " ")


def _words(entry: AuditEntry, names: Names) -> str:
    """What was done, to whom or what."""
    number = names.groups.get(entry.target)
    if number is not None:
        return f"{_verb(entry.act)}: {t('team.group', number=number)}"
    target = str(entry.detail.get("name") or names.people.get(entry.target) or entry.target)
    return f"{_verb(entry.act)}: {target}"


def _detail(entry: AuditEntry) -> str:
    """What else is known of it, shortened; ids mean nothing to people and are left out."""
    said = entry.detail
    if entry.act == "user.role":
        return f"{_role(said.get('before'))} → {_role(said.get('after'))}"
    if entry.act == "user.active":
        return t("team.is_active" if said.get("active") else "team.not_active")
    if entry.act == "check.add":
        return t("team.practice_title" if said.get("practice") else "team.gold_title")
    if entry.act == "user.exclude":
        return str(said.get("why", ""))
    kept = {key: value for key, value in said.items() if key != "name" and not _is_id(value)}
    text = ", ".join(
        _role(value) if key == "role" else _plain(value) if key == "value" else f"{key}: {_plain(value)}"
        for key, value in kept.items()
    )
    return text if len(text) <= _MAX_DETAIL else f"{text[:_MAX_DETAIL]}…"


def _plain(value: object) -> str:
    """A value as people write it: what a setting is made of with its names, and without what is not set."""
    if isinstance(value, dict):
        parts = ((str(key).replace("_", " "), one) for key, one in value.items() if one is not None)
        return ", ".join(f"{name}: {_plain(one)}" for name, one in parts)
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return t("team.yes" if value else "team.no")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _role(role: object) -> str:
    return t(f"team.role_{role}") if role in get_args(Role) else str(role)


def _is_id(value: object) -> bool:
    """Whether it is an id, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(one, str) and _ID.fullmatch(one) for one in values)
