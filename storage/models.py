"""The tables. Ids are UUIDv7 text, times are UTC, and no cascade ever deletes what a person made."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, MetaData, String, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.types import FiniteJSON, LongInteger, SafeText, UTCDateTime, new_id, utc_now

Role = Literal["viewer", "annotator", "artist", "trainer", "admin"]
CheckpointState = Literal["committed", "bad", "pruned"]
Split = Literal["train", "held_out"]
GroupKind = Literal["studio", "compare", "sample", "evaluation", "demo", "rollout"]
GroupState = Literal["queued", "running", "done", "failed", "canceled"]
Outcome = Literal["rated", "skipped", "expired"]
RatingKind = Literal["stars", "best", "pair", "rank", "flags", "skip", "undo"]
RunState = Literal[
    "queued", "starting", "running", "stopping", "stopped", "paused", "completed", "failed", "lost",
    "canceled",
]  # fmt: skip
WorkerState = Literal["starting", "idle", "generating", "scoring", "stopped"]

_KINDS = (Role, CheckpointState, Split, GroupKind, GroupState, Outcome, RatingKind, RunState, WorkerState)

MAX_PROMPT_LENGTH = 2_000  # characters
_WORTH = "CASE WHEN kind = 'rollout' THEN -1.0 ELSE coalesce(priority, 1e9) END"
_COLUMNS: dict[Any, Any] = {
    **dict.fromkeys(_KINDS, String(16)),
    str: SafeText,
    datetime: UTCDateTime,
    dict[str, Any]: FiniteJSON,
    list[int]: FiniteJSON,
}


class Record(DeclarativeBase):
    """A row handed to the caller, detached."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = _COLUMNS


def own_id() -> Mapped[str]:
    """The column of a row's own id."""
    return mapped_column(String(36), primary_key=True, default=new_id)


def ref(target: str, **options: Any) -> Mapped[Any]:
    """A column that names a row of another table, which then cannot be deleted."""
    return mapped_column(String(36), ForeignKey(target, ondelete="RESTRICT"), **options)


def known(column: str, values: Any) -> CheckConstraint:
    """The column holds one of the values of a Literal."""
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, get_args(values)))})", name=f"{column}_known")


class User(Record):
    """A person; "local" is the one who needs no login on loopback."""

    __tablename__ = "user"
    __table_args__ = (known("role", Role),)
    id: Mapped[str] = own_id()
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[Role]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    preferences: Mapped[dict[str, Any] | None]
    """What they chose for themselves: keys of the Rate page, what they have seen."""
    password_hash: Mapped[str | None]
    """argon2id; None for who has not set a password yet, and so cannot log in."""


class BaseModel(Record):
    """What can generate before anything is tuned."""

    __tablename__ = "base_model"
    id: Mapped[str] = own_id()
    name: Mapped[str] = mapped_column(unique=True)
    source: Mapped[str]
    """A hub id, or a folder or file on this machine."""
    family: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    options: Mapped[dict[str, Any] | None]
    """How it is read, where its files do not say: prediction, config."""


class Checkpoint(Record):
    """A state of a policy: the base itself (no run, no path) or an adapter that a run made."""

    __tablename__ = "checkpoint"
    __table_args__ = (known("state", CheckpointState), UniqueConstraint("run_id", "update"))
    id: Mapped[str] = own_id()
    base_model_id: Mapped[str] = ref("base_model.id")
    parent_id: Mapped[str | None] = ref("checkpoint.id")
    run_id: Mapped[str | None] = mapped_column(String(36))
    """No foreign key: run points here, and a cycle of keys is not portable DDL. Runs are never deleted."""
    name: Mapped[str]
    update: Mapped[int] = mapped_column(default=0)
    path: Mapped[str | None]
    """Relative to the data folder; None is the base itself."""
    sha256: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[CheckpointState] = mapped_column(default="committed")
    votes: Mapped[dict[str, Any] | None]
    """Ratings that it learned from."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    origin: Mapped[str | None]
    """The file that it was imported from."""
    promoted_at: Mapped[datetime | None]
    """Since when it is the candidate to use."""
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Somebody keeps it: no rule of retention removes its files."""


class PromptSet(Record):
    """A named list of prompts; a changed list is a new version."""

    __tablename__ = "prompt_set"
    __table_args__ = (UniqueConstraint("name", "version"),)
    id: Mapped[str] = own_id()
    name: Mapped[str]
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class PromptRecord(Record):
    """One prompt of a set, verbatim."""

    __tablename__ = "prompt"
    __table_args__ = (known("split", Split), UniqueConstraint("prompt_set_id", "split", "position"))
    id: Mapped[str] = own_id()
    prompt_set_id: Mapped[str] = ref("prompt_set.id")
    text: Mapped[str]
    text_hash: Mapped[str] = mapped_column(String(64), index=True)
    attributes: Mapped[dict[str, Any] | None]
    split: Mapped[Split]
    position: Mapped[int]


class ImageGroup(Record):
    """One prompt, one checkpoint, one sampling config, several seeds: the group of GRPO and of the screen."""

    __tablename__ = "image_group"
    __table_args__ = (
        known("kind", GroupKind),
        known("state", GroupState),
        CheckConstraint(f"length(prompt) <= {MAX_PROMPT_LENGTH}", name="prompt_length"),
        Index("ix_image_group_state_seq", "state", "seq"),
        Index("ix_image_group_phase_state", "phase", "state"),
        Index("ix_image_group_offer", "state", "attention", "worth", "seq", "kind", "overlap", "id"),
        Index("ix_image_group_kind_seq", "kind", "seq"),
        Index("ix_image_group_checkpoint_id_prompt_hash", "checkpoint_id", "prompt_hash"),
    )
    id: Mapped[str] = own_id()
    seq: Mapped[int] = mapped_column(unique=True)
    """Counts up in order of request: the cursor of pages and the order of the queue."""
    prompt: Mapped[str]
    prompt_hash: Mapped[str] = mapped_column(String(64))
    checkpoint_id: Mapped[str] = ref("checkpoint.id")
    config: Mapped[dict[str, Any]]
    seeds: Mapped[list[int]]
    kind: Mapped[GroupKind]
    run_id: Mapped[str | None] = ref("run.id", index=True)
    update: Mapped[int | None]
    state: Mapped[GroupState] = mapped_column(default="queued")
    reason: Mapped[str | None]
    phase: Mapped[str | None]
    worker_id: Mapped[str | None]
    claims: Mapped[int] = mapped_column(default=0)
    """How often a worker took it up; a group that kills its worker is not tried for ever."""
    priority: Mapped[float | None]
    """How much a rating of it would teach, from the last fit; the higher, the sooner it is offered."""
    worth: Mapped[float] = mapped_column(Computed(_WORTH, persisted=True))
    """The same, of every group: what no head looked at comes first, what a run has drawn last."""
    overlap: Mapped[int | None]
    """How many people should rate it; None: as the studio's rule says."""
    attention: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many people judged it or are at it; `storage.assignments` counts."""
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Image(Record):
    """One image of a group; the pixels are the blob of its sha256."""

    __tablename__ = "image"
    __table_args__ = (UniqueConstraint("group_id", "index"),)
    id: Mapped[str] = own_id()
    group_id: Mapped[str] = ref("image_group.id")
    index: Mapped[int]
    seed: Mapped[int] = mapped_column(LongInteger)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    width: Mapped[int]
    height: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Score(Record):
    """What one version of one reward says about one image: a value, or None and the reason."""

    __tablename__ = "score"
    __table_args__ = (
        CheckConstraint("value IS NOT NULL OR reason IS NOT NULL", name="value_or_reason"),
        Index("ix_score_reward_value", "reward", "value"),
    )
    image_id: Mapped[str] = ref("image.id", primary_key=True)
    reward: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    reason: Mapped[str | None]


class Assignment(Record):
    """A group lent to an annotator; one that is not done by `lease_until` goes back."""

    __tablename__ = "assignment"
    __table_args__ = (
        known("outcome", Outcome),
        CheckConstraint("(done_at IS NULL) = (outcome IS NULL)", name="done_with_outcome"),
        Index("ix_assignment_annotator_id_outcome", "annotator_id", "outcome"),
    )
    id: Mapped[str] = own_id()
    group_id: Mapped[str] = ref("image_group.id", index=True)
    annotator_id: Mapped[str] = ref("user.id")
    lease_until: Mapped[datetime]
    done_at: Mapped[datetime | None]
    outcome: Mapped[Outcome | None]
    is_repeat: Mapped[bool] = mapped_column(default=False)
    """Asked a second time, to see whether annotators agree with themselves; no vote."""


Index(
    "uq_assignment_active",
    Assignment.group_id,
    Assignment.annotator_id,
    unique=True,
    sqlite_where=Assignment.done_at.is_(None),
    postgresql_where=Assignment.done_at.is_(None),
)


class RatingEvent(Record):
    """What an annotator said, once and for ever: a change or an undo is another event."""

    __tablename__ = "rating_event"
    __table_args__ = (
        known("kind", RatingKind),
        CheckConstraint(
            "kind <> 'stars' OR (image_id IS NOT NULL AND value BETWEEN 1 AND 5)", name="stars_range"
        ),
        CheckConstraint("kind <> 'best' OR image_id IS NOT NULL", name="best_image"),
        CheckConstraint("kind <> 'undo' OR supersedes_id IS NOT NULL", name="undo_target"),
        Index("ix_rating_event_group_id_annotator_id", "group_id", "annotator_id"),
        Index("ix_rating_event_annotator_id_seq", "annotator_id", "seq"),
    )
    id: Mapped[str] = own_id()
    seq: Mapped[int] = mapped_column(unique=True)
    """Order of commit; "current" means the highest that was not undone."""
    client_key: Mapped[str] = mapped_column(String(64), unique=True)
    act_id: Mapped[str] = mapped_column(String(36), index=True)
    """Shared by ratings submitted together, and by the undo that takes them back."""
    annotator_id: Mapped[str] = ref("user.id")
    group_id: Mapped[str] = ref("image_group.id")
    kind: Mapped[RatingKind]
    image_id: Mapped[str | None] = ref("image.id", index=True)
    value: Mapped[int | None]
    payload: Mapped[dict[str, Any]]
    lead_ms: Mapped[int | None]
    """Milliseconds from showing the card to the act."""
    supersedes_id: Mapped[str | None] = ref("rating_event.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Run(Record):
    """The intent to tune, and where it stands."""

    __tablename__ = "run"
    __table_args__ = (known("state", RunState), Index("ix_run_state_number", "state", "number"))
    id: Mapped[str] = own_id()
    number: Mapped[int] = mapped_column(unique=True)
    name: Mapped[str]
    owner_id: Mapped[str] = ref("user.id")
    parent_checkpoint_id: Mapped[str] = ref("checkpoint.id")
    config: Mapped[dict[str, Any]]
    config_hash: Mapped[str] = mapped_column(String(64))
    state: Mapped[RunState] = mapped_column(default="queued")
    version: Mapped[int] = mapped_column(default=0)
    """Moves so far."""
    attempt: Mapped[int] = mapped_column(default=0)
    """Claims so far; every write from a process of the run carries it."""
    stop_requested_at: Mapped[datetime | None]
    pause_requested_at: Mapped[datetime | None]
    save_requested_at: Mapped[datetime | None]
    sample_requested_at: Mapped[datetime | None]
    """When somebody last asked for it; the trainer clears it once it is done."""
    prompt_set_id: Mapped[str | None] = ref("prompt_set.id")
    """The version of the set that its prompts were taken from."""
    follows_id: Mapped[str | None] = ref("run.id")
    """The run whose last checkpoint it starts from; it waits until that one is complete."""
    reason: Mapped[str | None]
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    """The higher, the sooner it is claimed; runs of equal priority go by their number."""
    stalled_at: Mapped[datetime | None]
    """Since when a live run makes no progress; None while it does."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunAttempt(Record):
    """One start of a run; a process is the same only when host, boot, pid and start time all match."""

    __tablename__ = "run_attempt"
    run_id: Mapped[str] = ref("run.id", primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str]
    boot_id: Mapped[str]
    pid: Mapped[int | None]
    pid_start: Mapped[int | None] = mapped_column(LongInteger)
    """Clock ticks since boot."""
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    ended_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    signal: Mapped[int | None]
    reason: Mapped[str | None]


class RunBeat(Record):
    """The last sign of life, for display; liveness itself is the flock."""

    __tablename__ = "run_beat"
    run_id: Mapped[str] = ref("run.id", primary_key=True)
    attempt: Mapped[int]
    beat_at: Mapped[datetime]
    update: Mapped[int]
    num_updates: Mapped[int]
    phase: Mapped[str]
    seconds_per_update: Mapped[float | None]
    progress_at: Mapped[datetime | None]
    """When update or phase last changed: a beat without progress is a process that hangs."""


class RunEvent(Record):
    """The history of a run, append-only."""

    __tablename__ = "run_event"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = ref("run.id", index=True)
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(default=utc_now)
    kind: Mapped[str]
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    detail: Mapped[str] = mapped_column(default="")
    payload: Mapped[dict[str, Any] | None]
    """Of "pause": its alarms and the groups to look at. Of "go_back": the update to go back to."""


class Metric(Record):
    """One point of one curve."""

    __tablename__ = "metric"
    run_id: Mapped[str] = ref("run.id", primary_key=True)
    update: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class WorkerBeat(Record):
    """The last sign of life of an engine worker."""

    __tablename__ = "worker_beat"
    __table_args__ = (known("state", WorkerState),)
    worker_id: Mapped[str] = mapped_column(primary_key=True)
    pid: Mapped[int]
    state: Mapped[WorkerState]
    detail: Mapped[str]
    beat_at: Mapped[datetime]


class AppMeta(Record):
    """Facts about the data folder itself."""

    __tablename__ = "app_meta"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
