"""Checks what people typed and turns it into requests; every refusal is one sentence. Pure: no rows, no
widgets."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from flowgrpo.config import (
    MAX_GROUP_SIZE,
    MAX_PROMPT_LENGTH,
    MAX_SEED,
    LoraConfig,
    PeopleConfig,
    RolloutConfig,
    RunConfig,
    SamplingConfig,
    UpdateConfig,
)
from flowgrpo.presets import STARTER_PRESETS, Preset

MAX_RUN_PROMPTS = 100_000
FIRST_PRESET = "smoke"
"""What the Train page opens with."""
_FRESH_SEEDS = 1_000_000
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_Model = TypeVar("_Model", bound=BaseModel)


class Refused(ValueError):
    """What was asked cannot be done; the message is a sentence for the person who asked."""


@dataclass(frozen=True)
class GroupRequest:
    """A group that may be queued as it stands."""

    prompt: str
    config: SamplingConfig
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class GroupForm:
    """The Studio page as typed."""

    prompt: object = ""
    negative: object = ""
    group_size: object = 8
    seeds: object = ""
    num_steps: object = 16
    guidance_scale: object = 3.0
    width: object = None
    height: object = None


@dataclass(frozen=True)
class RunForm:
    """The Train page as typed. What it has no field for comes from the preset."""

    preset: str = FIRST_PRESET
    name: str = ""
    prompts: str = ""
    held_out: str = ""
    weights: Mapping[str, object] = field(default_factory=dict)
    num_updates: object = 60
    group_size: object = 16
    groups_per_update: object = 4
    num_steps: object = 8
    guidance_scale: object = 1.0
    learning_rate: object = 1e-3
    kl_weight: object = 1e-3
    rank: object = 16
    seed: object = 0
    people_minutes: object = 0
    """How long the run waits for people to rate each of its rollouts; 0 asks nobody."""
    judges: object = ""
    """Rewards that only judge the sample grids, as names or as one text with commas; empty leaves the choice
    to the studio."""
    references: object = ""
    """Folder of wanted images; empty for none."""


def check_prompt(text: object, what: str = "The prompt") -> str:
    """Returns the prompt without outer blanks.

    Raises:
        Refused: it is empty, longer than 2,000 characters or holds characters that cannot be shown.
    """
    prompt = text.strip() if isinstance(text, str) else ""
    if not prompt:
        raise Refused(f"{what} is empty: write what the images should show.")
    return _check_text(prompt, what)


def check_negative(text: object) -> str:
    """Returns the negative prompt; empty means none. Raises `Refused` as `check_prompt` does."""
    return _check_text(text.strip(), "The negative prompt") if isinstance(text, str) else ""


def _check_text(text: str, what: str) -> str:
    if len(text) > MAX_PROMPT_LENGTH:
        raise Refused(
            f"{what} has {len(text):,} characters; at most {MAX_PROMPT_LENGTH:,} are read, so shorten it."
        )
    if _INVISIBLE.search(text):
        raise Refused(f"{what} holds control characters that no model can read: remove them.")
    return text


def check_line(text: str, what: str, most: int) -> str:
    """Returns one line of text, such as a name or a path; `what` names it at the start of the refusal.

    Raises:
        Refused: it is longer than `most` characters, or holds what cannot be shown or breaks a line.
    """
    if len(text) > most:
        raise Refused(f"{what} has {len(text):,} characters: shorten it to {most:,}.")
    if _INVISIBLE.search(text) or "\n" in text or "\t" in text:
        raise Refused(f"{what} holds control characters or a second line: remove them.")
    return text


def whole(value: object, what: str, low: int, high: int) -> int:
    """Reads a whole number in [low, high]; `what` names it at the start of the refusal."""
    number = _number(value)
    if number is None or number != int(number):
        raise Refused(f"{what} must be a whole number from {low:,} to {high:,}, not {_shown(value)}.")
    if not low <= number <= high:
        raise Refused(f"{what} must be from {low:,} to {high:,}, not {int(number):,}.")
    return int(number)


def real(value: object, what: str, low: float, high: float) -> float:
    """Reads a finite number in [low, high]; `what` names it at the start of the refusal."""
    number = _number(value)
    if number is None or not low <= number <= high:
        raise Refused(f"{what} must be a number from {low:g} to {high:g}, not {_shown(value)}.")
    return number


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    if value is None or value == "":
        return "nothing"
    text = str(value)
    return f"“{text[:24]}…”" if len(text) > 24 else f"“{text}”"


def parse_seeds(text: object, count: int, fresh: Callable[[int], int] = secrets.randbelow) -> tuple[int, ...]:
    """Reads seeds: empty for new ones, one to count up from, a range `4021-4028`, or a list.

    Args:
        text: what was typed.
        count: images of the group.
        fresh: draws a number below its argument.

    Raises:
        Refused: letters, a seed above 32 bits, a seed named twice, or a number of seeds other than `count`.
    """
    typed = text.strip() if isinstance(text, str) else ""
    if not typed:
        first = fresh(_FRESH_SEEDS)
        return tuple(range(first, first + count))
    seeds = [
        seed
        for part in re.split(r"[,;\s]+", re.sub(r"\s*[-–—]\s*", "-", typed))
        if part
        for seed in _part(part, count)
    ]
    if len(seeds) == 1:
        seeds = list(range(seeds[0], seeds[0] + count))
    if len(seeds) != count:
        raise Refused(
            f"{len(seeds)} seeds for a group of {count}: give {count}, or one to count up from, or none."
        )
    if max(seeds) > MAX_SEED:
        raise Refused(f"A seed is at most {MAX_SEED:,}; {max(seeds):,} is above.")
    if len(set(seeds)) != count:
        raise Refused("A seed is named twice, which would draw the same image twice: name each once.")
    return tuple(seeds)


def _part(part: str, count: int) -> Sequence[int]:
    match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part, re.ASCII)
    if not match:
        raise Refused(f"Seeds are whole numbers from 0 to {MAX_SEED:,}, not {_shown(part)}.")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last - first >= max(count, MAX_GROUP_SIZE):
        raise Refused(f"{_shown(part)} is not a range of {count} seeds: write it as in 4021-{4020 + count}.")
    return range(first, last + 1)


def show_seeds(seeds: Sequence[int]) -> str:
    """Writes seeds as `parse_seeds` reads them, a run of them as a range."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)


def check_size(value: object, what: str, factor: int) -> int:
    """Reads a width or height in pixels that the base's VAE can code (a multiple of `factor`)."""
    size = whole(value, what, 16, 2048)
    if size % factor:
        near = max(factor, round(size / factor) * factor)
        raise Refused(f"{what} must be a multiple of {factor} for this base; {size} is not. Use {near}?")
    return size


def check_group(form: GroupForm, *, factor: int, size: int) -> GroupRequest:
    """Checks the Studio page; raises `Refused` with the first thing that is wrong.

    Args:
        form: as typed.
        factor: pixels per latent cell of the base; width and height are multiples of it.
        size: pixels where width or height is left empty.
    """
    prompt = check_prompt(form.prompt)
    count = whole(form.group_size, "The group size", 1, MAX_GROUP_SIZE)
    fields = {
        "negative_prompt": check_negative(form.negative),
        "num_steps": whole(form.num_steps, "Steps", 1, 150),
        "guidance_scale": real(form.guidance_scale, "Guidance", 1, 30),
        "width": check_size(size if form.width in (None, "") else form.width, "The width", factor),
        "height": check_size(size if form.height in (None, "") else form.height, "The height", factor),
    }
    return GroupRequest(prompt, _build(SamplingConfig, fields), parse_seeds(form.seeds, count))


def prompt_lines(text: object, what: str) -> tuple[str, ...]:
    """One prompt a line, blank lines and repeats left out."""
    lines = [line.strip() for line in text.splitlines()] if isinstance(text, str) else []
    prompts = tuple(dict.fromkeys(line for line in lines if line))
    if len(prompts) > MAX_RUN_PROMPTS:
        raise Refused(f"{what} has {len(prompts):,} lines; at most {MAX_RUN_PROMPTS:,} are taken.")
    for number, prompt in enumerate(prompts, 1):
        _check_text(prompt, f"Line {number} of {what.lower()}")
    return prompts


def check_run(form: RunForm, *, width: int, height: int) -> RunConfig:
    """Checks the Train page; raises `Refused` with the first thing that is wrong."""
    prompts = prompt_lines(form.prompts, "The training prompts")
    if not prompts:
        raise Refused("There are no training prompts: write at least one, one a line.")
    held_out = prompt_lines(form.held_out, "The held-out prompts")
    both = set(prompts) & set(held_out)
    if both:
        raise Refused(f"“{min(both)[:60]}” is both a training and a held-out prompt: keep it in one of them.")
    num_updates = whole(form.num_updates, "Updates", 1, 100_000)
    preset = preset_of(form.preset)(prompts)
    fields = {
        "prompts": prompts,
        "held_out_prompts": held_out,
        "reward_weights": check_weights(form.weights),
        "algorithm": preset.algorithm,
        "advantages": preset.advantages,
        "num_updates": num_updates,
        "seed": whole(form.seed, "The seed", 0, MAX_SEED),
        "checkpoint_every": max(1, min(20, num_updates // 3)),
        "sample_every": max(1, min(10, num_updates // 6)),
        "samples": 8,
        "rollout": _rollout(form, preset.rollout, width, height),
        "update": _update(form, preset.update),
        "lora": _lora(whole(form.rank, "The LoRA rank", 1, 256)),
        "people": _people(real(form.people_minutes, "The minutes to wait for people", 0, 10_080)),
        "judges": judge_names(form.judges),
        "references": _folder(form.references),
    }
    return _build(RunConfig, fields)


def _folder(typed: object) -> str | None:
    """Reads the path of a folder; None for nothing."""
    if not isinstance(typed, str):
        raise Refused(f"The folder of wanted images must be a path, not {_shown(typed)}.")
    return _check_text(typed.strip(), "The path of the wanted images") or None


def judge_names(typed: object) -> tuple[str, ...]:
    """Reads names of rewards, each once: a list, or a text with commas between them.

    Raises:
        Refused: it is neither, or a name holds what cannot be shown.
    """
    names = typed.split(",") if isinstance(typed, str) else typed or ()
    if not isinstance(names, list | tuple):
        raise Refused(f"The judges must be names of rewards, not {_shown(typed)}.")
    read = [str(name).strip() for name in names]
    return tuple(dict.fromkeys(_check_text(name, "A judge's name") for name in read if name))


def preset_of(name: object) -> Preset:
    """The preset of a name; raises `Refused` with those that there are."""
    if name not in STARTER_PRESETS:
        raise Refused(f"The presets are {', '.join(STARTER_PRESETS)}; choose one of them.")
    return STARTER_PRESETS[str(name)]


def _rollout(form: RunForm, preset: RolloutConfig, width: int, height: int) -> RolloutConfig:
    num_steps = whole(form.num_steps, "Steps", 2, 150)
    fields = {
        "group_size": whole(form.group_size, "The group size", 2, 256),
        "groups_per_update": whole(form.groups_per_update, "Groups per update", 1, 256),
        "num_steps": num_steps,
        "guidance_scale": real(form.guidance_scale, "Guidance", 1, 30),
        "window_size": min(preset.window_size, num_steps - 1),
        "width": width,
        "height": height,
    }
    return _build(RolloutConfig, preset.model_dump() | fields)


def _update(form: RunForm, preset: UpdateConfig) -> UpdateConfig:
    """A guided reference is for runs without guidance of their own, and needs a KL to act."""
    kl_weight = real(form.kl_weight, "The KL weight", 0, 100)
    guided = real(form.guidance_scale, "Guidance", 1, 30) > 1
    fields = {
        "learning_rate": real(form.learning_rate, "The learning rate", 1e-7, 1),
        "kl_weight": kl_weight,
        "reference_guidance": None if guided or kl_weight == 0 else preset.reference_guidance,
        "kl_steps": preset.kl_steps if kl_weight else 0,
    }
    return _build(UpdateConfig, preset.model_dump() | fields)


def _lora(rank: int) -> LoraConfig:
    return _build(LoraConfig, {"rank": rank, "alpha": float(rank)})


def _people(minutes: float) -> PeopleConfig | None:
    return _build(PeopleConfig, {"timeout_minutes": minutes}) if minutes else None


def check_weights(weights: Mapping[str, object]) -> dict[str, float]:
    """Reads the reward weights; raises `Refused` when one is no number or all are zero."""
    read = {
        name: real(0 if value in (None, "") else value, f"The weight of {name}", -10, 10)
        for name, value in weights.items()
    }
    kept = {name: value for name, value in read.items() if value}
    if not kept:
        raise Refused(
            "All reward weights are zero, so there is nothing to learn: give at least one a weight."
        )
    return kept


def _build(model: type[_Model], fields: Mapping[str, object]) -> _Model:
    """Builds a config; what the checks above let through and the model does not becomes a sentence too."""
    try:
        return model(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = " ".join(str(part) for part in first["loc"]).replace("_", " ")
        raise Refused(f"{where or 'The settings'}: {first['msg'].removeprefix('Value error, ')}.") from error
