"""How rating is done here: how many people judge a group, and how often somebody is checked. Settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import BindParameter, ColumnElement, bindparam, case, func, select
from sqlalchemy.orm import Session

from storage import settings
from storage.engine import Database
from storage.models import ImageGroup
from storage.models_studio import Setting
from storage.types import safe_text

Mode = Literal["best", "pair", "stars", "rank"]
"""How a group can be judged on the card."""
MODES: tuple[Mode, ...] = get_args(Mode)
OVERLAP = "rating.overlap"
GOLD_SHARE = "rating.gold_share"
REPEAT_SHARE = "rating.repeat_share"
OFFERED_MODES = "rating.modes"
GUIDELINES = "rating.guidelines"
MAX_RATERS = 100
MAX_GUIDELINES = 8000
"""Characters."""
_TAIL_FROM, _TAILS = 33, 16**4
"""An id ends in four digits of chance: they say which groups several people judge."""


@dataclass(frozen=True)
class Rules:
    """What holds for everybody who rates.

    Attributes:
        share: of the groups that `raters` people judge; the others need one.
        gold_share: of the tasks that are groups with a known answer.
        repeat_share: of the tasks that the annotator rated before.
        modes: that the card offers somebody who chose none.
        guidelines: what the drawer says; empty for the words that the studio comes with.
    """

    share: float = 0.15
    raters: int = 3
    gold_share: float = 0.05
    repeat_share: float = 0.05
    modes: tuple[Mode, ...] = MODES
    guidelines: str = ""


def get_rules(db: Database) -> Rules:
    """The rules in force."""
    with db.read() as session:
        return rules_in(session)


def rules_in(session: Session) -> Rules:
    """The rules in force, in a transaction under way."""
    return _rules({row.key: checked(row.key, row.value) for row in session.scalars(_KEPT)})


def put_rule(db: Database, key: str, value: Any, by: str = "local") -> None:
    """Sets one of the keys above; ValueError with a sentence for what cannot hold."""
    settings.put_setting(db, key, checked(key, value), by)


def checked(key: str, value: Any) -> Any:
    """The value of a key as it is kept; ValueError with a sentence for what cannot hold."""
    if key not in _CHECKS:
        raise ValueError(f"expected one of {', '.join(_CHECKS)}, got {key!r}")
    return _CHECKS[key](value)


def raters_wanted(rules: Rules) -> ColumnElement[int]:
    """How many people are to judge a group: what it says itself, else what the rules say of its id.

    A statement that is kept is run for other rules with `rules_said`.
    """
    said = rules_said(rules)
    raters: BindParameter[int] = bindparam("raters", said["raters"])
    below: BindParameter[str] = bindparam("several_below", said["several_below"])
    by_rule = case((func.substr(ImageGroup.id, _TAIL_FROM) < below, raters), else_=1)
    return func.coalesce(ImageGroup.overlap, by_rule)


def rules_said(rules: Rules) -> dict[str, Any]:
    """The values that `raters_wanted` is run with."""
    return {"raters": rules.raters, "several_below": _first_without(rules)}


def wants(group: ImageGroup, rules: Rules) -> int:
    """The same of one group."""
    if group.overlap is not None:
        return group.overlap
    return rules.raters if group.id[_TAIL_FROM - 1 :] < _first_without(rules) else 1


def _first_without(rules: Rules) -> str:
    """The first tail of an id that one person judges; where there is none, what comes after all of them."""
    return "g" if rules.share >= 1 else f"{int(rules.share * _TAILS):04x}"


def _rules(kept: Mapping[str, Any]) -> Rules:
    plain = Rules()
    overlap = kept.get(OVERLAP, {"share": plain.share, "raters": plain.raters})
    return Rules(
        overlap["share"],
        overlap["raters"],
        kept.get(GOLD_SHARE, plain.gold_share),
        kept.get(REPEAT_SHARE, plain.repeat_share),
        tuple(kept.get(OFFERED_MODES, plain.modes)),
        kept.get(GUIDELINES, plain.guidelines),
    )


def _overlap(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or set(value) != {"share", "raters"}:
        raise ValueError(f'expected {{"share": 0 to 1, "raters": 1 or more}}, got {value!r}')
    raters = value["raters"]
    if type(raters) is not int or not 1 <= raters <= MAX_RATERS:
        raise ValueError(f"expected 1 to {MAX_RATERS} people for a group, got {raters!r}")
    return {"share": _share(value["share"]), "raters": raters}


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"expected a share from 0 to 1, got {value!r}")
    return float(value)


def _small_share(value: Any) -> float:
    if _share(value) > 0.5:
        raise ValueError(f"expected a share from 0 to 0.5, so that most tasks are votes, got {value!r}")
    return float(value)


def _modes(value: Any) -> list[Mode]:
    if not isinstance(value, list | tuple) or not value or any(one not in MODES for one in value):
        raise ValueError(f"expected at least one of the modes {', '.join(MODES)}, got {value!r}")
    return [mode for mode in MODES if mode in value]


def _guidelines(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_GUIDELINES:
        raise ValueError(f"expected guidelines of at most {MAX_GUIDELINES} characters: shorten them")
    return safe_text(value.strip())


_CHECKS: dict[str, Callable[[Any], Any]] = {
    OVERLAP: _overlap,
    GOLD_SHARE: _small_share,
    REPEAT_SHARE: _small_share,
    OFFERED_MODES: _modes,
    GUIDELINES: _guidelines,
}
_KEPT = select(Setting).where(Setting.key.in_(_CHECKS))
