"""Which rewards there are: a mapping from names to entries, which plug-ins add to.

A name may carry an option behind a colon: `clip:ViT-L-14-quickgelu/openai`, `lpips_ref:vgg`. An entry tells
its card without loading anything; the module that scores is imported when somebody loads it, so that the
libraries of one reward cost nothing to the others. The judge is not here: it must never reward.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final, cast

from flowgrpo.rewards.base import Reward, RewardSpec
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.entry import Entry, Load
from flowgrpo.rewards.fetch import Options, State, Unavailable, standing
from flowgrpo.rewards.plugged import CARD_SECONDS, REMOTE, disabled, plugin_entries
from flowgrpo.rewards.stock import STOCK

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_NEVER: Final = ("judge",)


REGISTRY: dict[str, Entry] = {**STOCK, "remote": REMOTE}
"""Name -> entry. Others add theirs by `add`; plug-ins join when somebody asks."""


def names() -> list[str]:
    """Every reward there is, plug-ins included, broken ones too: their cards say what is wrong."""
    for name, entry in plugin_entries([*STOCK, "remote", *_NEVER]).items():
        REGISTRY.setdefault(name, entry)
    return list(REGISTRY)


def add(name: str, entry: Entry) -> None:
    """Makes a reward known.

    Raises:
        ValueError: The name is taken, kept back, or none that a column could bear.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f'a reward\'s name is of small letters, digits and underscores, got "{name}"')
    if name in REGISTRY or name in _NEVER:
        raise ValueError(f'the name "{name}" is taken')
    REGISTRY[name] = entry


def find(name: str) -> tuple[Entry, str]:
    """Entry and option of a name.

    Raises:
        LookupError: There is no such reward; the sentence names those there are.
    """
    key, _, option = name.partition(":")
    if key not in REGISTRY and key not in names():
        raise LookupError(f'there is no reward "{name}"; the rewards are {", ".join(REGISTRY)}')
    return REGISTRY[key], option


def about(name: str) -> RewardSpec:
    """What is known of a reward before it is loaded.

    Raises:
        LookupError: There is no such reward, or it takes no such option.
    """
    entry, option = find(name)
    return entry.card(name.partition(":")[0], option)


def load(name: str, options: Options) -> Reward:
    """The reward of a name, ready to score.

    Raises:
        LookupError: There is no such reward, or its weights are not here and cannot be had, or nobody has
            accepted its licence notice.
        ImportError: A library that it needs is not installed.
    """
    entry, option = find(name)
    card = about(name)
    if not _is_accepted(card, options):
        how = f"python app.py accept {name.partition(':')[0]}"
        raise Unavailable(f"it waits for somebody to accept this: {card.notice} To accept it: {how}")
    if callable(entry.load):
        return entry.load(card, option, options)
    module, _, function = entry.load.partition(":")
    return cast("Load", getattr(import_module(module), function))(card, option, options)


def card(name: str, options: Options, seconds: float = CARD_SECONDS) -> dict[str, object]:
    """What a page shows of a reward, as JSON takes it; nothing is loaded and nothing fetched.

    Args:
        seconds: A plug-in may take to say what it is.

    Raises:
        LookupError: There is no such reward, or it takes no such option.
    """
    entry, option = find(name)
    try:
        if entry.ask is not None:
            entry.ask(seconds)
        spec = about(name)
    except FailedRewardError as error:
        return disabled(name, str(error))
    missing = [library for library in entry.libraries if find_spec(library) is None]
    state, sentence = _standing(entry, option, options, missing)
    return {
        "name": spec.name,
        "title": spec.title,
        "kind": spec.kind,
        "measures": spec.measures,
        "low": spec.low,
        "high": spec.high,
        "direction": direction(spec),
        "needs": list(spec.needs),
        "threshold": spec.threshold,
        "licence": spec.licence,
        "size_mb": spec.size_mb,
        "embedded": spec.embedded,
        "device": options.device if entry.device == "any" else "cpu",
        "options": entry.options,
        "missing": missing,
        "state": state,
        "weights": sentence,
        "notice": spec.notice,
        "notice_sha256": spec.notice_sha256,
        "accepted": _is_accepted(spec, options),
    }


def is_ours(name: str) -> bool:
    """Whether the card is known without asking somebody else's code.

    Raises:
        LookupError: There is no such reward.
    """
    return find(name)[0].ask is None


def direction(spec: RewardSpec) -> str:
    """Which values are good, in words."""
    if spec.kind == "monitor":
        return "watched only"
    if spec.kind == "gate":
        return f"fails below {spec.threshold:g}"
    return "higher is better"


def _is_accepted(spec: RewardSpec, options: Options) -> bool:
    """Whether there is no notice, or somebody accepted the one that there is, and no other text."""
    return not spec.notice or options.accepted.get(spec.name.partition(":")[0]) == spec.notice_sha256


def _standing(entry: Entry, option: str, options: Options, missing: Sequence[str]) -> tuple[State, str]:
    if missing:
        return "unavailable", f"unavailable: needs the package {' and '.join(missing)}"
    try:
        return standing(entry.weights(option, options), options)
    except ValueError as error:  # an option that names nothing
        return "unavailable", f"unavailable: {error}"


def table() -> str:
    """All cards in Markdown, as docs/rewards.md has them: what holds on every machine."""
    rows = [
        "| name | measures | scale | good | licence | memory | runs on |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in STOCK:
        spec = about(name)
        where = "processor" if STOCK[name].device == "cpu" else "any device"
        memory = "none" if not spec.size_mb else f"{spec.size_mb:.0f} MB"
        scale = f"{spec.low:g} to {spec.high:g}"
        rows.append(
            f"| `{name}` | {spec.title}: {spec.measures} | {scale} | {direction(spec)} | {spec.licence} "
            f"| {memory} | {where} |"
        )
    return "\n".join(rows)
