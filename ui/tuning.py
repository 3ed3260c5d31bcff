"""What the Train page starts: a checked form becomes a queued run. Plain functions over rows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from flowgrpo.config import DEFAULT_WEIGHTS, RunConfig
from storage import runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from ui import forms, weights
from ui.cards import reward_cards
from ui.forms import Refused, RunForm
from ui.preflight import Check, Facts, checks, standing_checks
from ui.run_words import title
from ui.services import LOCAL_USER, Services

REWARDS = (*DEFAULT_WEIGHTS, "diversity", "human")
"""Rewards that the form offers, in its order."""
MAX_NAME = 120


def preset_form(name: str, db: Database | None = None) -> RunForm:
    """The numbers of a preset; raises `Refused` for a name that is none.

    Args:
        db: where weights that were fitted to votes may be in use; they go before the preset's.
    """
    config = forms.preset_of(name)(("portrait",))
    assert config.lora is not None
    found = None if db is None or "human" in config.reward_weights else weights.fitted(db)
    return RunForm(
        preset=name,
        weights=config.reward_weights if found is None else found.weights,
        num_updates=config.num_updates,
        group_size=config.rollout.group_size,
        groups_per_update=config.rollout.groups_per_update,
        num_steps=config.rollout.num_steps,
        guidance_scale=config.rollout.guidance_scale,
        learning_rate=config.update.learning_rate,
        kl_weight=config.update.kl_weight,
        rank=config.lora.rank,
    )


def is_pooled(preset: str) -> bool:
    """Whether a preset weighs rewards by pooled stds; raises `Refused` for a name that is none."""
    return forms.preset_of(preset)(("portrait",)).advantages.std == "pooled"


def check(services: Services, checkpoint_id: object, form: RunForm) -> tuple[RunConfig, list[Check]]:
    """The config of a run and its preflight list; raises `Refused` when the form itself is wrong."""
    checkpoint = services.checkpoint(checkpoint_id)
    facts = services.base_facts(checkpoint)
    config = forms.check_run(form, width=facts.size, height=facts.size)
    return config, checks(config, _facts(services, checkpoint))


def standing(services: Services, checkpoint_id: object) -> list[Check]:
    """What is checked of any run, whatever it learns from: the base's files, the disk, the queue."""
    return standing_checks(_facts(services, services.checkpoint(checkpoint_id)))


def _facts(services: Services, checkpoint: Checkpoint) -> Facts:
    home = services.db.home
    return Facts(
        base=checkpoint.name,
        is_starter=services.base_facts(checkpoint).is_starter,
        free_bytes=shutil.disk_usage(home).free,
        seconds_per_evaluation=services.seconds_per_evaluation(),
        ahead=[
            title(run)
            for run in reversed(runs.list_runs(services.db))
            if run.state in (*runs.ACTIVE, "queued")
        ],
        checkpoint_is_there=checkpoint.path is None or (home / checkpoint.path).exists(),
        cards=reward_cards(services.db),
    )


def start(services: Services, checkpoint_id: object, form: RunForm, who: str = LOCAL_USER) -> Run:
    """Queues a run; raises `Refused` when the form or a preflight check stands against it."""
    config, found = check(services, checkpoint_id, form)
    refuse(found)
    return runs.create_run(
        services.db,
        name=typed_name(form) or named_after(config),
        owner_id=who,
        parent_checkpoint_id=str(checkpoint_id),
        config=weights.named(services.db, config).model_dump(mode="json"),
    )


def refuse(found: Sequence[Check]) -> None:
    """Raises `Refused` with the first line that stands against a run."""
    against = next((line for line in found if line.level == "bad"), None)
    if against:
        raise Refused(against.text)


def typed_name(form: RunForm) -> str:
    """What a run is to be called; empty for nothing, and `Refused` for too much."""
    name = form.name.strip()
    if len(name) > MAX_NAME:
        raise Refused(f"The name has {len(name)} characters; at most {MAX_NAME} are kept, so shorten it.")
    return name


def named_after(config: RunConfig) -> str:
    """After its main reward and its length."""
    main = max(config.reward_weights, key=lambda name: abs(config.reward_weights[name]))
    return f"{main}, {config.num_updates} updates"


def find(services: Services, run_id: object) -> Run | None:
    """A run by id; the newest one when there is no id; None when there is none."""
    if isinstance(run_id, str) and run_id:
        try:
            return runs.get_run(services.db, run_id)
        except LookupError:
            return None
    return next(iter(runs.list_runs(services.db)), None)
