"""Limits of a shared disk: room that stays free for ratings, the folder's size, images a person may ask for.

Ratings are never refused here: they go on until the disk itself says no.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select

from storage.engine import Database
from storage.errors import NotSavedError
from storage.models import GroupKind, ImageGroup, User
from storage.settings import get_setting, put_setting
from storage.sqlite_only import is_file
from storage.types import utc_now
from storage.usage import measure

SETTING = "quotas"
RESERVE_BYTES = 256 * 2**20
"""What generating and uploads leave free for ratings and the database."""
_SHARE = 0.05
"""Of a small disk, instead."""
_ASKED_BY_HAND: tuple[GroupKind, ...] = ("studio", "compare")
_FRESH_SECONDS = 60.0
"""A measure of the folder that is older is taken again: some 100,000 files a second."""


class OverQuotaError(ValueError):
    """Somebody has asked for as many images as one person may; the sentence says until when."""


@dataclass(frozen=True)
class Quotas:
    """What is set; None where there is no such limit.

    Attributes:
        folder_bytes: of everything in the data folder.
        reserve_bytes: of the disk, that stay free; None is as usual.
        images_waiting: of one artist, asked for and not drawn yet.
        images_a_day: of one artist, asked for within 24 hours.
    """

    folder_bytes: int | None = None
    reserve_bytes: int | None = None
    images_waiting: int | None = None
    images_a_day: int | None = None


def quotas_of(db: Database) -> Quotas:
    """As set; what is no positive whole number is no limit."""
    found = get_setting(db, SETTING)
    said: Mapping[str, object] = found if isinstance(found, dict) else {}
    return Quotas(**{name: _number(said.get(name)) for name in asdict(Quotas())})


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def set_quotas(db: Database, quotas: Quotas, by: str = "local") -> None:
    """Keeps them; raises ValueError for a negative one."""
    if negative := [name for name, value in asdict(quotas).items() if value is not None and value < 0]:
        raise ValueError(f"expected 0 or more for {negative[0]}")
    put_setting(db, SETTING, asdict(quotas), by)


def reserve_of(db: Database) -> int:
    """Bytes of the disk that stay free for ratings."""
    said = quotas_of(db).reserve_bytes
    usual = min(RESERVE_BYTES, int(_SHARE * shutil.disk_usage(db.home).total))
    return usual if said is None else said


def check_room(db: Database, needed: int = 0) -> None:
    """Raises NotSavedError where `needed` bytes more would reach into the reserve, or over the folder's
    limit."""
    free, reserve = shutil.disk_usage(db.home).free, reserve_of(db)
    if free < reserve + needed:
        raise NotSavedError(
            f"Not saved: {_mb(free)} are free on the disk, and {_mb(reserve + needed)} are needed with what "
            "is kept free for ratings: free some space, then try again."
        )
    limit = quotas_of(db).folder_bytes
    if limit is not None and (used := folder_bytes(db.home)) + needed > limit:
        raise NotSavedError(
            f"Not saved: the data folder takes {_mb(used)} of the {_mb(limit)} that it may: "
            "free some space or ask an admin for more, then try again."
        )


def check_images(db: Database, user_id: str, count: int) -> None:
    """Whether a person may ask for so many images more now; artists are limited, and nobody else.

    Raises:
        NotSavedError: the disk, or the folder, is too full. OverQuotaError: the person is at a limit.
    """
    check_room(db)
    quotas = quotas_of(db)
    with db.read() as session:
        person = session.get(User, user_id)
    if person is None or person.role != "artist":
        return
    waiting, of_today = images_of(db, user_id)
    if quotas.images_waiting is not None and waiting + count > quotas.images_waiting:
        raise OverQuotaError(
            f"{waiting:,} of your images wait to be drawn, and {quotas.images_waiting:,} may: "
            "wait for some of them, or ask for fewer."
        )
    if quotas.images_a_day is not None and of_today + count > quotas.images_a_day:
        raise OverQuotaError(
            f"You asked for {of_today:,} images within 24 hours, and {quotas.images_a_day:,} are allowed: "
            "go on tomorrow, ask for fewer, or ask an admin for more."
        )


def images_of(db: Database, user_id: str) -> tuple[int, int]:
    """(not drawn yet, asked for within 24 hours) of one person's images."""
    mine = ImageGroup.created_by == user_id, ImageGroup.kind.in_(_ASKED_BY_HAND)
    length = func.json_array_length if is_file(db) else func.jsonb_array_length
    size = func.sum(length(ImageGroup.seeds))
    yesterday = utc_now() - timedelta(days=1)
    with db.read() as session:
        waiting = session.scalar(select(size).where(*mine, ImageGroup.state.in_(("queued", "running"))))
        of_today = session.scalar(
            select(size).where(*mine, ImageGroup.created_at > yesterday, ImageGroup.state != "canceled")
        )
    return int(waiting or 0), int(of_today or 0)


_measured: dict[Path, tuple[float, int]] = {}
_measuring = threading.Lock()


def folder_bytes(home: Path) -> int:
    """What the folder takes, at most a minute ago."""
    with _measuring:
        at, size = _measured.get(home, (0.0, 0))
        if not at or time.monotonic() - at > _FRESH_SECONDS:
            size = sum(measure(home).parts.values())
            _measured[home] = time.monotonic(), size
        return size


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
