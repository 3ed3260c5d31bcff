"""What the engine said of its rewards, with what people have accepted since."""

from __future__ import annotations

from typing import Any

from storage import notices, scores
from storage.engine import Database
from ui.forms import Refused


def reward_cards(db: Database) -> dict[str, dict[str, Any]]:
    """Name to card, in order of names; empty until an engine has started."""
    accepted = notices.accepted_notices(db.home)
    return {
        name: card | {"accepted": notices.is_accepted(card, accepted)}
        for name, card in scores.reward_cards(db).items()
    }


def accept(db: Database, name: str, sha256: str) -> dict[str, Any]:
    """Accepts the notice of a reward, and returns its card.

    Args:
        sha256: of the text that was read.

    Raises:
        Refused: there is no such reward or notice, or its text is another.
    """
    card = reward_cards(db).get(name)
    if card is None:
        raise Refused(f"There is no reward “{name}” here: list_rewards has those that there are.")
    if not card.get("notice"):
        raise Refused(f"{name} has no notice: there is nothing to accept.")
    if sha256 != card.get("notice_sha256"):
        raise Refused(f"The notice of {name} is another than the one with this SHA-256: read it again.")
    notices.accept_notice(db.home, name, sha256)
    return reward_cards(db)[name]
