"""A run from ratings alone: freezes the votes, and queues what learns from them."""

from __future__ import annotations

from pydantic import ValidationError

from flowgrpo.config import RunConfig
from flowgrpo.presets import RATED, rated
from storage import judged, runs, snapshots
from storage.models import Run
from ui.forms import Refused
from ui.services import LOCAL_USER, Services

MAX_PROMPTS = 16
"""Rated prompts that the run keeps, for its sample grids."""


def start(
    services: Services, checkpoint_id: object, algorithm: object, num_updates: int, seed: int, name: str
) -> Run:
    """Queues the run.

    Raises:
        Refused: nobody has rated anything, or there is no such algorithm.
        LookupError: no such checkpoint.
    """
    if algorithm not in RATED:
        raise Refused(f"A run from ratings takes {', '.join(RATED)}; choose one of them.")
    checkpoint = services.checkpoint(checkpoint_id)
    votes = snapshots.standing_votes(services.db)
    if not votes:
        raise Refused("Nobody has rated anything yet: rate some groups, then learn from them.")
    snapshot = snapshots.take_snapshot(services.db, votes)
    groups = judged.judged_groups(services.db, {vote.group_id for vote in votes})
    prompts = tuple(dict.fromkeys(one.group.prompt for one in groups.values()))
    size = services.base_facts(checkpoint).size
    config = _config(prompts[:MAX_PROMPTS], snapshot.id, str(algorithm), num_updates, seed, size)
    return runs.create_run(
        services.db,
        name=name.strip() or f"{len(groups)} rated groups, {num_updates} updates",
        owner_id=LOCAL_USER,
        parent_checkpoint_id=checkpoint.id,
        config=config.model_dump(mode="json"),
    )


def _config(
    prompts: tuple[str, ...], snapshot: str, algorithm: str, num_updates: int, seed: int, size: int
) -> RunConfig:
    preset = rated(prompts, snapshot, num_updates, algorithm)
    rollout = preset.rollout.model_copy(update={"width": size, "height": size})
    changes = {"rollout": rollout, "seed": seed}
    try:
        return RunConfig.model_validate(preset.model_copy(update=changes).model_dump())
    except ValidationError as error:
        raise Refused(error.errors(include_url=False)[0]["msg"]) from error
