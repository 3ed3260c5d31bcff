"""Several groups at once: checkpoints at the same seeds, prompts of a set. Planned first, then queued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowgrpo.config import SamplingConfig
from storage import groups, prompts, quotas
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, ImageGroup
from ui import forms
from ui.components import span
from ui.forms import GroupForm, GroupRequest, Refused
from ui.language import t
from ui.services import Services, evaluations

MAX_IMAGES = 2_000
"""Asked for by one click."""
OTHERS = 4
"""Checkpoints that "same seeds, other checkpoints" suggests, the newest first."""


@dataclass(frozen=True)
class Wanted:
    """One group that may be queued as it stands."""

    checkpoint: Checkpoint
    request: GroupRequest


def plan(services: Services, checkpoint_ids: object, form: GroupForm, texts: Sequence[str]) -> list[Wanted]:
    """What one click asks for: each prompt with each checkpoint, all at the same seeds.

    Args:
        checkpoint_ids: one id or a list of them.
        texts: prompts in place of the form's own; none for that one.

    Raises:
        Refused: the first thing that is wrong.
    """
    chosen = [checkpoint_ids] if isinstance(checkpoint_ids, str) else checkpoint_ids
    if not isinstance(chosen, list | tuple) or not chosen:
        raise Refused("No checkpoint is chosen: choose one from the list.")
    bases = [(one, services.base_facts(one)) for one in map(services.checkpoint, dict.fromkeys(chosen))]
    made: list[Wanted] = []
    for text in texts or (form.prompt,):
        for checkpoint, facts in bases:
            asked = replace(form, prompt=text)
            made.append(Wanted(checkpoint, forms.check_group(asked, factor=facts.factor, size=facts.size)))
    seeds = made[0].request.seeds
    count = len(made) * len(seeds)
    if count > MAX_IMAGES:
        raise Refused(
            f"That is {count:,} images; at most {MAX_IMAGES:,} are asked for at once: "
            "choose fewer prompts, fewer checkpoints or a smaller group."
        )
    return [replace(one, request=replace(one.request, seeds=seeds)) for one in made]


def queue(db: Database, wanted: Sequence[Wanted], by: str) -> list[ImageGroup]:
    """Queues what was planned, in its order: all of it, or nothing where the disk or a quota is reached."""
    quotas.check_images(db, by, sum(len(one.request.seeds) for one in wanted))
    return [
        groups.request_group(
            db,
            prompt=one.request.prompt,
            checkpoint_id=one.checkpoint.id,
            config=one.request.config.model_dump(),
            seeds=one.request.seeds,
            created_by=by,
        )
        for one in wanted
    ]


def plan_words(services: Services, wanted: Sequence[Wanted]) -> str:
    """How many images a click makes and about how long they take; empty for a single group."""
    if len(wanted) < 2:
        return ""
    images = sum(len(one.request.seeds) for one in wanted)
    each = services.seconds_per_evaluation()
    if each is None:
        return t("studio.plan", groups=len(wanted), images=f"{images:,}")
    seconds = each * sum(_evaluations(one.request) for one in wanted)
    return t("studio.plan_time", groups=len(wanted), images=f"{images:,}", time=span(seconds))


def _evaluations(request: GroupRequest) -> int:
    return evaluations(ImageGroup(seeds=list(request.seeds), config=request.config.model_dump()))


def texts_of(db: Database, prompt_set_id: object) -> list[str]:
    """The prompts of a set, those that are held out last; none where no set is chosen.

    Raises:
        Refused: there is no such set.
    """
    if not isinstance(prompt_set_id, str) or not prompt_set_id:
        return []
    try:
        rows = prompts.prompts_of(db, prompt_set_id, "train")
        rows += prompts.prompts_of(db, prompt_set_id, "held_out")
    except LookupError as error:
        raise Refused("That prompt set is not known here: choose one from the list.") from error
    return list(dict.fromkeys(row.text for row in rows))


def chosen_texts(db: Database, prompt_set_id: object, chosen: object) -> list[str]:
    """Those prompts of a set that were chosen; where none was, those to train on: what is drawn in the Studio
    is rated and learned from, and a held-out prompt would not be one any more.
    """
    texts = texts_of(db, prompt_set_id)
    named = set(chosen) if isinstance(chosen, list | tuple) else set()
    if named or not texts:
        return [text for text in texts if text in named]
    return list(dict.fromkeys(row.text for row in prompts.prompts_of(db, str(prompt_set_id), "train")))


def prompt_sets(db: Database) -> list[tuple[str, str]]:
    """(name, id) of every set, its newest version."""
    return [(one.name, one.id) for one in prompts.list_prompt_sets(db)]


def more_like(services: Services, view: GroupView, by: str) -> ImageGroup:
    """Queues the same prompt and settings with fresh seeds."""
    services.checkpoint(view.checkpoint.id)
    request = GroupRequest(
        view.group.prompt,
        SamplingConfig(**view.group.config),
        forms.parse_seeds("", len(view.group.seeds)),
    )
    return queue(services.db, [Wanted(view.checkpoint, request)], by)[0]


def others_than(services: Services, view: GroupView) -> list[str]:
    """The newest checkpoints of the same base beside the group's own, which comes first.

    Raises:
        Refused: there is no other.
    """
    mine = view.checkpoint
    known = [services.checkpoint(one) for _, one in services.choices()]
    same = [one.id for one in known if one.base_model_id == mine.base_model_id and one.id != mine.id]
    if not same:
        raise Refused("There is no other checkpoint of this base yet: a run on the Train page makes them.")
    return [mine.id, *same[:OTHERS]]


def form_of(view: GroupView) -> dict[str, Any]:
    """The form's fields that ask for exactly this group's images, its seeds aside."""
    config = view.group.config
    return {
        "prompt": view.group.prompt,
        "negative": config["negative_prompt"],
        "checkpoint": [view.checkpoint.id],
        "num_steps": config["num_steps"],
        "guidance_scale": config["guidance_scale"],
        "width": config["width"],
        "height": config["height"],
        "group_size": len(view.group.seeds),
    }
