"""The API of evaluations: `evaluate` queues one, `get_evaluation` tells how it goes and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from storage import evaluations, jobs
from storage.models_judging import Job
from ui import forms
from ui.forms import GroupForm, Refused
from ui.guarding import caller
from ui.services import Services

Said = Callable[[Callable[[], dict[str, Any]]], dict[str, Any]]
"""Runs a piece of work; what a page would show becomes an API error."""
_TEXTS = ("markdown", "csv", "latex")
_MAX_STEPS = 150


def add(services: Services, said: Said) -> None:
    """Adds the endpoints to the Blocks in whose context it is called."""
    for endpoint in (_evaluate(services, said), _get_evaluation(services, said)):
        gr.api(endpoint, api_name=endpoint.__name__, queue=False)


def job_dict(services: Services, job: Job, form: str = "") -> dict[str, Any]:
    """A job as JSON; `text` is its table in one of the forms, once it is done."""
    told: dict[str, Any] = {
        "id": job.id,
        "state": job.state,
        "phase": job.phase,
        "done": job.done,
        "total": job.total,
        "ahead": jobs.jobs_ahead(services.db, job.id),
        "reason": job.reason,
        "result": job.result,
    }
    if form and job.result:
        told["text"] = _file(services, job, form).read_text(encoding="utf-8")
    return told


def _file(services: Services, job: Job, form: str) -> Path:
    if form not in _TEXTS:
        raise Refused(f"A table comes as {', '.join(_TEXTS)}, not as “{form[:24]}”.")
    path = services.db.home / "evaluations" / job.id / str((job.result or {})["files"][form])
    if not path.is_file():
        raise Refused("The files of this evaluation are gone: ask for it again, which takes seconds.")
    return path


def _evaluate(services: Services, said: Said) -> Callable[..., dict[str, Any]]:
    def evaluate(
        checkpoint_ids: list[str],
        prompts: list[str],
        seeds: str = "0-3",
        images: int = 4,
        num_steps: int = 16,
        guidance_scale: float = 3.0,
        steps: list[int] | None = None,
        metrics: list[str] | None = None,
        allow_small_fid: bool = False,
        negative_prompt: str = "",
        width: int = 0,
        height: int = 0,
        prompt_set: str = "",
    ) -> dict[str, Any]:
        """Queues an evaluation of checkpoints on prompts at equal seeds and returns its job at once; ask
        get_evaluation until it is "done". What exists is not drawn again.

        Args:
            checkpoint_ids: 1 to 16 of one base; the others are held against the first.
            prompts: held-out ones, each once, at most 10,000; none where a prompt_set is named.
            seeds: the same for all, as in generate_group; never new ones.
            images: per prompt and checkpoint, as many as there are seeds.
            num_steps: denoising steps.
            guidance_scale: 1 for none.
            steps: several numbers of steps for a sweep: quality against steps and seconds.
            metrics: names to measure; the usual ones when left out.
            allow_small_fid: show FID, precision and recall of few images too, with a label.
            negative_prompt: what guidance steers away from.
            width: pixels, a multiple of the base's VAE factor; 0 for the base's own size.
            height: pixels, as width.
            prompt_set: id of a prompt set, whose held-out prompts are taken.
        """

        form = GroupForm(
            prompt=str(prompts[0]) if prompts else "portrait",
            negative=negative_prompt,
            group_size=images,
            seeds=seeds.strip() or "0",
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            width=width or None,
            height=height or None,
        )
        asked = {"prompts": [str(prompt) for prompt in prompts], "prompt_set": prompt_set or None,
                 "metrics": metrics, "allow_small_fid": bool(allow_small_fid)}  # fmt: skip
        return said(lambda: _requested(services, checkpoint_ids, form, asked, steps or []))

    return evaluate


def _requested(
    services: Services, checkpoint_ids: list[str], form: GroupForm, asked: dict[str, Any], steps: list[int]
) -> dict[str, Any]:
    if not checkpoint_ids:
        raise Refused("Choose 1 to 16 checkpoints, not 0.")
    request = services.check_group(checkpoint_ids[0], form)
    payload = asked | {
        "checkpoints": [services.checkpoint(one).id for one in checkpoint_ids],
        "seeds": list(request.seeds),
        "config": request.config.model_dump(),
        "steps": [forms.whole(one, "A number of steps", 1, _MAX_STEPS) for one in steps],
    }
    return job_dict(services, evaluations.request_evaluation(services.db, payload, caller(services.db).id))


def _get_evaluation(services: Services, said: Said) -> Callable[..., dict[str, Any]]:
    def get_evaluation(job_id: str, form: str = "") -> dict[str, Any]:
        """Returns an evaluation: its state, how far it is, and when it is done the table as "result".

        Args:
            job_id: from evaluate.
            form: "markdown", "csv" or "latex" for the table as "text" too.
        """

        def work() -> dict[str, Any]:
            job = jobs.get_job(services.db, job_id)
            if job.kind != evaluations.KIND:
                raise Refused("This job is no evaluation.")
            return job_dict(services, job, form)

        return said(work)

    return get_evaluation
