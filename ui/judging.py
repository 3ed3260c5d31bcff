"""What a blind test and an evaluation both ask for: checkpoints, held-out prompts and seeds, checked; what is
drawn of it already, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowgrpo.config import RolloutConfig, SamplingConfig
from storage import checkpoints, prompts, runs
from storage.evaluations import found_images
from storage.models import Checkpoint, Run
from storage.models_judging import Job
from ui import forms
from ui.defaults import starter_prompts
from ui.forms import GroupForm, Refused
from ui.language import t
from ui.services import Services

STARTER = "starter"
"""The source of prompts that stands for the starter's own held-out ones."""
OF_RUN = "run:"
"""Before the id of a run whose own held-out prompts are meant."""
MAX_TYPED = 200
"""Prompts that are taken from a set into a form, where they can be read and changed."""
STEPS, GUIDANCE, SEEDS = 8, 1.0, "7"
LINE_BREAK = "↵"
"""Stands for a line break inside a prompt where prompts are written one a line, as in Compare."""


@dataclass(frozen=True)
class Bounds:
    """How much one kind of judging takes."""

    least: int
    most: int
    prompts: int
    images: int


@dataclass(frozen=True)
class Plan:
    """What is judged.

    Attributes:
        checkpoints: the first is what the others are held against.
        seeds: images of each prompt and checkpoint, the same for all.
        config: the same sampling for all.
    """

    checkpoints: tuple[Checkpoint, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    config: SamplingConfig

    @property
    def ids(self) -> list[str]:
        """Of the checkpoints."""
        return [one.id for one in self.checkpoints]

    @property
    def num_images(self) -> int:
        """All that it takes, drawn or not."""
        return len(self.checkpoints) * len(self.prompts) * len(self.seeds)

    def payload(self) -> dict[str, Any]:
        """As a job takes it."""
        return {
            "checkpoints": self.ids,
            "prompts": list(self.prompts),
            "seeds": list(self.seeds),
            "config": self.config.model_dump(),
        }


def check(
    services: Services,
    bounds: Bounds,
    checkpoint_ids: object,
    typed: object,
    count: object,
    num_steps: object,
    guidance_scale: object,
    seeds: object = SEEDS,
    negative: object = "",
    width: object = None,
    height: object = None,
) -> Plan:
    """Checks a form; raises `Refused` with the first thing that is wrong."""
    ids = list(dict.fromkeys(checkpoint_ids)) if isinstance(checkpoint_ids, list | tuple) else []
    if not bounds.least <= len(ids) <= bounds.most:
        raise Refused(f"Choose {bounds.least} to {bounds.most} checkpoints, not {len(ids)}.")
    rows = tuple(services.checkpoint(one) for one in ids)
    if len({row.base_model_id for row in rows}) > 1:
        raise Refused(
            "The chosen checkpoints have different bases, where one seed means two images: choose one base."
        )
    lines = prompts_of(typed)
    if not 1 <= len(lines) <= bounds.prompts:
        raise Refused(f"Write 1 to {bounds.prompts} prompts, one a line, not {len(lines)}.")
    columns = forms.whole(count, "Images per prompt", 1, bounds.images)
    first = str(seeds).strip() if seeds else ""
    form = GroupForm(
        prompt=lines[0],
        negative=negative,
        group_size=columns,
        seeds=first or SEEDS,
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        width=width,
        height=height,
    )
    request = services.check_group(rows[0].id, form)
    return Plan(rows, lines, request.seeds, request.config)


def prompts_of(typed: object) -> tuple[str, ...]:
    """One prompt a line, each with its own line breaks again."""
    lines = forms.prompt_lines(typed, "The prompts")
    read = [line.replace(LINE_BREAK, "\n").strip() for line in lines]
    return tuple(dict.fromkeys(one for one in read if one))


def missing(services: Services, plan: Plan) -> int:
    """How many of its images nobody has drawn yet."""
    config = plan.config.model_dump()
    there = [found_images(services.db, one, plan.prompts, config) for one in plan.ids]
    wanted = [(prompt, seed) for prompt in plan.prompts for seed in plan.seeds]
    return sum(cell not in found for found in there for cell in wanted)


def seconds_for(services: Services, config: SamplingConfig, images: int) -> float | None:
    """Seconds that so many images take; None when nothing was measured yet, or there are none to draw."""
    each = services.seconds_per_evaluation()
    passes = 2 if config.guidance_scale > 1 else 1
    return each * images * config.num_steps * passes if each is not None and images else None


def learned(services: Services, plan: Plan) -> str:
    """That a run learned with other settings than these, where one did; else empty."""
    run = run_of(services, plan.ids)
    steps, guidance, *_ = sampler_of(run)
    if run is None or (steps, guidance) == (plan.config.num_steps, plan.config.guidance_scale):
        return ""
    return t("judging.learned", run=run.number, steps=steps, guidance=f"{guidance:g}")


def config_of(job: Job) -> SamplingConfig:
    """How the images of a job are drawn."""
    return SamplingConfig.model_validate(job.payload["config"])


# What a form opens with


def first_choice(services: Services, asked: Sequence[str] = ()) -> list[str]:
    """The asked checkpoints; else the newest that a run made, after the one that the run began with; else the
    newest base."""
    known = checkpoints.list_checkpoints(services.db)
    wanted = [one for one in dict.fromkeys(asked) if any(one == row.id for row in known)]
    if wanted:
        return wanted
    tuned = [row for row in known if row.run_id is not None]
    if not tuned:
        return [row.id for row in known[-1:]]
    run = runs.get_run(services.db, str(tuned[-1].run_id))
    parent = [row.id for row in known if row.id == run.parent_checkpoint_id]
    return [*parent, tuned[-1].id]


def run_of(services: Services, ids: Sequence[str]) -> Run | None:
    """The run that made the last of these checkpoints that a run made."""
    rows = [checkpoints.get_checkpoint(services.db, one) for one in ids]
    made = next((row.run_id for row in reversed(rows) if row.run_id is not None), None)
    return runs.get_run(services.db, made) if made else None


def sampler_of(run: Run | None) -> tuple[int, float, int | None, int | None]:
    """Steps, guidance, width and height that a run learned with: what it learned shows there."""
    if run is None:
        return STEPS, GUIDANCE, None, None
    rollout = RolloutConfig.model_validate(run.config.get("rollout", {}))
    return rollout.num_steps, rollout.guidance_scale, rollout.width, rollout.height


def sources(services: Services, run: Run | None) -> list[tuple[str, str]]:
    """(what it is called, key) of everything that has held-out prompts: the run's own, prompt sets, and the
    starter's. The first is what a form opens with."""
    found = {
        one.id: (one, count)
        for one in prompts.list_prompt_sets(services.db)
        if (count := len(prompts.prompts_of(services.db, one.id, "held_out")))
    }
    sets = {key: t("judging.set", name=one.name, version=one.version, n=n) for key, (one, n) in found.items()}
    starter = t("judging.starter_prompts", n=len(starter_prompts()[1]))
    own = (run.config.get("held_out_prompts") or []) if run else []
    called = {OF_RUN + run.id: t("judging.run_prompts", run=run.number, n=len(own))} if run and own else {}
    first = [run.prompt_set_id] if run and run.prompt_set_id in sets else []
    named = called | sets | {STARTER: starter}
    order = [*first, *called, *([] if first or called else [STARTER])]
    return [(named[key], key) for key in dict.fromkeys([*order, *named]) if key]


def held_out(services: Services, source: object) -> tuple[str, str]:
    """(the held-out prompts of a source as lines, a sentence where they are not all of them)."""
    if source == STARTER or not isinstance(source, str):
        return lines_of(starter_prompts()[1]), ""
    if source.startswith(OF_RUN):
        found = list(runs.get_run(services.db, source.removeprefix(OF_RUN)).config["held_out_prompts"])
    else:
        found = [one.text for one in prompts.prompts_of(services.db, source, "held_out")]
    if len(found) <= MAX_TYPED:
        return lines_of(found), ""
    return lines_of(found[:MAX_TYPED]), t("judging.first_of", n=MAX_TYPED, total=f"{len(found):,}")


def lines_of(texts: Sequence[str]) -> str:
    """Prompts one a line, so that they are read back as the same prompts."""
    return "\n".join(one.replace("\n", LINE_BREAK) for one in texts)
