"""Tables of the studio: settings, boards, check items, saved grids, datasets, exports, the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.models import Record, own_id, ref
from storage.types import FiniteJSON, utc_now


class Setting(Record):
    """One thing that holds for everybody here, such as the guidelines of rating."""

    __tablename__ = "setting"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(FiniteJSON)
    changed_by: Mapped[str] = ref("user.id")
    changed_at: Mapped[datetime] = mapped_column(default=utc_now)


class Audit(Record):
    """Who did what, append-only."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_at", "at"),)
    id: Mapped[str] = own_id()
    at: Mapped[datetime] = mapped_column(default=utc_now)
    user_id: Mapped[str] = ref("user.id")
    act: Mapped[str]
    """A verb with its noun, such as "user.role"."""
    target: Mapped[str]
    """Id or name of what it was done to."""
    detail: Mapped[dict[str, Any]]


class Board(Record):
    """Images that somebody put together."""

    __tablename__ = "board"
    id: Mapped[str] = own_id()
    name: Mapped[str] = mapped_column(unique=True)
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class BoardImage(Record):
    """An image on a board."""

    __tablename__ = "board_image"
    __table_args__ = (Index("ix_board_image_image_id", "image_id"),)
    board_id: Mapped[str] = ref("board.id", primary_key=True)
    image_id: Mapped[str] = ref("image.id", primary_key=True)
    added_at: Mapped[datetime] = mapped_column(default=utc_now)


class CheckItem(Record):
    """A group with a known answer: to practise on (the answer is shown afterwards) or to check raters by
    (gold). What is said about it is no vote."""

    __tablename__ = "check_item"
    group_id: Mapped[str] = ref("image_group.id", primary_key=True)
    accepted: Mapped[list[str]] = mapped_column(FiniteJSON)
    """Ids of the images any of which is a right choice of the best."""
    is_practice: Mapped[bool] = mapped_column(default=False)
    why: Mapped[str] = mapped_column(default="")
    """What is told after an answer to a practice item."""
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class SavedGrid(Record):
    """A comparison with its axes, so that it is found and run again."""

    __tablename__ = "saved_grid"
    id: Mapped[str] = own_id()
    seq: Mapped[int] = mapped_column(unique=True)
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Dataset(Record):
    """A folder of images with captions that a stage-1 run learns from."""

    __tablename__ = "dataset"
    id: Mapped[str] = own_id()
    name: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    """Relative to the data folder, or absolute where it was only pointed at."""
    num_images: Mapped[int]
    detail: Mapped[dict[str, Any]]
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Export(Record):
    """A file that was written of a checkpoint."""

    __tablename__ = "export"
    id: Mapped[str] = own_id()
    checkpoint_id: Mapped[str] = ref("checkpoint.id", index=True)
    layout: Mapped[str] = mapped_column(String(16))
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
