"""What is checked before a run may start, each line a sentence. Pure functions of what the caller
measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flowgrpo.config import RunConfig
from flowgrpo.starter.vocabulary import parse_prompt, unknown_words
from flowgrpo.work import work_of
from ui.components import span

Level = Literal["ok", "warn", "bad"]
Cards = Mapping[str, Mapping[str, Any]]
"""Name of a reward to its card, as `ui.cards` has it."""
MIN_FREE = 500_000_000
"""Bytes that a run needs for its log, images and checkpoints."""
LOW_FREE = 2_000_000_000
Use = Literal["weight", "gate", "monitor", "judge"]
_NO_JUDGE = {
    "gate": "it is a gate, which says only whether an image fails",
    "monitor": "it is a monitor, of whose numbers none is better than another",
    "reference": "it holds an image against another one, and samples have none",
    "groupwise": "it judges a group and no image",
}
"""Kind of a reward to why it cannot judge sample grids; `flowgrpo.runs.roles` refuses the same."""


@dataclass(frozen=True)
class Check:
    """One line of the list. A run with a "bad" line does not start."""

    level: Level
    text: str
    fix: str = ""
    """What a click would change in the form (`ui.fixes`); empty where only a person can do something."""


@dataclass(frozen=True)
class Facts:
    """What the checks know of the machine and the data folder.

    Attributes:
        base: name of the base.
        is_starter: whether the starter's vocabulary describes it.
        free_bytes: free space of the data folder's disk.
        seconds_per_evaluation: measured on finished groups; None before the first.
        ahead: titles of runs that are queued or running.
        checkpoint_is_there: whether the checkpoint's files are on the disk.
        cards: what the engine knows of each reward; empty where none has started yet.
    """

    base: str
    is_starter: bool
    free_bytes: int
    seconds_per_evaluation: float | None
    ahead: Sequence[str]
    checkpoint_is_there: bool
    cards: Cards = field(default_factory=dict)


def checks(config: RunConfig, facts: Facts) -> list[Check]:
    """The list, in the order of the form."""
    return [
        _files(facts),
        _prompts(config),
        *_words(config, facts),
        *_rewards(config, facts),
        *_wanted(config),
        _groups(config),
        _disk(facts),
        _time(config, facts),
        *_queue(facts),
    ]


def standing_checks(facts: Facts) -> list[Check]:
    """Those that hold whatever a run learns from."""
    return [_files(facts), _disk(facts), *_queue(facts)]


def _files(facts: Facts) -> Check:
    if not facts.checkpoint_is_there:
        return Check("bad", "The files of the checkpoint are gone from the disk: choose another one.", "base")
    return Check("ok", f"The base is {facts.base}.")


def _prompts(config: RunConfig) -> Check:
    count, held_out = len(config.prompts), len(config.held_out_prompts)
    if not held_out:
        return Check(
            "warn",
            f"{_many(count, 'prompt')}, none held out: nothing will show whether it works on new ones.",
            "hold_out" if count > 1 else "",
        )
    if count < config.rollout.groups_per_update:
        return Check(
            "warn",
            f"{_many(count, 'prompt')} for {config.rollout.groups_per_update} groups: updates repeat some.",
            "groups",
        )
    return Check("ok", f"{_many(count, 'training prompt')}, {held_out} held out.")


def _words(config: RunConfig, facts: Facts) -> list[Check]:
    if not facts.is_starter:
        return []
    unknown = list(dict.fromkeys(word for prompt in config.prompts for word in unknown_words(prompt)))
    empty = sum(1 for prompt in config.prompts if not parse_prompt(prompt))
    found: list[Check] = []
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        found.append(Check("warn", f"The starter does not know {', '.join(unknown[:5])}{more}.", "words"))
    if empty and config.reward_weights.get("verifier"):
        found.append(
            Check(
                "warn",
                f"{_many(empty, 'prompt')} without a known attribute: the verifier gives no score there.",
                "unscored" if empty < len(config.prompts) else "",
            )
        )
    return found


def _rewards(config: RunConfig, facts: Facts) -> list[Check]:
    """What keeps a reward from being used or costs something, then all of them in a line."""
    cards = facts.cards
    weighted = [name for name, weight in config.reward_weights.items() if weight]
    found = [line for name in weighted for line in _reward(name, cards, "weight")]
    found += [line for name in config.gates for line in _reward(name, cards, "gate")]
    found += [line for name in config.monitors for line in _reward(name, cards, "monitor")]
    found += [line for name in config.judges for line in _reward(name, cards, "judge")]
    if any(line.level == "bad" for line in found):
        return found
    if config.judges:
        found.append(Check("ok", f"Judged, and never rewarded, by {', '.join(config.judges)}."))
    names = ", ".join(f"{name} {weight:g}" for name, weight in config.reward_weights.items())
    if len(config.reward_weights) == 1:
        words = f"One reward only ({names}): a single reward is easier to cheat than two."
        return [*found, Check("warn", words, "rewards" if facts.is_starter else "")]
    return [*found, Check("ok", f"Rewards: {names}.")]


def _reward(name: str, cards: Cards, use: Use) -> Iterator[Check]:
    """What the engine's card of a reward has to say of a run that uses it; nothing before there are cards."""
    key, _, option = name.partition(":")
    if not cards:
        return
    card = cards.get(key)
    if card is None:
        yield Check(
            "bad",
            f"There is no reward {name} here: write one of {', '.join(cards)}, or install the plug-in that "
            "brings it and start the studio again.",
            f"drop:{name}",
        )
    elif use == "weight" and card["kind"] in ("gate", "monitor"):
        yield Check(
            "bad",
            f"The reward {name} is a {card['kind']} and teaches nothing: give it no weight.",
            f"drop:{name}",
        )
    elif use == "judge" and (reason := _no_judge(key, card)):
        yield Check("bad", f"{name} cannot judge the samples: {reason}.", f"drop:{name}")
    elif problem := _problem(name, card, use):
        # a run goes on without what it only watches
        yield Check("warn" if use == "monitor" else "bad", problem, f"drop:{name}" if use != "gate" else "")
    elif card["state"] == "not asked":
        yield Check("warn", f"The reward {name} has not said yet what it is: the run will ask it.")
    elif option:  # the card is that of the name alone
        yield Check("ok", f"The reward {name}: what stands behind the colon is read when the run starts.")
    elif card["state"] == "to fetch":
        yield Check("warn", f"The reward {name} is {card['weights']}.")


def _no_judge(key: str, card: Mapping[str, Any]) -> str:
    """Why a reward cannot judge sample grids; empty where it can. The run looks again when it starts."""
    if key == "human":
        return "it is fitted anew when people rate, and a judge stays the same"
    return _NO_JUDGE.get(card["kind"], "")


def _problem(name: str, card: Mapping[str, Any], use: str) -> str:
    """Why a run cannot use a reward, and what to do; empty where it can.

    The state of a card is that of the name alone. With an option other weights count, unless the card says
    that the reward cannot be used whatever stands behind the colon.
    """
    key, _, option = name.partition(":")
    is_broken = card["direction"] == "disabled" or bool(card.get("missing"))
    is_fitted_by_the_run = key == "human" and use == "weight"
    if is_broken or (card["state"] == "unavailable" and not option and not is_fitted_by_the_run):
        return (
            f"The reward {name} is {card['weights']}. Mend that and start the studio again, or leave it out."
        )
    if option and not card["options"] and card["state"] != "not asked":
        return f"The reward {key} takes no option, and {name} has one: write {key} alone."
    if not card["accepted"]:
        return (
            f"The reward {name} waits for somebody to accept this: {card['notice']} "
            f"Accept it by python app.py accept {key}, or leave it out."
        )
    return ""


def _wanted(config: RunConfig) -> Iterator[Check]:
    """The run reads the folder when it starts, and says what is amiss in it."""
    if config.references is None:
        return
    if Path(config.references).is_dir():
        yield Check("ok", f"Held to the wanted images of {config.references}.")
    else:
        yield Check(
            "bad",
            f"{config.references} is no folder on this machine: name one with images and, beside each, a "
            ".txt with its prompt.",
            "references",
        )


def _groups(config: RunConfig) -> Check:
    size, groups = config.rollout.group_size, config.rollout.groups_per_update
    if size < 4:
        return Check(
            "warn",
            f"Groups of {size} often score alike, and then there is nothing to learn: 8 or more work better.",
            "size",
        )
    return Check("ok", f"{groups} groups of {size}: {size * groups} images an update.")


def _disk(facts: Facts) -> Check:
    free = facts.free_bytes / 1e9
    if facts.free_bytes < MIN_FREE:
        return Check(
            "bad", f"{free:.1f} GB free on the disk; a run needs {MIN_FREE / 1e9:.1f} GB: free some space."
        )
    if facts.free_bytes < LOW_FREE:
        return Check("warn", f"Only {free:.1f} GB free on the disk.")
    return Check("ok", f"{free:.0f} GB free on the disk.")


def _time(config: RunConfig, facts: Facts) -> Check:
    if facts.seconds_per_evaluation is None:
        return Check("ok", "How long it takes is known after the first update.")
    seconds = facts.seconds_per_evaluation * work_of(config).evaluations
    return Check("ok", f"About {span(seconds)}: {_many(config.num_updates, 'update')}.")


def _queue(facts: Facts) -> list[Check]:
    return [Check("warn", f"It waits until {facts.ahead[-1]} has ended.")] if facts.ahead else []


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
