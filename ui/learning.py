"""A run from ratings alone: freezes the votes, and queues what learns from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from flowgrpo.config import RunConfig
from flowgrpo.presets import RATED, rated
from storage import judged, prompts, runs, snapshots
from storage.models import Checkpoint, RatingEvent, Run
from ui.forms import Refused
from ui.services import LOCAL_USER, Services

MAX_PROMPTS = 16
"""Rated prompts that the run keeps, for its sample grids."""


@dataclass(frozen=True)
class Started:
    """A queued run.

    Attributes:
        left_out: rated groups that it does not learn from, since another base model drew them.
    """

    run: Run
    left_out: int


def start(
    services: Services,
    checkpoint_id: object,
    algorithm: object,
    num_updates: int,
    seed: int,
    name: str,
    who: str = LOCAL_USER,
) -> Started:
    """Queues the run, on the rated groups that the checkpoint's own base model drew.

    Raises:
        Refused: nobody has rated any of those, or there is no such algorithm.
        LookupError: no such checkpoint.
    """
    if not isinstance(algorithm, str) or algorithm not in RATED:
        raise Refused(f"A run from ratings takes {', '.join(RATED)}; choose one of them.")
    checkpoint = services.checkpoint(checkpoint_id)
    votes = snapshots.standing_votes(services.db)
    if not votes:
        raise Refused("Nobody has rated anything yet: rate some groups, then learn from them.")
    of_base, left_out = _of_base(services, checkpoint, votes)
    snapshot = snapshots.take_snapshot(services.db, of_base)
    groups = judged.judged_groups(services.db, {vote.group_id for vote in of_base})
    texts = tuple(dict.fromkeys(one.group.prompt for one in groups.values()))
    size = services.base_facts(checkpoint).size
    guided = any(one.group.config.get("guidance_scale", 1.0) > 1 for one in groups.values())
    preset = rated(texts[:MAX_PROMPTS], snapshot.id, num_updates, algorithm, drawn_with_guidance=guided)
    sampler = _usual([one.group.config for one in groups.values()])
    config = _config(preset, seed, {"width": size, "height": size, **sampler})
    known = prompts.set_holding(services.db, texts)
    run = runs.create_run(
        services.db,
        name=name.strip() or f"{len(groups)} rated groups, {num_updates} updates",
        owner_id=who,
        parent_checkpoint_id=checkpoint.id,
        config=config.model_dump(mode="json"),
        prompt_set_id=known.id if known else None,
    )
    return Started(run, left_out)


def _of_base(
    services: Services, checkpoint: Checkpoint, votes: list[RatingEvent]
) -> tuple[list[RatingEvent], int]:
    """The votes on images of the checkpoint's base model, and how many rated groups other ones drew."""
    groups = judged.judged_groups(services.db, {vote.group_id for vote in votes})
    made_by = {name: one.group.checkpoint_id for name, one in groups.items()}
    known = judged.checkpoints_of(services.db, set(made_by.values()))
    kin = {name for name, by in made_by.items() if known[by].base_model_id == checkpoint.base_model_id}
    if not kin:
        raise Refused(
            f"All {len(groups)} rated groups were drawn by other base models than that of {checkpoint.name}, "
            "and a run learns only from images of its own: rate groups of this model, or choose a checkpoint "
            "of the model whose images were rated."
        )
    return [vote for vote in votes if vote.group_id in kin], len(groups) - len(kin)


def _usual(configs: Collection[dict[str, Any]]) -> dict[str, Any]:
    """Steps and guidance that most rated groups were drawn with: what is learned is looked at alike."""
    counted = Counter((one.get("num_steps"), one.get("guidance_scale")) for one in configs)
    (steps, guidance), _ = counted.most_common(1)[0]
    return {} if steps is None or guidance is None else {"num_steps": steps, "guidance_scale": guidance}


def _config(preset: RunConfig, seed: int, sampler: dict[str, Any]) -> RunConfig:
    rollout = preset.rollout.model_copy(update=sampler)
    changes = {"rollout": rollout, "seed": seed}
    try:
        return RunConfig.model_validate(preset.model_copy(update=changes).model_dump())
    except ValidationError as error:
        raise Refused(error.errors(include_url=False)[0]["msg"]) from error
