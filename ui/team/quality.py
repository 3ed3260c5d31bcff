"""Quality: what there is to see of each who judges, and how sure it is. What follows, a person decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowgrpo.preferences.intervals import wilson
from storage import checks, conduct, exclusion, users
from storage.checks import Passes
from storage.models import User
from ui.components import render, span
from ui.language import t
from ui.team import counting
from ui.team.common import Desk, Seen, address, share, spot

CLEAR = 20
"""Answers below which a figure stands in grey."""
_P_CLEAR = 0.01
"""Chance of places as uneven as these below which they are said to sway."""
Value = Sequence[float | None]


@dataclass(frozen=True)
class Figure:
    """A share with its interval, of n; empty where there is nothing to take it of."""

    words: str = ""
    of: int = 0
    value: Value = (None, None, None)

    @property
    def is_few(self) -> bool:
        return self.of < CLEAR


@dataclass(frozen=True)
class Row:
    """One person."""

    user: User
    votes: int
    gold: Figure
    twice: Figure
    others: Figure
    left: Figure
    time: str
    why: str


def body(desk: Desk, seen: Seen) -> str:
    """A row for each who judged something; who is no admin sees their own."""
    db, count = desk.services.db, counting.read(desk)
    counted = {one["annotator"]: one for one in (count.result or {}).get("annotators", ())}
    gold, twice, sides = checks.passes(db), checks.repeat_consistency(db), conduct.sides(db)
    out = exclusion.exclusions(db)
    rows = [
        Row(
            one,
            (about := counted.get(one.id, {})).get("num_votes", 0),
            _share_of(gold.get(one.id)),
            _share_of(twice.get(one.id)),
            _with_others(about),
            _share_of(sides.get(one.id)),
            _time(about),
            out[one.id].why if one.id in out else "",
        )
        for one in users.list_users(db)
        if (desk.is_admin or one.id == desk.me.id) and _is_known(one.id, counted, gold, twice, sides)
    ]
    return render(
        "team_quality.html",
        count=count,
        rows=rows,
        sentences=[*_places(count.result or {}), _themselves(twice)],
        is_admin=desk.is_admin,
        address=address,
        spot=spot,
        clear=CLEAR,
    )


def _is_known(user_id: str, *tables: Mapping[str, Any]) -> bool:
    return any(user_id in table for table in tables)


def _share_of(counts: tuple[int, int] | None) -> Figure:
    """Of (hits, trials)."""
    if counts is None or not counts[1]:
        return Figure()
    value = wilson(*counts)
    return Figure(share(value), counts[1], value)


def _with_others(about: Mapping[str, Any]) -> Figure:
    """How often the others lean the same way; of groups that others judged too."""
    value = about.get("consensus")
    return Figure(share(value), int(about.get("num_shared", 0)), value) if value else Figure()


def _time(about: Mapping[str, Any]) -> str:
    lead = about.get("median_lead_ms")
    return "" if lead is None else span(lead / 1000)


def _places(result: Mapping[str, Any]) -> list[str]:
    """A sentence for each size of group: whether the place of an image sways people."""
    said = []
    for one in result.get("positions", ()):
        n = sum(one["counts"])
        about = {"share": share(one["first"]), "times": n, "expected": f"{one['expected']:.1%}"}
        key = "team.left_first" if one["kind"] == "pair" else "team.place_first"
        if n < CLEAR:
            verdict = t("team.too_few")
        else:
            verdict = t("team.sways" if (one["p_value"] or 1.0) < _P_CLEAR else "team.does_not_sway")
        said.append(f"{t(key, places=one['places'], **about)} {verdict}")
    return said


def _themselves(twice: Mapping[str, Passes]) -> str:
    """How often people say the same when they are asked again."""
    same, asked = (sum(counts) for counts in zip(*twice.values(), strict=True)) if twice else (0, 0)
    if not asked:
        return t("team.nobody_twice")
    return t("team.twice", same=same, asked=asked, share=share(wilson(same, asked)))
