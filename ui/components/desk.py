"""Beside the rating card: the guidelines with practice, and what a person sets for their own card."""

from __future__ import annotations

import json

from storage import checks
from storage.models import User
from storage.rating_rules import Rules
from ui import rate_prefs
from ui.components import render
from ui.language import t
from ui.services import Services

Parts = list[tuple[str, list[str]]]


def html(services: Services, person: User, rules: Rules, *, heard: int = 0, problem: str = "") -> str:
    """Renders the desk of a person; `heard` changes with every answer, so that the browser knows of each."""
    chosen = rate_prefs.of(person, rules)
    practice = checks.list_checks(services.db, is_practice=True)
    return render(
        "rate_desk.html",
        prefs=chosen,
        prefs_json=json.dumps(rate_prefs.as_json(chosen)),
        keys=[(act, rate_prefs.name_of(key)) for act, key in chosen.keys.items()],
        mode_key=rate_prefs.name_of(chosen.keys["mode"]),
        guidelines=parts_of(rules.guidelines or t("rate.guide_default")),
        num_practice=len(checks.to_practise(services.db, person.id)),
        has_practice=bool(practice),
        heard=heard,
        problem=problem,
    )


def parts_of(text: str) -> Parts:
    """Guidelines as ("text", [a paragraph]) and ("list", lines that began with a dash)."""
    parts: Parts = []
    for block in text.strip().split("\n\n"):
        for line in filter(None, (line.strip() for line in block.splitlines())):
            is_item = line.startswith("- ")
            if is_item and parts and parts[-1][0] == "list":
                parts[-1][1].append(line[2:])
            else:
                parts.append(("list", [line[2:]]) if is_item else ("text", [line]))
    return parts
