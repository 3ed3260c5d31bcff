"""Tables of judging: jobs of the engine, snapshots of votes and fits to them, blind tests, evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CheckConstraint, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models import Record, known, own_id, ref
from storage.types import FiniteJSON, utc_now

JobState = Literal["queued", "running", "done", "failed", "canceled"]
FitKind = Literal["weights", "head"]
FitState = Literal["proposed", "applied", "withdrawn"]
BlindOutcome = Literal["first", "second", "tie", "bad", "skip", "undo"]


class Job(Record):
    """Work of the engine that is no group: an evaluation, a fit to the votes. Its result is kept here."""

    __tablename__ = "job"
    __table_args__ = (known("state", JobState), Index("ix_job_state_seq", "state", "seq"))
    id: Mapped[str] = own_id()
    seq: Mapped[int] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    payload: Mapped[dict[str, Any]]
    """What was asked."""
    state: Mapped[JobState] = mapped_column(String(16), default="queued")
    phase: Mapped[str | None]
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    """Units of work, of which `done` are done; 0 while nobody knows."""
    result: Mapped[dict[str, Any] | None]
    reason: Mapped[str | None]
    worker_id: Mapped[str | None]
    claims: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class VoteSnapshot(Record):
    """The rating events that something learned from; the same events are the same snapshot."""

    __tablename__ = "vote_snapshot"
    id: Mapped[str] = own_id()
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 over the events, each with all that it says."""
    events: Mapped[list[int]]
    """Their `seq`, ascending."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class PreferenceFit(Record):
    """What was learned from a snapshot: weights of rewards, or a preference head."""

    __tablename__ = "preference_fit"
    __table_args__ = (known("kind", FitKind), known("state", FitState))
    id: Mapped[str] = own_id()
    seq: Mapped[int] = mapped_column(unique=True)
    kind: Mapped[FitKind] = mapped_column(String(16))
    snapshot_id: Mapped[str] = ref("vote_snapshot.id")
    version: Mapped[str]
    """Fingerprint of what was fitted, and of the encoder under it."""
    detail: Mapped[dict[str, Any]]
    """The numbers themselves, and how they were found."""
    num_pairs: Mapped[int]
    accuracy: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    """Held-out accuracy over pairs with its 95% interval."""
    baseline: Mapped[float | None]
    """Accuracy of what was in use before, on the same pairs."""
    state: Mapped[FitState] = mapped_column(String(16), default="proposed")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    changed_at: Mapped[datetime | None]


class CachedScore(Record):
    """What a reward said about some pixels and a prompt, whatever image or run they belong to."""

    __tablename__ = "score_cache"
    __table_args__ = (CheckConstraint("value IS NOT NULL OR reason IS NOT NULL", name="value_or_reason"),)
    image_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of shape and RGB bytes, not of a file."""
    prompt_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    reward: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    reason: Mapped[str | None]


class Embedding(Record):
    """What an encoder makes of some pixels: little-endian float32."""

    __tablename__ = "embedding"
    image_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of its file, or of its pixels: each encoder keeps to one of them."""
    encoder: Mapped[str] = mapped_column(primary_key=True)
    """Name and fingerprint."""
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class RewardCard(Record):
    """What the engine worker knows about a reward, for pages that load no tensors."""

    __tablename__ = "reward_card"
    name: Mapped[str] = mapped_column(primary_key=True)
    detail: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class BlindTest(Record):
    """Checkpoints side by side on held-out prompts, judged without knowing which is which."""

    __tablename__ = "blind_test"
    id: Mapped[str] = own_id()
    seq: Mapped[int] = mapped_column(unique=True)
    name: Mapped[str]
    checkpoints: Mapped[list[str]] = mapped_column(FiniteJSON)
    """Their ids."""
    prompts: Mapped[list[str]] = mapped_column(FiniteJSON)
    seeds: Mapped[list[int]]
    config: Mapped[dict[str, Any]]
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    revealed_at: Mapped[datetime | None]
    """From here on votes do not count."""


class BlindPair(Record):
    """Two images of one prompt and seed by two checkpoints."""

    __tablename__ = "blind_pair"
    __table_args__ = (UniqueConstraint("test_id", "position"),)
    id: Mapped[str] = own_id()
    test_id: Mapped[str] = ref("blind_test.id", index=True)
    position: Mapped[int]
    first_image_id: Mapped[str] = ref("image.id")
    second_image_id: Mapped[str] = ref("image.id")
    """Which one an annotator sees on the left follows from pair and annotator."""


class BlindVote(Record):
    """What an annotator said about a pair, once and for ever: a change or an undo is another vote."""

    __tablename__ = "blind_vote"
    __table_args__ = (
        known("outcome", BlindOutcome),
        CheckConstraint("outcome <> 'undo' OR supersedes_id IS NOT NULL", name="undo_target"),
        Index("ix_blind_vote_pair_id_annotator_id", "pair_id", "annotator_id"),
    )
    id: Mapped[str] = own_id()
    seq: Mapped[int] = mapped_column(unique=True)
    client_key: Mapped[str] = mapped_column(String(64), unique=True)
    pair_id: Mapped[str] = ref("blind_pair.id")
    annotator_id: Mapped[str] = ref("user.id")
    outcome: Mapped[BlindOutcome] = mapped_column(String(16))
    swapped: Mapped[bool]
    """The second image was on the left."""
    lead_ms: Mapped[int | None]
    supersedes_id: Mapped[str | None] = ref("blind_vote.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Evaluation(Record):
    """One figure about one checkpoint, with what it takes to trust it."""

    __tablename__ = "evaluation"
    id: Mapped[str] = own_id()
    checkpoint_id: Mapped[str] = ref("checkpoint.id", index=True)
    metric: Mapped[str]
    value: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    """Ends of the 95% interval."""
    n: Mapped[int]
    extractor: Mapped[str]
    detail: Mapped[dict[str, Any]]
    job_id: Mapped[str | None] = ref("job.id", index=True)
    """The evaluation that measured it."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
