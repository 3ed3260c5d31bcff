"""Evaluations: what is asked, the images that they draw and find again, and the figures about checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import select

from storage.engine import Database
from storage.groups import REUSABLE, checked_seeds
from storage.jobs import request_job
from storage.lookup import checked_prompt, next_number, prompt_hash, required
from storage.models import Checkpoint, Image, ImageGroup, PromptSet
from storage.models_judging import Evaluation, Job
from storage.types import canonical_json, utc_now

KIND = "evaluate"
"""Of the job."""
MAX_CHECKPOINTS, MAX_PROMPTS, MAX_SEEDS = 16, 10_000, 64
_KINDS = (*REUSABLE, "evaluation")
"""Groups whose images follow from checkpoint, prompt, config and seed alone."""
_PER_QUERY = 500


@dataclass(frozen=True)
class Found:
    """An image that is there already.

    Attributes:
        sha256: of its blob.
        seconds: what drawing it took, where an evaluation drew it.
    """

    sha256: str
    seconds: float | None


@dataclass(frozen=True)
class DrawnGroup:
    """Images of one prompt whose blobs are on disk.

    Attributes:
        images: seed to (sha256, width, height).
        began, ended: its share of the batch that it was drawn in.
    """

    prompt: str
    images: Mapping[int, tuple[str, int, int]]
    began: datetime = field(default_factory=utc_now)
    ended: datetime = field(default_factory=utc_now)


@dataclass(frozen=True)
class NewFigure:
    """A figure to keep, with its 95% interval."""

    checkpoint_id: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    """Images."""
    extractor: str
    detail: dict[str, Any] = field(default_factory=dict)


def request_evaluation(db: Database, payload: Mapping[str, Any], created_by: str = "local") -> Job:
    """Queues an evaluation; what the worker alone can check, it refuses later.

    Args:
        payload: `checkpoints` (ids, the first is what the others are held against), `prompts` or the id of a
            `prompt_set`, whose held-out prompts count, `seeds`, `config` (a SamplingConfig's dump), and what
            else `flowgrpo.runs.evaluating.Request` has.

    Raises:
        ValueError: counts, prompts or seeds that cannot be used, or checkpoints of several bases.
        LookupError: an unknown user or prompt set, or a checkpoint that is unknown, damaged or pruned.
    """
    ids, prompts = list(payload["checkpoints"]), list(payload.get("prompts") or ())
    _check_count(len(ids), MAX_CHECKPOINTS, "checkpoints")
    _check_different(ids, "checkpoint")
    if payload.get("prompt_set"):
        if prompts:
            raise ValueError("there are prompts and a prompt set: name one of them")
    else:
        _check_count(len(prompts), MAX_PROMPTS, "prompts")
        _check_different([checked_prompt(prompt) for prompt in prompts], "prompt")
    seeds = checked_seeds(payload["seeds"])
    _check_count(len(seeds), MAX_SEEDS, "seeds")
    _check_different(seeds, "seed")
    with db.read() as session:
        rows = [required(session, Checkpoint, one, "checkpoint") for one in ids]
        if payload.get("prompt_set"):
            required(session, PromptSet, payload["prompt_set"], "prompt set")
    for row in rows:
        if row.state != "committed":
            raise LookupError(f"the files of checkpoint {row.name} are {row.state}: choose another one")
    if len({row.base_model_id for row in rows}) > 1:
        raise ValueError(
            "the checkpoints have different bases, where one seed means two images: choose those of one base"
        )
    return request_job(db, KIND, dict(payload), created_by)


def _check_count(count: int, most: int, noun: str) -> None:
    if not 1 <= count <= most:
        raise ValueError(f"expected 1 to {most} {noun}, got {count}")


def _check_different(values: Sequence[object], noun: str) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"a {noun} is named twice: name each one once")


def found_images(
    db: Database, checkpoint_id: str, prompts: Sequence[str], config: Mapping[str, Any]
) -> dict[tuple[str, int], Found]:
    """(prompt, seed) to the newest image of this checkpoint and config, however it came about."""
    wanted, same = set(prompts), canonical_json(dict(config))
    found: dict[tuple[str, int], Found] = {}
    with db.read() as session:
        for hashes in _parts(sorted({prompt_hash(prompt) for prompt in prompts})):
            rows = select(ImageGroup, Image).join(Image, Image.group_id == ImageGroup.id)
            rows = rows.where(
                ImageGroup.checkpoint_id == checkpoint_id,
                ImageGroup.prompt_hash.in_(hashes),
                ImageGroup.kind.in_(_KINDS),
            )
            for group, image in session.execute(rows.order_by(ImageGroup.seq)):
                if group.prompt in wanted and canonical_json(group.config) == same:
                    found[group.prompt, image.seed] = Found(image.sha256, _seconds(group))
    return found


def _seconds(group: ImageGroup) -> float | None:
    """Of one image; other kinds are drawn in other batches and wait for their scores too."""
    if group.kind != "evaluation" or group.claims or not group.finished_at or not group.started_at:
        return None
    return (group.finished_at - group.started_at).total_seconds() / len(group.seeds)


def keep_drawn(
    db: Database,
    drawn: Sequence[DrawnGroup],
    *,
    checkpoint_id: str,
    config: Mapping[str, Any],
    created_by: str,
) -> None:
    """Notes a batch of images as finished groups of kind `evaluation`, all or none.

    No worker ever claimed them: that tells them from groups whose times include the wait and the scores.
    """
    with db.write() as session:
        required(session, Checkpoint, checkpoint_id, "checkpoint")
        number = next_number(session, ImageGroup.seq)
        for offset, one in enumerate(drawn):
            group = ImageGroup(
                prompt=one.prompt, prompt_hash=prompt_hash(one.prompt), checkpoint_id=checkpoint_id,
                kind="evaluation", state="done", config=dict(config), seeds=list(one.images),
                created_by=created_by, seq=number + offset,
                started_at=one.began, finished_at=one.ended,
            )  # fmt: skip
            session.add(group)
            session.flush()
            for index, (seed, (sha256, width, height)) in enumerate(one.images.items()):
                session.add(
                    Image(
                        group_id=group.id, index=index, seed=seed, sha256=sha256, width=width, height=height
                    )
                )


def record_evaluation(  # noqa: PLR0913  (keywords, one per column)
    db: Database,
    *,
    checkpoint_id: str,
    metric: str,
    value: float,
    n: int,
    extractor: str,
    low: float | None = None,
    high: float | None = None,
    detail: dict[str, Any] | None = None,
) -> Evaluation:
    """Keeps one figure.

    Args:
        n: images behind the figure.
        extractor: name and version of the network that measured.
        low, high: ends of the 95% interval.

    Raises:
        LookupError: no such checkpoint.
    """
    figure = NewFigure(checkpoint_id, metric, value, low, high, n, extractor, detail or {})
    return record_figures(db, [figure])[0]


def record_figures(db: Database, figures: Sequence[NewFigure], job_id: str | None = None) -> list[Evaluation]:
    """Keeps figures, all or none; those of a job replace what it had recorded before it was interrupted.

    Raises:
        LookupError: no such checkpoint or job.
    """
    rows = [Evaluation(**vars(figure), job_id=job_id) for figure in figures]
    with db.write() as session:
        for checkpoint_id in {figure.checkpoint_id for figure in figures}:
            required(session, Checkpoint, checkpoint_id, "checkpoint")
        if job_id is not None:
            required(session, Job, job_id, "job")
            for row in session.scalars(select(Evaluation).where(Evaluation.job_id == job_id)):
                session.delete(row)
        session.add_all(rows)
    return rows


def evaluations_of(db: Database, checkpoint_id: str) -> list[Evaluation]:
    """All figures of a checkpoint, oldest first."""
    query = select(Evaluation).where(Evaluation.checkpoint_id == checkpoint_id)
    with db.read() as session:
        return list(session.scalars(query.order_by(Evaluation.created_at, Evaluation.id)))


def evaluations_of_job(db: Database, job_id: str) -> list[Evaluation]:
    """All figures that a job measured."""
    with db.read() as session:
        query = select(Evaluation).where(Evaluation.job_id == job_id)
        return list(session.scalars(query.order_by(Evaluation.created_at, Evaluation.id)))


def _parts(keys: Sequence[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while part := list(islice(left, _PER_QUERY)):
        yield part
