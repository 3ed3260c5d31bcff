"""People: who is here, what they may do, and whose votes count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from storage import accounts, activity, exclusion, login_links, snapshots, users
from storage.activity import Activity
from storage.exclusion import Exclusion
from storage.models import Role, User
from storage.models_judging import FitKind
from ui.components import render
from ui.language import t
from ui.opening import link_url
from ui.team.common import Desk, Fields, Seen, Told, address, ago, check_admin

ROLES: Sequence[Role] = get_args(Role)
_CHANGE = "change people"


@dataclass(frozen=True)
class Row:
    """One person of the list."""

    user: User
    did: Activity
    seen: str
    exclusion: Exclusion | None


def form(desk: Desk, seen: Seen) -> str:
    """What an admin may fill in: a new person, or what becomes of the one who is chosen."""
    chosen = _chosen(desk, seen.person)
    return render(
        "team_people_form.html",
        is_admin=desk.is_admin,
        me=desk.me,
        roles=ROLES,
        chosen=chosen,
        exclusion=exclusion.exclusions(desk.services.db).get(chosen.id) if chosen else None,
        has_password=chosen is not None and chosen.password_hash is not None,
        max_name=users.MAX_NAME,
        max_why=exclusion.MAX_WHY,
    )


def body(desk: Desk, seen: Seen) -> str:
    """The list, and what each role may do."""
    db, now = desk.services.db, desk.services.now()
    did, out = activity.activity(db, now), exclusion.exclusions(db)
    rows = [
        Row(one, found := did.get(one.id, Activity()), ago(found.last_seen, now), out.get(one.id))
        for one in users.list_users(db)
    ]
    rows.sort(key=lambda row: not row.user.active)
    return render(
        "team_people.html",
        rows=rows,
        me=desk.me,
        roles=ROLES,
        is_admin=desk.is_admin,
        address=address,
        has_accounts=accounts.are_in_force(db),
    )


def add(desk: Desk, target: str, fields: Fields) -> str:
    """A new person."""
    check_admin(desk, _CHANGE)
    made = users.add_user(
        desk.services.db, str(fields.get("name", "")), cast(Role, fields.get("role")), desk.me.id
    )
    return t("team.added", name=made.name, role=_role(made))


def change(desk: Desk, target: str, fields: Fields) -> str:
    """Another role."""
    check_admin(desk, _CHANGE)
    user = users.set_role(desk.services.db, target, cast(Role, fields.get("role")), desk.me.id)
    return t("team.changed", name=user.name, role=_role(user))


def leave(desk: Desk, target: str, fields: Fields) -> str:
    """Keeps somebody out; what they said stays."""
    check_admin(desk, _CHANGE)
    return t("team.left", name=users.set_active(desk.services.db, target, False, desk.me.id).name)


def enter(desk: Desk, target: str, fields: Fields) -> str:
    """Lets somebody in again."""
    check_admin(desk, _CHANGE)
    return t("team.entered", name=users.set_active(desk.services.db, target, True, desk.me.id).name)


def link(desk: Desk, target: str, fields: Fields) -> Told:
    """An address at which they set their password, once."""
    check_admin(desk, _CHANGE)
    secret = login_links.make_link(desk.services.db, target, desk.me.id)
    name = users.get_user(desk.services.db, target).name
    return Told.once(t("team.link_made", name=name), link_url("", secret))


def exclude(desk: Desk, target: str, fields: Fields) -> str:
    """From now on their votes count no more, and they are told."""
    check_admin(desk, "say whose votes count")
    exclusion.exclude(desk.services.db, target, str(fields.get("why", "")), desk.me.id)
    said = t("team.excluded", name=users.get_user(desk.services.db, target).name)
    return f"{said} {t('team.learned_before')}" if taught(desk, target) else said


def include(desk: Desk, target: str, fields: Fields) -> str:
    """Their votes count again."""
    check_admin(desk, "say whose votes count")
    exclusion.include(desk.services.db, target, desk.me.id)
    return t("team.included", name=users.get_user(desk.services.db, target).name)


def taught(desk: Desk, user_id: str) -> bool:
    """Whether weights or a head that are in use learned from this person."""
    db = desk.services.db
    kinds: Sequence[FitKind] = get_args(FitKind)
    in_use = [fit for kind in kinds if (fit := snapshots.applied_fit(db, kind))]
    return any(
        vote.annotator_id == user_id for fit in in_use for vote in snapshots.votes_of(db, fit.snapshot_id)
    )


def _role(user: User) -> str:
    return t(f"team.role_{user.role}")


def _chosen(desk: Desk, user_id: str) -> User | None:
    """Whom the address names; nobody for a viewer, or where there is nobody of this id."""
    if not user_id or not desk.is_admin:
        return None
    try:
        return users.get_user(desk.services.db, user_id)
    except LookupError:
        return None


ACTS: dict[str, Any] = {
    "add": add,
    "role": change,
    "leave": leave,
    "enter": enter,
    "link": link,
    "exclude": exclude,
    "include": include,
}
