"""The public API of judging: blind tests, weights from votes, and the jobs that make them.

Endpoints are plain functions over rows, like those of `ui.api`. What a blind one returns names no checkpoint
and no image: pictures come by pair and side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import gradio as gr

from storage import blind, exclusion, jobs, judged, lineage, snapshots
from storage.blind import Answer, PairTask
from storage.models_judging import BlindTest, Job, PreferenceFit
from ui.forms import GroupForm, Refused, whole
from ui.guarding import caller, demand
from ui.media import pair_url
from ui.people import person_of
from ui.rating import read_lead
from ui.services import Services

Endpoint = Callable[..., Any]
Said = Callable[[Callable[[], Any]], Any]
"""Turns what a page would show into an API error."""
MAX_IMAGES = 64
"""Seeds of a blind test."""
_A_CHECKPOINT = "a checkpoint of this test"
"""Before the reveal, when nothing may tell which one."""


def endpoints(services: Services, said: Said) -> list[Endpoint]:
    """Every endpoint of this file, by its public name."""
    return [
        _start_blind_test(services, said),
        _next_pair(services, said),
        _vote_pair(services, said),
        _undo_pair(services, said),
        _blind_results(services, said),
        _request_calibration(services, said),
        _request_agreement(services, said),
        _request_leaderboard(services, said),
        _get_job(services, said),
        _list_fits(services, said),
        _apply_fit(services, said),
        _withdraw_fit(services, said),
    ]


# Blind tests


def _start_blind_test(services: Services, said: Said) -> Endpoint:
    def start_blind_test(
        checkpoint_ids: list[str],
        prompts: list[str],
        seeds: str = "7",
        images: int = 1,
        num_steps: int = 8,
        guidance_scale: float = 1.0,
        negative_prompt: str = "",
        width: int = 0,
        height: int = 0,
        name: str = "",
    ) -> dict[str, Any]:
        """Starts a blind test of every two checkpoints at every prompt and seed; all images must be there
        (compare with generate=True makes them).

        Args:
            checkpoint_ids: 2 to 8.
            prompts: held-out ones, each once.
            seeds: as in compare.
            images: seeds per prompt, 1 to 64.
            num_steps: denoising steps, as the images were made.
            guidance_scale: as the images were made.
            negative_prompt: as the images were made.
            width: pixels, as the images were made; 0 for the base's own size.
            height: pixels, as width.
            name: of the test; empty for its number.
        """

        form = GroupForm(
            prompt=prompts[0] if prompts else "",
            negative=negative_prompt,
            group_size=images,
            seeds=seeds.strip() or "7",
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            width=width or None,
            height=height or None,
        )
        made = said(lambda: _made_test(services, checkpoint_ids, prompts, form, name))
        return cast(dict[str, Any], made)

    return start_blind_test


def _made_test(
    services: Services, checkpoint_ids: list[str], prompts: list[str], form: GroupForm, name: str
) -> dict[str, Any]:
    if not checkpoint_ids or not prompts:
        raise Refused("A blind test needs checkpoints and prompts: give at least two and one.")
    whole(form.group_size, "Images per prompt", 1, MAX_IMAGES)
    request = services.check_group(checkpoint_ids[0], form)
    made = blind.create_blind_test(
        services.db,
        checkpoint_ids=checkpoint_ids,
        prompts=prompts,
        seeds=request.seeds,
        config=request.config.model_dump(),
        name=name,
        created_by=caller(services.db).id,
    )
    return blind_dict(services, made)


def _next_pair(services: Services, said: Said) -> Endpoint:
    def next_pair(request: gr.Request, test_id: str) -> dict[str, Any]:
        """Returns the next pair of a blind test to judge: prompt, the addresses of the left and the right
        image, how far you are; {} when nothing is left."""
        me = person_of(services.db, request).id
        return cast(dict[str, Any], said(lambda: pair_dict(blind.next_pair(services.db, test_id, me))))

    return next_pair


def _vote_pair(services: Services, said: Said) -> Endpoint:
    def vote_pair(
        request: gr.Request, pair_id: str, client_key: str, answer: str, lead_ms: int = 0
    ) -> dict[str, Any]:
        """Keeps what you say about a pair and returns the next one, {} when nothing is left.

        Args:
            pair_id: from next_pair.
            client_key: 1 to 64 characters, new for each vote; a repeat with the same key counts once.
            answer: "left", "right", "tie", "bad" (neither is any good) or "skip".
            lead_ms: milliseconds from showing the pair to the answer; 0 where nobody measured.
        """

        me = person_of(services.db, request).id

        def work() -> dict[str, Any]:
            blind.vote(
                services.db,
                client_key=client_key,
                pair_id=pair_id,
                annotator_id=me,
                answer=cast(Answer, answer),
                lead_ms=read_lead(lead_ms) or None,
            )
            test_id = blind.test_of(services.db, pair_id)
            return pair_dict(blind.next_pair(services.db, test_id, me))

        return cast(dict[str, Any], said(work))

    return vote_pair


def _undo_pair(services: Services, said: Said) -> Endpoint:
    def undo_pair(request: gr.Request, test_id: str, client_key: str) -> dict[str, Any]:
        """Takes back your last vote of a blind test and returns its pair; {} when there is none.

        Args:
            test_id: from start_blind_test.
            client_key: as in vote_pair.
        """

        me = person_of(services.db, request).id

        def work() -> dict[str, Any]:
            taken = blind.undo(services.db, client_key=client_key, test_id=test_id, annotator_id=me)
            return pair_dict(taken)

        return cast(dict[str, Any], said(work))

    return undo_pair


def _blind_results(services: Services, said: Said) -> Endpoint:
    def blind_results(test_id: str, reveal: bool = False) -> dict[str, Any]:
        """Returns how far a blind test is and, once it is revealed, its leaderboard; ask again while "job" is
        not done.

        Args:
            test_id: from start_blind_test.
            reveal: ends the test: its checkpoints are named, and votes on it count no more. For good.
        """

        def work() -> dict[str, Any]:
            if reveal:
                demand(services.db, "make")
            test = blind.reveal(services.db, test_id) if reveal else blind.get_test(services.db, test_id)
            return blind_dict(services, test)

        return cast(dict[str, Any], said(work))

    return blind_results


def blind_dict(services: Services, test: BlindTest) -> dict[str, Any]:
    """A blind test as JSON: blind until it is revealed, then with the job that counts its votes. `trained_on`
    says which prompts are no new ones to its checkpoints."""
    num_votes, num_pairs = blind.counts(services.db, test.id)
    called = _A_CHECKPOINT if test.revealed_at is None else ""
    told = lineage.trained_on(services.db, test.checkpoints, test.prompts, called=called)
    about = {
        "id": test.id,
        "name": test.name,
        "num_votes": num_votes,
        "num_pairs": num_pairs,
        "revealed": test.revealed_at is not None,
        "trained_on": sorted(set(told.values())),
    }
    if test.revealed_at is None:
        return about
    counted = _counting(services, test.id)
    return about | {"checkpoints": test.checkpoints, "job": job_dict(services, counted)}


def _counting(services: Services, test_id: str) -> Job:
    """The job that counts a revealed test; its votes change no more, so that one is enough until others
    count."""
    since = exclusion.last_changed(services.db)
    for known in jobs.recent_jobs(services.db, "leaderboard", limit=1000):
        is_old = since is not None and known.created_at < since
        if (
            known.payload.get("test") == test_id
            and known.state in ("queued", "running", "done")
            and not is_old
        ):
            return known
    return jobs.request_job(services.db, "leaderboard", {"test": test_id}, caller(services.db).id)


def pair_dict(pair: PairTask | None) -> dict[str, Any]:
    """A pair as JSON: nothing in it tells whose images they are."""
    if pair is None:
        return {}
    return {
        "pair": pair.pair_id,
        "prompt": pair.prompt,
        "left": pair_url(pair.pair_id, "left"),
        "right": pair_url(pair.pair_id, "right"),
        "done": pair.done,
        "total": pair.total,
    }


# Jobs


def _request_calibration(services: Services, said: Said) -> Endpoint:
    def request_calibration(allow_negative: bool = False) -> dict[str, Any]:
        """Asks for reward weights that agree with all votes so far; ask get_job until it is "done". Its
        result names the proposed fit, for apply_fit, with its accuracy on prompts that it has not seen.

        Args:
            allow_negative: whether a reward may count against an image.
        """
        return _requested(services, said, "calibrate", {"allow_negative": allow_negative})

    return request_calibration


def _request_agreement(services: Services, said: Said) -> Endpoint:
    def request_agreement() -> dict[str, Any]:
        """Asks how far annotators agree with each other and with themselves, whether the place of an image
        sways them, and what there is to see of each; ask get_job until it is "done"."""
        return _requested(services, said, "agreement", {})

    return request_agreement


def _request_leaderboard(services: Services, said: Said) -> Endpoint:
    def request_leaderboard() -> dict[str, Any]:
        """Asks for one leaderboard of all revealed blind tests; ask get_job until it is "done"."""
        return _requested(services, said, "leaderboard", {})

    return request_leaderboard


def _requested(services: Services, said: Said, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        return job_dict(services, jobs.request_job(services.db, kind, payload, caller(services.db).id))

    return cast(dict[str, Any], said(work))


def _get_job(services: Services, said: Said) -> Endpoint:
    def get_job(job_id: str) -> dict[str, Any]:
        """Returns a job of the engine: its state, how far it is, how many come before it, its result, or why
        it failed."""
        return cast(dict[str, Any], said(lambda: job_dict(services, jobs.get_job(services.db, job_id))))

    return get_job


def job_dict(services: Services, job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "phase": job.phase,
        "done": job.done,
        "total": job.total,
        "ahead": jobs.jobs_ahead(services.db, job.id),
        "result": job.result,
        "reason": job.reason,
    }


# Fits


def _list_fits(services: Services, said: Said) -> Endpoint:
    def list_fits(kind: Literal["weights", "head"] = "weights") -> list[dict[str, Any]]:
        """Returns what was learned from votes, newest first, each with the snapshot of the votes it used.

        Args:
            kind: "weights" of rewards, or preference "head"s.
        """

        def work() -> list[dict[str, Any]]:
            if kind not in ("weights", "head"):
                raise Refused("Fits are of the kind weights or head.")
            return fit_dicts(services, snapshots.fits(services.db, kind))

        return cast(list[dict[str, Any]], said(work))

    return list_fits


def _apply_fit(services: Services, said: Said) -> Endpoint:
    def apply_fit(fit_id: str) -> dict[str, Any]:
        """Puts a fit to use, in place of the one of its kind that was in use: weights become what the Train
        page and start_run begin with. Runs that have started keep theirs."""
        return cast(dict[str, Any], said(lambda: _moved(services, fit_id, "applied")))

    return apply_fit


def _withdraw_fit(services: Services, said: Said) -> Endpoint:
    def withdraw_fit(fit_id: str) -> dict[str, Any]:
        """Takes a fit out of use; what it was learned from stays known."""
        return cast(dict[str, Any], said(lambda: _moved(services, fit_id, "withdrawn")))

    return withdraw_fit


def _moved(services: Services, fit_id: str, state: Literal["applied", "withdrawn"]) -> dict[str, Any]:
    (found,) = fit_dicts(services, [snapshots.set_fit_state(services.db, fit_id, state)])
    return found


def fit_dicts(services: Services, fits: list[PreferenceFit]) -> list[dict[str, Any]]:
    """Fits as JSON."""
    hashes = judged.snapshot_hashes(services.db, {fit.snapshot_id for fit in fits})
    return [
        {
            "id": fit.id,
            "number": fit.seq,
            "kind": fit.kind,
            "state": fit.state,
            "version": fit.version,
            "snapshot": {"id": fit.snapshot_id, "hash": hashes[fit.snapshot_id]},
            "num_pairs": fit.num_pairs,
            "accuracy": [fit.accuracy, fit.low, fit.high],
            "baseline": fit.baseline,
            "detail": fit.detail,
            "created_at": fit.created_at.isoformat(),
        }
        for fit in fits
    ]
