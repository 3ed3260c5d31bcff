"""Agreement: how often people say the same, all together and every two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage import judged
from ui.components import render
from ui.language import t
from ui.team import counting
from ui.team.common import Desk, Seen, share, spot

MIN_SHARED = 30
"""As in flowgrpo.preferences.agreement: groups below which alpha is not shown."""
CLEAR = 20
"""Items below which a share stands in grey."""
_PAIRS = 60
"""Pairs of people in the table; of more, those who share most."""


@dataclass(frozen=True)
class Line:
    """One kind of vote."""

    name: str
    words: str
    alpha: str
    value: Sequence[float | None]
    is_few: bool


@dataclass(frozen=True)
class Two:
    """Two people."""

    one: str
    other: str
    words: str
    items: int
    value: Sequence[float | None]
    is_few: bool


def body(desk: Desk, seen: Seen) -> str:
    """The last count, in sentences and a table."""
    count = counting.read(desk)
    found = count.result or {}
    return render(
        "team_agreement.html",
        count=count,
        lines=[_line(one) for one in found.get("agreements", ()) if one["same"]],
        silent=[t(f"team.kind_{one['kind']}") for one in found.get("agreements", ()) if not one["same"]],
        people=_people(desk, found),
        is_admin=desk.is_admin,
        spot=spot,
    )


def _line(one: Mapping[str, Any]) -> Line:
    words = t("team.same_said", share=share(one["same"]), items=one["num_shared"], groups=one["num_groups"])
    return Line(
        t(f"team.kind_{one['kind']}"), words, _alpha(one), one["same"], one["num_groups"] < MIN_SHARED
    )


def _alpha(one: Mapping[str, Any]) -> str:
    """Krippendorff's alpha with its interval, or how many shared groups it lacks."""
    if one["alpha"]:
        value, low, high = (0.0 if end is None else float(end) for end in one["alpha"])
        return t("team.alpha", value=f"{value:.2f}", low=f"{low:.2f}", high=f"{high:.2f}")
    if one["num_groups"] < MIN_SHARED:
        return t("team.alpha_later", missing=MIN_SHARED - one["num_groups"], needed=MIN_SHARED)
    return t("team.alpha_never")


def _people(desk: Desk, found: Mapping[str, Any]) -> list[Two]:
    """Every two who share something; who is no admin sees only their own."""
    known = [
        two for two in found.get("people", ()) if desk.is_admin or desk.me.id in (two["one"], two["other"])
    ][:_PAIRS]
    names = judged.names_of(desk.services.db, {two[side] for two in known for side in ("one", "other")})
    return [
        Two(
            names.get(two["one"], ""),
            names.get(two["other"], ""),
            share(two["same"]),
            two["num_shared"],
            two["same"],
            two["num_shared"] < CLEAR,
        )
        for two in known
    ]
