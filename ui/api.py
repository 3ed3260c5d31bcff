"""The public API of the journeys, by the names that stay stable; everything else in the app is private.

`gradio_client.Client("http://127.0.0.1:7860").predict(..., api_name="/generate_group")` calls one. A request
that cannot be done comes back as an error whose text is a sentence.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from storage import checkpoints, ratings, runs
from storage.groups import GroupView
from storage.models import Run
from ui import api_evaluation, api_judging, api_learning, comparing, rating, run_words, tuning
from ui.asking import question_of
from ui.components import strip
from ui.forms import GroupForm, Refused, RunForm
from ui.guarding import caller, demand
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

_Result = TypeVar("_Result")


def add(services: Services) -> None:
    """Adds the endpoints to the Blocks in whose context it is called.

    They pass Gradio's queue by: each is a read or one transaction, and the queue costs more than that.
    """
    for endpoint in (
        _generate_group(services),
        _get_group(services),
        _next_task(services),
        _rate(services),
        _start_run(services),
        _get_run(services),
        _stop_run(services),
        _list_checkpoints(services),
        _compare(services),
        *api_judging.endpoints(services, _said),
        *api_learning.endpoints(services, _said),
    ):
        gr.api(endpoint, api_name=endpoint.__name__, queue=False)
    api_evaluation.add(services, _said)


def _said(work: Callable[[], _Result]) -> _Result:
    """Turns what a page would show into an API error; its text is shown as HTML, so it is escaped."""
    try:
        return work()
    except SHOWN_ERRORS as error:
        raise gr.Error(html.escape(shown(error)), print_exception=False) from error


def group_dict(view: GroupView, *, blind: bool = False) -> dict[str, Any]:
    """A group as JSON. Blind: without checkpoint, scores and earlier ratings, for people who are about to
    judge."""
    record = view.group
    images: list[dict[str, Any]] = [
        {"id": image.image.id, "seed": image.image.seed, "url": f"/media/{image.image.id}.png"}
        for image in view.images
    ]
    if blind:
        return {
            "id": record.id,
            "prompt": record.prompt,
            "images": [{"id": one["id"], "url": one["url"]} for one in images],
        }
    for one, image in zip(images, view.images, strict=True):
        one["scores"] = {name: strip.value_of(image, name) for name in image.scores}
        one |= {"stars": image.stars, "best": image.best}
    return {
        "id": record.id,
        "number": record.seq,
        "state": record.state,
        "phase": record.phase,
        "reason": record.reason,
        "prompt": record.prompt,
        "checkpoint": view.checkpoint.id,
        "config": record.config,
        "seeds": record.seeds,
        "images": images,
    }


def run_dict(services: Services, run: Run) -> dict[str, Any]:
    """A run as JSON, with its newest metrics and the checkpoints that it made."""
    beat = runs.beat_of(services.db, run.id)
    question = question_of(services.db, run)
    latest = {metric.name: metric.value for metric in runs.metrics_since(services.db, run.id, -1)}
    made = [one for one in checkpoints.list_checkpoints(services.db) if one.run_id == run.id]
    return {
        "id": run.id,
        "number": run.number,
        "name": run.name,
        "state": run.state,
        "reason": run.reason,
        "update": beat.update if beat else 0,
        "num_updates": run.config.get("num_updates"),
        "seconds_left": run_words.seconds_left(run, beat),
        "question": vars(question) if question else None,
        "metrics": latest,
        "checkpoints": [{"id": one.id, "name": one.name, "update": one.update} for one in made],
    }


def _found_run(services: Services, run_id: str) -> Run:
    run = tuning.find(services, run_id) if run_id else None
    if run is None:
        raise Refused("There is no run with this id.")
    return run


def _generate_group(services: Services) -> Callable[..., dict[str, Any]]:
    def generate_group(
        prompt: str,
        checkpoint: str,
        group_size: int = 8,
        seeds: str = "",
        num_steps: int = 16,
        guidance_scale: float = 3.0,
        negative_prompt: str = "",
        width: int = 0,
        height: int = 0,
    ) -> dict[str, Any]:
        """Queues a group of images of one prompt and returns it; ask get_group until it is "done".

        Args:
            prompt: what the images should show, at most 2,000 characters.
            checkpoint: id from list_checkpoints.
            group_size: images, 1 to 64.
            seeds: empty for new ones, "4021" to count up from, "4021-4028", or a list "3, 5, 8".
            num_steps: denoising steps, 1 to 150.
            guidance_scale: 1 for none, up to 30.
            negative_prompt: what guidance steers away from.
            width: pixels, a multiple of the base's VAE factor; 0 for the base's own size.
            height: pixels, as width.
        """

        def work() -> dict[str, Any]:
            form = GroupForm(
                prompt=prompt,
                negative=negative_prompt,
                group_size=group_size,
                seeds=seeds,
                num_steps=num_steps,
                guidance_scale=guidance_scale,
                width=width or None,
                height=height or None,
            )
            made = services.generate(checkpoint, form, caller(services.db).id)
            return _group(services, made.id)

        return _said(work)

    return generate_group


def _group(services: Services, group_id: str) -> dict[str, Any]:
    view = services.group(group_id)
    if view is None:
        raise Refused("There is no group with this id.")
    return group_dict(view)


def _get_group(services: Services) -> Callable[..., dict[str, Any]]:
    def get_group(group_id: str) -> dict[str, Any]:
        """Returns a group: its state, its images with scores, and its current ratings."""
        return _said(lambda: _group(services, group_id))

    return get_group


def _next_task(services: Services) -> Callable[..., dict[str, Any]]:
    def next_task(request: gr.Request) -> dict[str, Any]:
        """Leases the next group to rate, blind (no scores, no checkpoint); {} when there is nothing to
        rate."""
        view = _said(lambda: ratings.next_task(services.db, person_of(services.db, request).id))
        return group_dict(view, blind=True) if view else {}

    return next_task


def _rate(services: Services) -> Callable[..., dict[str, Any]]:
    def rate(
        request: gr.Request,
        group_id: str,
        client_key: str,
        best: str = "",
        stars: dict[str, Any] | None = None,
        skip: bool = False,
        pair: dict[str, Any] | None = None,
        rank: list[Any] | None = None,
        flags: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Keeps a rating of a whole group and returns the next task, {} when there is none.

        Args:
            group_id: the group.
            client_key: 8 to 48 characters, new for each rating; a repeat with the same key counts once.
            best: image id of the best one, or empty.
            stars: image id to 1..5.
            skip: gives the group back unjudged.
            pair: {"left": image id, "right": image id, "outcome": "left", "right", "tie" or "bad"}.
            rank: image ids, best first, two at least; ids that tie stand in a list of their own.
            flags: image id, or "" for the whole group, to a list of "broken", "wrong_prompt", "unsafe",
                "other"; or to {"flags": that list, "note": text}. An empty list takes flags back.
        """

        def work() -> GroupView | None:
            answer = rating.read_answer(
                group_id, client_key, best or None, stars or {}, None, pair=pair, rank=rank, flags=flags
            )
            keep = rating.skip if skip else rating.submit
            return keep(services.db, person_of(services.db, request).id, answer)

        following = _said(work)
        return group_dict(following, blind=True) if following else {}

    return rate


def _start_run(services: Services) -> Callable[..., dict[str, Any]]:
    def start_run(
        checkpoint: str,
        prompts: list[str],
        held_out: list[str] | None = None,
        preset: str = "fast and faithful",
        weights: dict[str, Any] | None = None,
        num_updates: int = 0,
        name: str = "",
        people_minutes: float = 0,
        judges: list[str] | None = None,
        references: str = "",
    ) -> dict[str, Any]:
        """Queues a FlowGRPO run and returns it at once; ask get_run how it goes.

        Args:
            checkpoint: id to start from.
            prompts: training prompts.
            held_out: prompts that are never trained on.
            preset: "smoke", "fast and faithful", "thorough" or "your taste".
            weights: reward name to weight; when left out, those that apply_fit put to use, else the preset's.
            num_updates: optimiser updates; 0 for the preset's.
            name: what the run is called.
            people_minutes: how long it waits for people to rate each of its rollouts; 0 asks nobody.
            judges: rewards that judge the sample grids and never reward; when left out, the studio's own.
            references: folder of wanted images on the studio's machine, each with its prompt as caption, for
                rewards such as lpips_ref to hold images to; when left out, the base's of the same seed.
        """

        def work() -> dict[str, Any]:
            form = vars(tuning.preset_form(preset, services.db)) | {
                "name": name,
                "prompts": _lines(prompts),
                "held_out": _lines(held_out or []),
                "people_minutes": people_minutes,
                "judges": judges or [],
                "references": references,
            }
            form |= ({"weights": weights} if weights is not None else {}) | (
                {"num_updates": num_updates} if num_updates else {}
            )
            who = caller(services.db).id
            return run_dict(services, tuning.start(services, checkpoint, RunForm(**form), who))

        return _said(work)

    return start_run


def _lines(prompts: list[str]) -> str:
    return "\n".join(str(prompt).replace("\n", " ") for prompt in prompts)


def _get_run(services: Services) -> Callable[..., dict[str, Any]]:
    def get_run(run_id: str) -> dict[str, Any]:
        """Returns a run: state, update, seconds left, newest metrics, checkpoints; and the question of an
        alarm that paused it, with the groups to compare and the update that it may go back to."""
        return _said(lambda: run_dict(services, _found_run(services, run_id)))

    return get_run


def _stop_run(services: Services) -> Callable[..., dict[str, Any]]:
    def stop_run(run_id: str) -> dict[str, Any]:
        """Asks a run to save a checkpoint and stop; a waiting one is canceled."""
        return _said(
            lambda: run_dict(services, runs.request_stop(services.db, _found_run(services, run_id).id))
        )

    return stop_run


def _list_checkpoints(services: Services) -> Callable[..., list[dict[str, Any]]]:
    def list_checkpoints() -> list[dict[str, Any]]:
        """Returns every checkpoint that can generate, oldest first; a base has no run."""
        return [
            {"id": one.id, "name": one.name, "run": one.run_id, "update": one.update, "parent": one.parent_id}
            for one in checkpoints.list_checkpoints(services.db)
        ]

    return list_checkpoints


def _compare(services: Services) -> Callable[..., dict[str, Any]]:
    def compare(
        checkpoint_ids: list[str],
        prompts: list[str],
        seeds: str = "7",
        images: int = 6,
        num_steps: int = 8,
        guidance_scale: float = 1.0,
        generate: bool = False,
        negative_prompt: str = "",
        width: int = 0,
        height: int = 0,
    ) -> dict[str, Any]:
        """Returns checkpoints x prompts at the same seeds: what exists, what is missing, the differences, and
        which of the prompts taught a checkpoint (`trained_on`).

        Args:
            checkpoint_ids: the first is what the others are measured against.
            prompts: at most 24.
            seeds: as in generate_group; never new ones.
            images: per prompt, 1 to 64.
            num_steps: denoising steps.
            guidance_scale: 1 for none.
            generate: queue what is missing.
            negative_prompt: what guidance steers away from.
            width: pixels, a multiple of the base's VAE factor; 0 for the base's own size.
            height: pixels, as width.
        """

        def work() -> dict[str, Any]:
            plan = comparing.check(
                services,
                checkpoint_ids,
                "\n".join(comparing.one_line(str(prompt)) for prompt in prompts),
                seeds,
                images,
                num_steps,
                guidance_scale,
                negative_prompt,
                width or None,
                height or None,
            )
            if generate:
                demand(services.db, "make")
                comparing.generate_missing(services, plan, caller(services.db).id)
            return _grid_dict(services, plan)

        return _said(work)

    return compare


def _grid_dict(services: Services, plan: comparing.Plan) -> dict[str, Any]:
    grid = comparing.cells(services, plan)
    rows = range(1, len(plan.checkpoints))
    return {
        "missing": len(comparing.missing(grid)),
        "groups": [[group_dict(cell.view) if cell.view else None for cell in block] for block in grid],
        "differences": {
            plan.checkpoints[row].id: [_difference_dict(found) for found in comparing.differences(grid, row)]
            for row in rows
        },
        "trained_on": comparing.trained_on(services, plan),
    }


def _difference_dict(found: comparing.Difference) -> dict[str, Any]:
    """Few prompts have no interval, and JSON has no infinity."""
    known = math.isfinite(found.low)
    return vars(found) | {"low": found.low if known else None, "high": found.high if known else None}
