"""Sample grids of a run: the averaged weights at fixed prompts and seeds, as groups of kind `sample`."""

from __future__ import annotations

from collections.abc import Callable

from flowgrpo.config import RunConfig, SamplingConfig
from flowgrpo.policies import Policy
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import denoise
from flowgrpo.runs.generation import BrokenImagesError, refuse_broken, store_image, store_scores
from flowgrpo.runs.runner import painter_id
from flowgrpo.seeds import group_seeds
from storage import groups
from storage.engine import Database
from storage.models import Run

MAX_PROMPTS = 4
_COUNTER = -1
"""In the place of an update number: the grid's seeds are the same at every update."""


def is_due(config: RunConfig, update: int) -> bool:
    """A grid is drawn at the start, at the end, and whenever `sample_every` updates have passed."""
    if config.samples == 0:
        return False
    step = config.update.updates_per_rollout
    passed = update // config.sample_every > max(update - step, 0) // config.sample_every
    return update == 0 or update >= config.num_updates or passed


def plan(config: RunConfig) -> list[tuple[str, list[int]]]:
    """Prompts and their seeds: the first held-out prompts, `samples` images in all."""
    prompts = (config.held_out_prompts or config.prompts)[: min(MAX_PROMPTS, config.samples)]
    shares = [len(range(i, config.samples, len(prompts))) for i in range(len(prompts))]
    return [
        (p, group_seeds(config.seed, _COUNTER, i, n))
        for i, (p, n) in enumerate(zip(prompts, shares, strict=True))
    ]


def draw(
    db: Database,
    run: Run,
    config: RunConfig,
    update: int,
    *,
    policy: Policy,
    stack: RewardStack,
    checkpoint_id: str,
    tick: Callable[[], None],
) -> dict[str, float]:
    """Draws and stores the grid of an update; returns `held_out/<reward>`, its mean scores.

    Args:
        policy: with the weights to show already in place.
        checkpoint_id: what the rows name as their checkpoint.
        tick: called after each network call; what it raises ends the grid.

    Raises:
        BrokenImagesError: an image is not finite; its group has failed, and the grid has no later ones.
    """
    rollout = config.rollout
    sampling = SamplingConfig(
        num_steps=rollout.num_steps,
        guidance_scale=rollout.guidance_scale,
        width=rollout.width,
        height=rollout.height,
    )
    columns: dict[str, list[float]] = {}
    for prompt, seeds in plan(config):
        group = groups.request_group(
            db, prompt=prompt, checkpoint_id=checkpoint_id, config=sampling.model_dump(), seeds=seeds,
            kind="sample", run_id=run.id, update=update, worker_id=painter_id(run.id),
        )  # fmt: skip
        for step in denoise(policy, [prompt] * len(seeds), seeds=seeds, **sampling.model_dump()):
            tick()
            drawn = step.rollout
        assert drawn is not None
        model = f"Run {run.number} · update {update}"
        try:
            refuse_broken(drawn, model)
        except BrokenImagesError as error:
            groups.fail_group(db, group.id, str(error))
            raise
        pixels = list(drawn.images_uint8.cpu())
        images = [store_image(db, group, i, image, sampling, model) for i, image in enumerate(pixels)]
        for name, values in store_scores(db, stack, group, images, pixels).items():
            columns.setdefault(name, []).extend(value for value in values if value is not None)
        groups.finish_group(db, group.id)
    return {f"held_out/{name}": sum(values) / len(values) for name, values in columns.items() if values}


def is_drawn(db: Database, run: Run, update: int) -> bool:
    """Whether an earlier attempt finished the grid of this update."""
    made = [view.group.state for view in groups.groups_of_run(db, run.id) if view.group.update == update]
    return "done" in made
