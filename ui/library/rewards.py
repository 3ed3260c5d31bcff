"""Rewards: what each one measures, whether it is here, its licence, and how often it agrees with people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage import rated, snapshots
from storage.models import User
from storage.models_judging import PreferenceFit
from ui import agreement, cards, weights
from ui.agreement import LOOKED_BACK, Agreement
from ui.components.agree import spot
from ui.components.strip import REWARD_ORDER
from ui.language import t
from ui.library.shelf import Done, Fields, Query, Tab, text_of
from ui.services import Services

_STATES = {"here": "here", "to fetch": "to_fetch", "not asked": "not_asked", "unavailable": "unavailable"}


@dataclass(frozen=True)
class RewardView:
    """A card with how often its scores agree with people; None where nobody rated anything that it scored."""

    card: Mapping[str, Any]
    agrees: Agreement | None

    @property
    def state(self) -> str:
        """The end of the words' key for whether it can be used."""
        if not self.card.get("accepted"):
            return "to_accept"
        return _STATES.get(str(self.card.get("state")), "unavailable")

    @property
    def range(self) -> str:
        """Least and greatest value."""
        low, high = (f"{float(self.card.get(end, 0.0)):g}".replace("-", "−") for end in ("low", "high"))
        return f"{low} – {high}"


def view(services: Services, query: Query) -> dict[str, Any]:
    """Every reward, those of the strip first, and the weights in use."""
    found = views_of(services)
    return {
        "rewards": found,
        "open": query.get("reward", ""),
        "fit": weights.fitted(services.db),
        "fits": [one for kind in ("weights", "head") if (one := _fit(services, kind))],
        "rated": max((one.agrees.groups for one in found if one.agrees), default=0),
        "spot": spot,
    }


def views_of(services: Services) -> list[RewardView]:
    """Cards in the order of the strip, then by name; each with its agreement over the newest rated groups."""
    groups = rated.rated_groups(services.db, LOOKED_BACK)
    known = cards.reward_cards(services.db)
    order = {name: place for place, name in enumerate(REWARD_ORDER)}
    names = sorted(known, key=lambda name: (order.get(name, len(order)), name))
    return [
        RewardView(
            known[name],
            agreement.agreement(name, groups, [agreement.values_of(group, name) for group in groups]),
        )
        for name in names
    ]


def _fit(services: Services, kind: Any) -> PreferenceFit | None:
    return snapshots.applied_fit(services.db, kind)


def accept(services: Services, person: User, fields: Fields) -> Done:
    """Notes that the notice of a reward was read and accepted, as it stood on the page."""
    card = cards.accept(services.db, text_of(fields, "reward"), text_of(fields, "sha256"))
    return Done(t("library.accepted", name=card["name"]))


TAB = Tab("rewards", view, {"accept": accept})
