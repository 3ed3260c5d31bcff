"""What a Fix button of the preflight list changes in the form. Pure: forms in, forms out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from flowgrpo.config import DEFAULT_WEIGHTS
from flowgrpo.starter.vocabulary import parse_prompt, unknown_words
from ui.defaults import starter_prompts
from ui.forms import Refused, RunForm, judge_names, prompt_lines

ANOTHER_BASE = "base"
"""The fix that chooses another checkpoint, which is no field of the form."""
_EVERY = 4
"""Of so many prompts one is put apart."""
_GROUP_SIZE = 8
_NUMBERS = ("num_updates", "group_size", "groups_per_update", "num_steps", "guidance_scale", "learning_rate")
_MORE_NUMBERS = ("kl_weight", "rank")


def fixed(form: RunForm, fix: str, preset: RunForm) -> RunForm:
    """The form with one thing mended.

    Args:
        fix: as a `Check` names it, or as `for_refusal` does.
        preset: the numbers of the form's preset.

    Raises:
        Refused: there is no such fix.
    """
    kind, _, name = fix.partition(":")
    if kind == "drop":
        return _without(form, name)
    if kind in ("numbers", "weights"):
        fields = (*_NUMBERS, *_MORE_NUMBERS) if kind == "numbers" else ("weights",)
        return replace(form, **{field: getattr(preset, field) for field in fields})
    if kind not in _FIXES:
        raise Refused("This page has no such fix any more: reload it.")
    return _FIXES[kind](form)


def for_refusal(form: RunForm) -> str:
    """What would mend a form that cannot even be read; empty where only a person can."""
    try:
        train, held_out = _prompts(form)
    except Refused:
        return ""
    if not train:
        return "starter"
    if set(train) & set(held_out):
        return "apart"
    if not any(value for value in form.weights.values()):
        return "weights"
    return "numbers"


def _prompts(form: RunForm) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return prompt_lines(form.prompts, "The training prompts"), prompt_lines(
        form.held_out, "The held-out prompts"
    )


def _hold_out(form: RunForm) -> RunForm:
    """Every fourth training prompt is put apart, and of fewer one."""
    train, held_out = _prompts(form)
    apart = train[_EVERY - 1 :: _EVERY] or train[-1:]
    return _with(form, [one for one in train if one not in apart], [*held_out, *apart])


def _apart(form: RunForm) -> RunForm:
    """What is in both lists stays held out; what would leave nothing to train on stays there instead."""
    train, held_out = _prompts(form)
    kept = [one for one in train if one not in held_out]
    return _with(form, kept, held_out) if kept else _with(form, train, [])


def _known_words(form: RunForm) -> RunForm:
    """Without the words that the starter does not know, and without prompts that then say nothing."""
    train, held_out = _prompts(form)
    return _with(form, _known(train) or train, _known(held_out))


def _known(prompts: tuple[str, ...]) -> list[str]:
    found = []
    for prompt in prompts:
        unknown = set(unknown_words(prompt))
        tags = [tag.strip() for tag in prompt.split(",")]
        kept = ", ".join(tag for tag in tags if tag and not unknown & set(unknown_words(tag)))
        found += [kept] if kept else []
    return list(dict.fromkeys(found))


def _scored(form: RunForm) -> RunForm:
    train, held_out = _prompts(form)
    return _with(form, [one for one in train if parse_prompt(one)], held_out)


def _with(form: RunForm, train: Iterable[str], held_out: Iterable[str]) -> RunForm:
    lines = ["\n".join(prompts) for prompts in (train, held_out)]
    return replace(form, prompts=lines[0], held_out=lines[1])


def _fewer_groups(form: RunForm) -> RunForm:
    return replace(form, groups_per_update=len(_prompts(form)[0]))


def _more_rewards(form: RunForm) -> RunForm:
    """The starter's other rewards beside the one that is there, each by its usual weight."""
    weights: Mapping[str, object] = {
        name: value or DEFAULT_WEIGHTS.get(name, 0.0) for name, value in form.weights.items()
    }
    return replace(form, weights=weights)


def _without(form: RunForm, name: str) -> RunForm:
    weights = {one: 0.0 if one == name else value for one, value in form.weights.items()}
    judges = ", ".join(one for one in judge_names(form.judges) if one != name)
    return replace(form, weights=weights, judges=judges)


def _starter(form: RunForm) -> RunForm:
    return _with(form, *starter_prompts())


_FIXES: Mapping[str, Callable[[RunForm], RunForm]] = {
    "hold_out": _hold_out,
    "apart": _apart,
    "words": _known_words,
    "unscored": _scored,
    "groups": _fewer_groups,
    "rewards": _more_rewards,
    "size": lambda form: replace(form, group_size=_GROUP_SIZE),
    "references": lambda form: replace(form, references=""),
    "starter": _starter,
}
