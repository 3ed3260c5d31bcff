"""The grid of Compare in the browser's address: read when it is opened, written as it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from flowgrpo.config import RolloutConfig
from storage import checkpoints, prompts, runs
from storage.groups import GroupView
from storage.models import Checkpoint, Split
from ui import comparing
from ui.comparing import MAX_PROMPTS, one_line
from ui.defaults import starter_prompts
from ui.forms import show_seeds
from ui.language import t
from ui.services import Services

NAMES = ("checkpoints", "prompts", "seeds", "images", "steps", "guidance", "negative", "width", "height")
"""Of the form's fields in the address, in the order of `comparing.check`."""
_TEXTS = ("prompts", "seeds", "negative")
FIRST_PROMPTS = "\n".join(starter_prompts()[1][:4])
"""What the form opens with; an address leaves it out."""
MAX_ADDRESS = 6000
"""Characters of prompts that still go into an address."""
_SPLITS: tuple[Split, ...] = ("held_out", "train")


@dataclass(frozen=True)
class SetPrompts:
    """What a prompt set puts into the form.

    Attributes:
        lines: as they are typed.
        total: prompts of that split of the set.
    """

    name: str
    lines: tuple[str, ...]
    total: int


# The prompt set


def set_choices(services: Services) -> list[tuple[str, str]]:
    """(name, "id:split") of every split of a prompt set that has prompts."""
    found = [(t("compare.no_set"), "")]
    for one in prompts.list_prompt_sets(services.db):
        for split in _SPLITS:
            if count := len(prompts.prompts_of(services.db, one.id, split)):
                words = t(f"compare.set_{split}", name=one.name, version=one.version, n=count)
                found.append((words, f"{one.id}:{split}"))
    return found


def set_prompts(services: Services, source: object) -> SetPrompts | None:
    """The first prompts of a choice of `set_choices`; None where there is no such set any more."""
    set_id, _, asked = source.partition(":") if isinstance(source, str) else ("", "", "")
    split = next((one for one in _SPLITS if one == asked), None)
    name = next((one.name for one in prompts.list_prompt_sets(services.db) if one.id == set_id), None)
    if split is None or name is None:
        return None
    rows = prompts.prompts_of(services.db, set_id, split)
    return SetPrompts(name, tuple(one_line(row.text) for row in rows[:MAX_PROMPTS]), len(rows))


def asked_set(services: Services, query: Mapping[str, str]) -> str:
    """The choice of `set_choices` that the address names."""
    asked = query.get("set", "")
    return asked if set_prompts(services, asked) else ""


# Reading


def page_of(query: Mapping[str, str]) -> int:
    """The page of the table, from 0."""
    asked = query.get("page", "")
    return int(asked) if asked.isdecimal() and len(asked) < 4 else 0


def first_choice(services: Services, chosen: Checkpoint | None = None) -> list[str]:
    """A checkpoint after its base: the chosen one, or the newest where none or the base itself is chosen."""
    known = checkpoints.list_checkpoints(services.db)
    chosen = chosen or next(reversed(known), None)
    kin = [one for one in known if chosen and one.base_model_id == chosen.base_model_id]
    tuned = [one.id for one in kin if one.run_id is not None]
    other = [chosen.id] if chosen and chosen.id in tuned else tuned[-1:]
    return [*(one.id for one in kin if one.run_id is None), *other]


def opening(services: Services, query: Mapping[str, str]) -> tuple[Any, ...]:
    """The form as the address asks for it: field by field, or `?checkpoints=a,b` alone, drawn as their run
    draws, or `?group=a`, else the base and the newest checkpoint."""
    choices = services.choices()
    known = {checkpoint_id for _, checkpoint_id in choices}
    view = services.group(query.get("group"))
    if view is not None:
        return _chosen(choices, first_choice(services, view.checkpoint)), *fields_of(view)
    asked = [one for one in query.get("checkpoints", "").split(",") if one in known]
    fields = zip(NAMES[1:], _sampler_of(services, asked), strict=True)
    chosen = set_prompts(services, query.get("set"))
    said = {**query, "prompts": "\n".join(chosen.lines)} if chosen else query
    typed = [_said(name, said[name]) if name in said else usual for name, usual in fields]
    return _chosen(choices, asked or first_choice(services)), *typed


def _said(name: str, value: str) -> Any:
    """A field as the address says it; a number that is none is left as the form has it."""
    if name in _TEXTS:
        return value
    if not value:
        return None
    try:
        return float(value) if name == "guidance" else int(value)
    except ValueError:
        return gr.skip()


def _sampler_of(services: Services, asked: list[str]) -> tuple[Any, ...]:
    """Steps, guidance and size that the run of the last checkpoint learned with, after prompts, seeds and
    count; what it learned shows there, and a policy that was held to a guided base needs no guidance."""
    made = [checkpoints.get_checkpoint(services.db, one) for one in asked]
    run_id = next((one.run_id for one in reversed(made) if one.run_id is not None), None)
    if run_id is None:
        return (gr.skip(),) * (len(NAMES) - 1)
    rollout = RolloutConfig.model_validate(runs.get_run(services.db, run_id).config.get("rollout", {}))
    return (
        *[gr.skip()] * 3,
        rollout.num_steps,
        rollout.guidance_scale,
        gr.skip(),
        rollout.width,
        rollout.height,
    )


def _chosen(choices: list[tuple[str, str]], ids: list[str]) -> gr.Dropdown:
    return gr.Dropdown(choices=choices, value=ids, multiselect=True)


def fields_of(view: GroupView) -> tuple[Any, ...]:
    """The form that finds exactly this group, without its checkpoints."""
    config = view.group.config
    return (
        comparing.one_line(view.group.prompt),
        show_seeds(view.group.seeds),
        len(view.group.seeds),
        config["num_steps"],
        config["guidance_scale"],
        config["negative_prompt"],
        config["width"],
        config["height"],
    )


# Writing


def address_of(
    services: Services, page: int, source: object, typed: tuple[Any, ...]
) -> tuple[str, list[str]]:
    """The query that opens this form again, and what a person should know of it."""
    said = {name: written(value) for name, value in zip(NAMES, typed, strict=True)}
    notes = []
    chosen = set_prompts(services, source)
    if chosen and tuple(said["prompts"].splitlines()) == chosen.lines:
        said["set"] = str(source)
        if chosen.total > len(chosen.lines):
            notes.append(t("compare.set_cut", n=len(chosen.lines), total=chosen.total, name=chosen.name))
        del said["prompts"]
    elif said["prompts"] == FIRST_PROMPTS:
        del said["prompts"]
    elif len(urlencode({"": said["prompts"]})) > MAX_ADDRESS:
        notes.append(t("compare.too_long"))
        del said["prompts"]
    if not said["negative"]:
        del said["negative"]
    if page:
        said["page"] = str(page)
    return urlencode({"tab": "grid", **said}), notes


def written(value: object) -> str:
    """A field's value in an address."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)
