"""How often the rewards agree with the people, beside their weights: a line each, and the newest rated group
in the order that each of them would give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.models import Image
from storage.rated import RatedGroup
from ui.agreement import Agreement, Values, agreement, order, preferred, values_of, weighed
from ui.components import render
from ui.components.strip import small_url
from ui.forms import Refused, check_weights

TOGETHER = "together"
"""Names what the weights make of all rewards."""
_SHOWN = 8
"""Images of a group in the strip; of more, those that come first."""


@dataclass(frozen=True)
class Ranking:
    """The newest rated group as something orders it, best first."""

    name: str
    images: Sequence[tuple[Image, bool]]
    """With whether people preferred it."""


def agree_html(views: Sequence[RatedGroup], weights: Mapping[str, object], *, is_pooled: bool = False) -> str:
    """Of rated groups, the newest first; or what to do where there are none.

    Args:
        weights: as typed; where they cannot be read, the rewards stand alone.
        is_pooled: whether the update would weigh by pooled stds (`ui.agreement.weighed`).
    """
    columns = _columns(views, weights, is_pooled=is_pooled)
    found = [one for name, values in columns.items() if (one := agreement(name, views, values))]
    rankings = [_ranking(name, views[0], values[0]) for name, values in columns.items()] if found else []
    return render(
        "agree.html",
        lines=found,
        together=next((one.words for one in found if one.name == TOGETHER), ""),
        is_rated=bool(views),
        groups=max((one.groups for one in found), default=0),
        rankings=[ranking for ranking in rankings if ranking.images],
        prompt=views[0].group.prompt if views else "",
        seq=views[0].group.seq if views else 0,
        spot=spot,
        small_url=small_url,
    )


def spot(found: Agreement) -> str:
    """Where the interval lies on a track from 0 to 100%, as a style."""
    return f"left:{100 * found.low:.1f}%;width:{max(100 * (found.high - found.low), 1):.1f}%"


def _columns(
    views: Sequence[RatedGroup], weights: Mapping[str, object], *, is_pooled: bool
) -> dict[str, Sequence[Values]]:
    """Name to one column a group, the sum of all by their weights last."""
    columns: dict[str, Sequence[Values]] = {
        name: [values_of(view, name) for view in views] for name in weights
    }
    try:
        return columns | {TOGETHER: weighed(views, check_weights(weights), is_pooled=is_pooled)}
    except Refused:
        return columns


def _ranking(name: str, view: RatedGroup, values: Values) -> Ranking:
    chosen = preferred(view)
    return Ranking(name, [(view.images[i].image, i in chosen) for i in order(values)[:_SHOWN]])
