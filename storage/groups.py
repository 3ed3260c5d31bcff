"""Groups of images: requested as a row, claimed by a worker, finished as rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, case, func, literal, or_, select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import checked_prompt, next_number, prompt_hash, required
from storage.masking import mask
from storage.models import Checkpoint, GroupKind, GroupState, Image, ImageGroup, Score, User
from storage.ratings_current import current
from storage.types import utc_now

MAX_SEED = 2**32 - 1
MAX_CLAIMS = 2
"""A group that outlived this many workers is failed instead of queued again."""
REUSABLE: tuple[GroupKind, ...] = ("studio", "compare", "demo")
"""Kinds whose images follow from prompt, checkpoint, config and seeds alone."""
WANTED: tuple[GroupState, ...] = ("queued", "running", "done")
"""States of a group whose images are there or will be."""
_URGENCY = case((ImageGroup.kind.in_(("studio", "compare")), 0), else_=1)


@dataclass(frozen=True)
class ScoreInput:
    """One score to store; `value` None needs a `reason`."""

    image_id: str
    reward: str
    version: str
    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class ImageView:
    """An image with everything known about it. `stars` and `best` are current ratings."""

    image: Image
    scores: dict[str, Score]
    """By reward name; the newest version."""
    stars: int | None
    best: bool


@dataclass(frozen=True)
class GroupView:
    """A group as a page shows it; images in order of their index."""

    group: ImageGroup
    images: list[ImageView]
    checkpoint: Checkpoint


def request_group(  # noqa: PLR0913  (keywords, one per column)
    db: Database,
    *,
    prompt: str,
    checkpoint_id: str,
    config: dict[str, Any],
    seeds: Sequence[int],
    kind: GroupKind = "studio",
    created_by: str = "local",
    run_id: str | None = None,
    update: int | None = None,
    worker_id: str | None = None,
) -> ImageGroup:
    """Queues a group; with `worker_id` the caller makes it itself, so it starts as running.

    Args:
        config: a SamplingConfig's dump.
        seeds: one per image, unsigned 32-bit.

    Raises:
        ValueError: empty or too long prompt, no seeds, or a seed out of range.
        LookupError: unknown user, or a checkpoint that is unknown, damaged or pruned.
    """
    prompt = checked_prompt(prompt)
    group = ImageGroup(prompt=prompt, prompt_hash=prompt_hash(prompt), checkpoint_id=checkpoint_id, kind=kind)
    group.config, group.seeds, group.created_by = config, checked_seeds(seeds), created_by
    group.run_id, group.update = run_id, update
    if worker_id is not None:
        _start(group, worker_id)
    with db.write() as session:
        required(session, User, created_by, "user")
        checkpoint = required(session, Checkpoint, checkpoint_id, "checkpoint")
        if checkpoint.state != "committed":
            raise LookupError(
                f"the files of checkpoint {checkpoint.name} are {checkpoint.state}: choose another one"
            )
        group.seq = next_number(session, ImageGroup.seq)
        session.add(group)
    return group


def checked_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds; ValueError when there are none or one is no unsigned 32-bit number."""
    if not seeds:
        raise ValueError("the group has no seeds: give one per image")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"expected seeds that are whole numbers from 0 to {MAX_SEED}, got {seed!r}")
    return list(seeds)


def _start(group: ImageGroup, worker_id: str) -> None:
    group.state, group.worker_id, group.started_at = "running", worker_id, utc_now()
    group.claims = (group.claims or 0) + 1


def claim_group(db: Database, worker_id: str) -> ImageGroup | None:
    """The oldest queued group, now running at this worker; people who wait at the screen come first."""
    query = select(ImageGroup).where(ImageGroup.state == "queued").order_by(_URGENCY, ImageGroup.seq).limit(1)
    with db.read() as session:
        if session.scalar(query) is None:
            return None
    with db.write() as session:
        group = session.scalar(query)
        if group is not None:
            _start(group, worker_id)
        return group


def set_phase(db: Database, group_id: str, phase: str) -> bool:
    """Says what is being done; False when the group is no longer running, so that work on it may stop."""
    return _change(db, group_id, ("running",), phase=phase)


def add_image(
    db: Database, *, group_id: str, index: int, seed: int, sha256: str, width: int, height: int
) -> Image:
    """Notes an image whose blob is on disk; of several for one (group, index) the first one stays."""
    with db.write() as session:
        group = required(session, ImageGroup, group_id, "group")
        if not 0 <= index < len(group.seeds):
            raise ValueError(f"expected an index from 0 to {len(group.seeds) - 1}, got {index}")
        image = session.scalar(select(Image).where(Image.group_id == group_id, Image.index == index))
        if image is None:
            image = Image(
                group_id=group_id, index=index, seed=seed, sha256=sha256, width=width, height=height
            )
            session.add(image)
        return image


def add_scores(db: Database, scores: Sequence[ScoreInput]) -> None:
    """Stores scores; a second score of the same image, reward and version replaces the first."""
    for score in scores:
        is_number = score.value is not None and math.isfinite(score.value)
        if not (is_number or (score.value is None and score.reason)):
            raise ValueError(
                f"expected a finite value, or None with a reason, from {score.reward}, got {score.value}"
            )
    with db.write() as session:
        for score in scores:
            reason = None if score.reason is None else mask(score.reason)
            session.merge(Score(**(vars(score) | {"reason": reason})))


def finish_group(db: Database, group_id: str) -> bool:
    """running -> done, when every seed has its image; False when the group was no longer running."""
    with db.write() as session:
        group = required(session, ImageGroup, group_id, "group")
        if group.state != "running":
            return False
        made = session.scalar(select(func.count()).where(Image.group_id == group_id)) or 0
        if made != len(group.seeds):
            raise ValueError(f"expected {len(group.seeds)} images before a group is done, got {made}")
        group.state, group.phase, group.finished_at = "done", None, utc_now()
        return True


def fail_group(db: Database, group_id: str, reason: str) -> bool:
    """queued or running -> failed, with a sentence for the page."""
    return _change(
        db, group_id, ("queued", "running"), state="failed", reason=mask(reason), finished_at=utc_now()
    )


def cancel_group(db: Database, group_id: str) -> bool:
    """queued or running -> canceled; a worker that is at it learns so from its next `set_phase`."""
    return _change(db, group_id, ("queued", "running"), state="canceled", finished_at=utc_now())


def requeue_group(db: Database, group_id: str, *, died: bool) -> bool:
    """running -> queued, for a worker that ended; stored images stay.

    Args:
        died: the group may be what killed the worker: the second time it fails, and False is returned. A
            worker that was asked to end leaves no mark on the group.
    """
    with db.write() as session:
        group = required(session, ImageGroup, group_id, "group")
        if group.state != "running":
            return False
        group.phase = None
        if not died:
            group.claims -= 1
        elif group.claims >= MAX_CLAIMS:
            group.state, group.finished_at = "failed", utc_now()
            group.reason = (
                "the engine stopped twice while it drew this group: see its log, then ask for it again"
            )
            return False
        group.state, group.worker_id, group.started_at = "queued", None, None
        return True


def _change(db: Database, group_id: str, from_states: tuple[GroupState, ...], **values: Any) -> bool:
    with db.write() as session:
        group = required(session, ImageGroup, group_id, "group")
        if group.state not in from_states:
            return False
        for name, value in values.items():
            setattr(group, name, value)
        return True


def orphaned_groups(db: Database, worker_id: str) -> list[ImageGroup]:
    """Groups that a worker left running; only for a worker that is known to be dead."""
    query = select(ImageGroup).where(ImageGroup.state == "running", ImageGroup.worker_id == worker_id)
    with db.read() as session:
        return list(session.scalars(query.order_by(ImageGroup.seq)))


def queued_count(db: Database) -> int:
    """Groups that wait for a worker."""
    with db.read() as session:
        return session.scalar(select(func.count()).where(ImageGroup.state == "queued")) or 0


def queue_position(db: Database, group_id: str) -> int:
    """How many queued groups come before this one; 0 for the next one and for groups past the queue."""
    with db.read() as session:
        group = required(session, ImageGroup, group_id, "group")
        if group.state != "queued":
            return 0
        mine = literal(0 if group.kind in ("studio", "compare") else 1)
        earlier = and_(mine == _URGENCY, ImageGroup.seq < group.seq)
        ahead = or_(mine > _URGENCY, earlier)
        return session.scalar(select(func.count()).where(ImageGroup.state == "queued", ahead)) or 0


def get_group(db: Database, group_id: str, annotator_id: str | None = None) -> GroupView:
    """The group with images, scores and current ratings (of one annotator, or the last word of anyone)."""
    with db.read() as session:
        return views(session, [required(session, ImageGroup, group_id, "group")], annotator_id)[0]


def get_groups(db: Database, group_ids: Sequence[str]) -> list[GroupView]:
    """Those of these groups that there are, in this order."""
    with db.read() as session:
        found = {g.id: g for g in session.scalars(select(ImageGroup).where(ImageGroup.id.in_(group_ids)))}
        return views(session, [found[one] for one in dict.fromkeys(group_ids) if one in found])


def open_groups(db: Database, kinds: Collection[GroupKind]) -> list[GroupView]:
    """Groups at work or waiting, in the order in which they are taken up."""
    is_waiting = case((ImageGroup.state == "running", 0), else_=1)
    where = ImageGroup.state.in_(("queued", "running")), ImageGroup.kind.in_(kinds)
    query = select(ImageGroup).where(*where).order_by(is_waiting, _URGENCY, ImageGroup.seq)
    with db.read() as session:
        return views(session, list(session.scalars(query)))


def recent_groups(
    db: Database,
    *,
    kinds: Collection[GroupKind],
    limit: int,
    before_seq: int | None = None,
    run_id: str | None = None,
) -> list[GroupView]:
    """Newest first; the last one's `seq` is the cursor of the next page."""
    where: list[ColumnElement[bool]] = [ImageGroup.kind.in_(kinds)]
    if before_seq is not None:
        where.append(ImageGroup.seq < before_seq)
    if run_id is not None:
        where.append(ImageGroup.run_id == run_id)
    with db.read() as session:
        found = session.scalars(select(ImageGroup).where(*where).order_by(ImageGroup.seq.desc()).limit(limit))
        return views(session, list(found))


def groups_of_run(db: Database, run_id: str) -> list[GroupView]:
    """All groups that a run made, oldest first."""
    query = select(ImageGroup).where(ImageGroup.run_id == run_id).order_by(ImageGroup.seq)
    with db.read() as session:
        return views(session, list(session.scalars(query)))


def views(session: Session, groups: Sequence[ImageGroup], annotator_id: str | None = None) -> list[GroupView]:
    """Groups with images, scores, ratings and checkpoints: one query for each, however many groups."""
    ids = [group.id for group in groups]
    drawn_by = {"ids": list({group.checkpoint_id for group in groups})}
    checkpoints = {row.id: row for row in session.scalars(_CHECKPOINTS, drawn_by)}
    scores: dict[str, dict[str, Score]] = {}
    for score in session.scalars(_SCORES, {"ids": ids}):
        scores.setdefault(score.image_id, {})[score.reward] = score
    ratings = current(session, ids, annotator_id)
    images: dict[str, list[ImageView]] = {group_id: [] for group_id in ids}
    for image in session.scalars(_IMAGES, {"ids": ids}):
        rated = ratings[image.group_id]
        stars, is_best = rated.stars.get(image.id), rated.best == image.id
        images[image.group_id].append(ImageView(image, scores.get(image.id, {}), stars, is_best))
    return [GroupView(group, images[group.id], checkpoints[group.checkpoint_id]) for group in groups]


# Every vote and every look at a page asks these: to put one together takes longer than to run it.
_IDS: BindParameter[str] = bindparam("ids", [], expanding=True)
_CHECKPOINTS = select(Checkpoint).where(Checkpoint.id.in_(_IDS))
_IMAGES = select(Image).where(Image.group_id.in_(_IDS)).order_by(Image.index)
_SCORES = (
    select(Score)
    .join(Image, Image.id == Score.image_id)
    .where(Image.group_id.in_(_IDS))
    .order_by(Score.version)
)
