"""What rows say of where a checkpoint comes from, as its file for other programs tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from flowgrpo.config import RunConfig
from flowgrpo.filefacts import Origin, hash_of_prompts
from flowgrpo.runs import base_facts
from storage import ancestry
from storage.ancestry import Step
from storage.engine import Database
from storage.models import Run

USAGE = "Strength 1 is what was trained."


def origin_of(db: Database, checkpoint_id: str) -> Origin:
    """Of a run's checkpoint, or of an imported file, of which less is known. Raises LookupError."""
    line = ancestry.lineage_of(db, checkpoint_id)
    step = line.steps[0]
    made = step.checkpoint
    parent = line.steps[1].checkpoint.name if len(line.steps) > 1 else None
    training: dict[str, Any] = {"checkpoint_id": made.id, "base": line.base.name, "parent_checkpoint": parent}
    settings = _settings(step.run) if step.run is not None else None
    votes = _votes(step)
    if step.run is not None:
        training |= _training(step.run, settings) | {
            "update": made.update,
            "rewards": dict(step.rewards) or None,
            "n_votes": sum(votes.values()) or None,
        }
    return Origin(
        title=made.name,
        base=line.base.name,
        made_at=made.created_at,
        size=(settings.rollout.width, settings.rollout.height) if settings else None,
        prediction=base_facts.prediction(line.base),
        usage_hint=USAGE if step.run else "",
        training=training,
        is_tuned_here=step.run is not None,
        licence=base_facts.licence(line.base),
        prompt_set=f"{step.prompt_set.name} {step.prompt_set.version}" if step.prompt_set else "",
        num_prompts=step.num_prompts,
        votes=votes,
        drawn=_drawn(settings),
    )


def _votes(step: Step) -> Mapping[str, int]:
    """How they taught it, to how many; several sources may use the same ones, which count once."""
    ways = {one.hash: (one.how, one.count - one.taken_back) for one in step.votes}
    counted: Counter[str] = Counter()
    for how, count in ways.values():
        counted[how] += count
    return dict(counted)


def _drawn(settings: RunConfig | None) -> Mapping[str, float]:
    """Nothing where the run drew no images of its own."""
    if settings is None or settings.ratings is not None or settings.algorithm.name == "sft":
        return {}
    return {"steps": float(settings.rollout.num_steps), "guidance": settings.rollout.guidance_scale}


def _settings(run: Run) -> RunConfig | None:
    """The run's own, defaults and all; None where another release wrote what this one refuses."""
    try:
        return RunConfig.model_validate(run.config)
    except ValidationError:
        return None


def _training(run: Run, settings: RunConfig | None) -> dict[str, Any]:
    own = {"run_id": run.id, "run": run.name, "config_sha256": run.config_hash}
    if settings is None:
        return own
    return own | {
        "algorithm": settings.algorithm.name,
        "learning_rate": settings.update.learning_rate,
        "seed": settings.seed,
        "prompts_sha256": hash_of_prompts(settings.prompts),
    }
