"""What operators and their programs ask: is it well (/healthz), and how much is there (/metrics)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from storage import counts
from storage.backup_trouble import trouble_of
from storage.engine import Database
from storage.errors import ANY
from storage.quotas import reserve_of
from storage.sqlite_only import is_file
from ui.measures import Measured, registry_of

STARTING_SECONDS: Final = 120.0
"""How long dispatcher and engine may take until their first sign of life."""
DISPATCHER_SECONDS: Final = 30.0
ENGINE_SECONDS: Final = 60.0
"""After so long without a sign of life something is amiss: they give one every second or every few."""
Vital = Literal["ok", "starting", "late", "full", "unreadable", "failed"]
GOOD: Final = ("ok", "starting")
TOLD = ("backup",)
"""What is told and takes nobody's studio away: people can work, and a proxy should go on sending them."""


class Vitals:
    """Looks after a data folder's signs of life; each look is a read of two rows and a few calls.

    Args:
        db: the data folder.
        clock: seconds, only forward.
    """

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self.db, self.clock = db, clock
        self.begun = clock()

    def look(self) -> dict[str, Vital]:
        """How each part is; backups only where the studio makes them."""
        found: dict[str, Vital] = {
            "database": self._database(),
            "disk": "ok" if shutil.disk_usage(self.db.home).free >= reserve_of(self.db) else "full",
            "dispatcher": self._alive(self._dispatcher_age(), DISPATCHER_SECONDS),
            "engine": self._alive(self._engine_age(), ENGINE_SECONDS),
        }
        if is_file(self.db):
            found["backup"] = "failed" if trouble_of(self.db.home) else "ok"
        return found

    def _database(self) -> Vital:
        try:
            counts.check_reads(self.db)
        except ANY:
            return "unreadable"
        return "ok"

    def _dispatcher_age(self) -> float | None:
        """Of the liveliest: where hosts share the folder, each has a lock of its own below it."""
        ages = (age_of(path) for path in (self.db.home / "locks").rglob("dispatcher.lock"))
        return min((age for age in ages if age is not None), default=None)

    def _engine_age(self) -> float | None:
        try:
            return min(counts.worker_ages(self.db).values(), default=None)
        except ANY:
            return None

    def _alive(self, age: float | None, most: float) -> Vital:
        if age is not None and age <= most:
            return "ok"
        return "starting" if self.clock() - self.begun < STARTING_SECONDS else "late"


def age_of(path: Path) -> float | None:
    """Seconds since a file was last touched; None where it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


def operation_routes(app: FastAPI, db: Database) -> APIRouter:
    """GET /healthz: 200 or 503, and how database, disk, dispatcher, engine and backup are; no more is named.

    GET /metrics: counts and times in Prometheus' text format. Times are those of all requests to `app`.
    """
    registry, latency = registry_of(db)
    app.add_middleware(Measured, latency=latency)
    vitals = Vitals(db)
    router = APIRouter()

    @router.get("/healthz")
    def healthz() -> JSONResponse:
        found = vitals.look()
        is_well = all(one in GOOD for name, one in found.items() if name not in TOLD)
        said = {"status": "ok" if is_well else "failing", "checks": found}
        return JSONResponse(said, 200 if is_well else 503, headers={"Cache-Control": "no-store"})

    @router.get("/metrics")
    def metrics() -> Response:
        try:
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
        except ANY as error:
            return Response(f"# the database cannot be read: {error}\n", 503, media_type="text/plain")

    return router
