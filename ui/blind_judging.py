"""One blind pair at a time: the card of the judging page, and what an answer on it does.

Until the reveal nothing here names a checkpoint or an image: pictures come by pair and side.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast

from storage import accounts, blind, users
from storage.blind import Answer
from storage.models import User
from storage.models_judging import BlindTest
from ui import blind_results, blind_tests
from ui.components import render
from ui.forms import Refused
from ui.language import t
from ui.media import pair_url
from ui.rating import read_lead
from ui.services import SHOWN_ERRORS, Services, shown

_LEAST, _MOST, _TIMES = 256, 640, 4
AHEAD = 2
"""Pairs that the browser loads before they are shown."""


@dataclass(frozen=True)
class Shown:
    """What one browser shows: list, drawing, pair, done, result or unknown, and a fingerprint of it."""

    kind: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Said:
    """What a browser sent; `key` counts once however often it comes."""

    act: str
    test: str
    key: str
    pair: str = ""
    answer: str = ""
    lead_ms: object = None


def read(event: Any) -> Said:
    """Reads an event of the card; raises `Refused`."""
    said = {name: getattr(event, name, "") for name in ("act", "test", "key", "pair", "answer")}
    if not all(isinstance(one, str) for one in said.values()) or not 8 <= len(said["key"]) <= 48:
        raise Refused("The answer has no key of 8 to 48 characters: reload the page.")
    return Said(**said, lead_ms=getattr(event, "lead_ms", None))


def card(
    services: Services, person: User, test_id: str, *, heard: str = "", saved: str = "", problem: str = ""
) -> tuple[Shown, str]:
    """What this person sees of a test now: the next pair, or why there is none.

    Args:
        heard: the key of the act that this answers, so that the browser knows of each.
    """
    kind, about = _about(services, person, test_id)
    html = render(
        "blind_card.html", kind=kind, test=test_id, heard=heard, saved=saved, problem=problem, **about
    )
    return Shown(kind, hashlib.sha256(html.encode()).hexdigest()), html


def _about(services: Services, person: User, test_id: str) -> tuple[str, dict[str, Any]]:
    if not test_id:
        waiting = [one for one in blind_tests.lines(services, person) if one.state == "open"]
        return "list", {"tests": [one for one in waiting if one.mine < one.pairs]}
    test = blind_tests.test_of(services, test_id)
    if test is None:
        found = blind_tests.detail(services, person, test_id)
        return ("drawing", {"detail": found}) if found["state"] == "drawing" else ("unknown", {})
    if test.revealed_at is not None:
        html = blind_results.result_html(services, test, with_pictures=False)
        return "result", {"title": test.name, "result": html}
    pairs = blind.next_pairs(services.db, test_id, person.id, 1 + AHEAD)
    if not pairs:
        return "done", _ending(services, person, test)
    now, *later = pairs
    left, right = pair_url(now.pair_id, "left"), pair_url(now.pair_id, "right")
    upcoming = [pair_url(one.pair_id, side) for one in later for side in ("left", "right")]
    sides = {"left": left, "right": right, "upcoming": upcoming, "full": _full(test)}
    return "pair", {"pair": now, **sides}


def _full(test: BlindTest) -> int:
    """Pixels across that an image is shown at where there is room: small ones are not blown up to mush."""
    return min(_MOST, max(_LEAST, _TIMES * int(test.config["width"])))


def _ending(services: Services, person: User, test: BlindTest) -> dict[str, Any]:
    found = blind_tests.detail(services, person, test.id)
    may = blind_tests.may_start(person)
    return {"line": found["line"], "others": found["others"], "may_reveal": may}


def answered(services: Services, person: User, said: Said) -> tuple[Shown, str]:
    """Does what was asked and shows what comes next; a refusal leaves the pair as it is."""
    try:
        words = _do(services, person, said)
    except SHOWN_ERRORS as error:
        return card(services, person, said.test, heard=said.key, problem=shown(error))
    return card(services, person, said.test, heard=said.key, saved=words)


def _do(services: Services, person: User, said: Said) -> str:
    if said.act == "undo":
        key = f"{said.key}:undo"
        taken = blind.undo(services.db, client_key=key, test_id=said.test, annotator_id=person.id)
        return t("blind.undone" if taken else "blind.nothing_to_undo")
    if said.act == "reveal":
        blind_tests.reveal(services, person, said.test)
        return ""
    if blind.test_of(services.db, said.pair) != said.test:
        raise Refused("That pair belongs to another test: reload the page.")
    blind.vote(
        services.db,
        client_key=said.key,
        pair_id=said.pair,
        annotator_id=person.id,
        answer=cast(Answer, said.answer),
        lead_ms=read_lead(said.lead_ms) or None,
    )
    return t("blind.skipped" if said.answer == "skip" else "blind.saved")


def ticked(services: Services, person: User, test_id: str, seen: Shown) -> tuple[Shown, str] | None:
    """What to show where something happened elsewhere; None otherwise. A pair stays until it is answered, or
    the test is revealed."""
    if seen.kind == "pair":
        test = blind_tests.test_of(services, test_id)
        return card(services, person, test_id) if test and test.revealed_at is not None else None
    now = card(services, person, test_id)
    return now if now[0].kind != seen.kind or now[0].mark != seen.mark else None


def bar_html(services: Services, person: User, test_id: str) -> str:
    """The slim bar of the judging page: which test, who judges, and the way out. What the engine does stands
    on the other pages: a run's name may be that of a checkpoint."""
    test = blind_tests.test_of(services, test_id) if test_id else None
    back = "/compare?tab=blind" if blind_tests.may_start(person) else "/rate"
    return render(
        "blind_bar.html",
        title=blind_tests.called(test) if test else t("blind.title"),
        back=f"{back}&test={test_id}" if test and back != "/rate" else back,
        here=f"/blind?test={test_id}" if test_id else "/blind",
        person=person,
        has_accounts=accounts.are_in_force(services.db),
        people=users.list_users(services.db, active_only=True),
    )
