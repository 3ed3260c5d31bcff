"""Storage: what takes how much of the disk, what may be freed, and what the engine and its devices do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage import copies, quotas, runs, sqlite_only, workers
from storage.backup_trouble import trouble_of
from storage.models import Run, WorkerBeat
from storage.usage import Measured
from ui.cards import reward_cards
from ui.components import render
from ui.language import t
from ui.services import shown
from ui.team.common import Desk, Seen, ago

_RUNS = 8
"""Runs with a line of their own, those that take most."""
_OLD_SECONDS = 20
_UNITS = ("KB", "MB", "GB", "TB")
_SPOKEN = (
    "blobs", "thumbs", "runs", "rollouts", "exports", "datasets", "models", "evaluations", "backups", "tmp",
    "database", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part of the data folder."""

    name: str
    size: str
    width: str
    about: str


@dataclass(frozen=True)
class Worker:
    """One engine worker."""

    device: str
    words: str
    seen: str
    is_here: bool
    detail: str


def body(desk: Desk, seen: Seen) -> str:
    """The last measure with its age, and the engine."""
    measured, now = desk.usage.look(), desk.services.now()
    cards = reward_cards(desk.services.db)
    beats = workers.worker_status(desk.services.db)
    return render(
        "team_storage.html",
        measured=measured,
        age=ago(measured.at, now) if measured else "",
        parts=_parts(measured) if measured else [],
        runs=_runs(desk, measured) if measured else [],
        used=size(sum(measured.parts.values())) if measured else "",
        free=size(measured.free) if measured else "",
        total=size(measured.total) if measured else "",
        full=f"width:{100 * (1 - measured.free / max(1, measured.total)):.1f}%" if measured else "",
        home=str(desk.services.db.home),
        trouble=_backup_trouble(desk),
        keeping=keeping(desk),
        workers=[_worker(desk, beat) for beat in beats],
        engine=desk.services.engine(),
        rewards=_rewards(cards),
    )


def keeping(desk: Desk) -> list[str]:
    """How old the newest backup is, and which limits there are, in sentences."""
    db, said = desk.services.db, []
    if sqlite_only.is_file(db):
        kept = copies.automatic_of(db.home)
        aged = {"ago": ago(kept[0].at, desk.services.now()), "count": len(kept)} if kept else {}
        said.append(t("team.backup_newest", **aged) if kept else t("team.backup_none"))
    said.append(t("team.room_says", reserve=size(quotas.reserve_of(db))))
    limits = quotas.quotas_of(db)
    if limits.folder_bytes is not None:
        said.append(t("team.limit_says", limit=size(limits.folder_bytes)))
    if limits.images_waiting is not None or limits.images_a_day is not None:
        waiting, daily = (
            t("team.any") if one is None else f"{one:,}"
            for one in (limits.images_waiting, limits.images_a_day)
        )
        said.append(t("team.artist_says", waiting=waiting, daily=daily))
    return said


def _backup_trouble(desk: Desk) -> str:
    """That the last backup failed, and why, for who can do something about it; else nothing."""
    home = desk.services.db.home
    trouble = trouble_of(home) if desk.is_admin and sqlite_only.is_file(desk.services.db) else None
    if trouble is None:
        return ""
    why = trouble.why.rstrip(".")
    return t("team.backup_failed", ago=ago(trouble.at, desk.services.now()), why=why)


def size(count: int) -> str:
    """Bytes as people say them: 12 KB, 3.4 MB, 1.2 GB."""
    power = max(1, min(len(_UNITS), (len(str(count)) - 1) // 3))
    value, unit = count / 1000**power, _UNITS[power - 1]
    return f"{value:.1f} {unit}" if value < 10 and power > 1 else f"{value:.0f} {unit}"


def _parts(measured: Measured) -> list[Part]:
    """The largest first; what is empty is left out."""
    most = max(1, *measured.parts.values())
    known = sorted(measured.parts.items(), key=lambda one: -one[1])
    return [
        Part(t(f"team.part_{name}"), size(count), f"width:{100 * count / most:.1f}%", t(f"team.free_{name}"))
        for name, count in known
        if count and name in _SPOKEN
    ]


def _runs(desk: Desk, measured: Measured) -> list[tuple[str, str, str]]:
    """(name, address, size) of the runs that take most."""
    known: Mapping[str, Run] = {run.id: run for run in runs.list_runs(desk.services.db)}
    most = sorted(measured.runs.items(), key=lambda one: -one[1])[:_RUNS]
    return [
        (f"Run {run.number} · {run.name}", f"/train?run={run.id}", size(count))
        for run_id, count in most
        if (run := known.get(run_id)) is not None
    ]


def _worker(desk: Desk, beat: WorkerBeat) -> Worker:
    now = desk.services.now()
    is_here = beat.state != "stopped" and (now - beat.beat_at).total_seconds() < _OLD_SECONDS
    state = t(f"team.worker_{beat.state}") if is_here else t("team.worker_gone")
    device = beat.worker_id.partition(":")[2] or beat.worker_id
    detail = shown(beat.detail) if beat.detail else ""
    return Worker(device, state, ago(beat.beat_at, now), is_here, detail)


def _rewards(cards: Mapping[str, Mapping[str, Any]]) -> Sequence[tuple[str, str, str]]:
    """(title, device, what its card says of its weights) of every reward that the engine knows."""
    return [
        (str(card.get("title") or name), str(card.get("device") or ""), str(card.get("weights") or ""))
        for name, card in cards.items()
        if card.get("state") == "here"
    ]
