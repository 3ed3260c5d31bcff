"""A run's config.yaml, from which `app.py run` makes it once more."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from storage import runs
from storage.engine import Database
from storage.models import Run

FILE = "config.yaml"
_ID = re.compile(r"[0-9a-f-]{36}")


def config_path(db: Database, run_id: str) -> Path | None:
    """Where a run's file is; None for a run that has not begun, or was made by a release that wrote none."""
    path = db.home / "runs" / run_id / FILE
    return path if path.is_file() else None


def config_url(run_id: str) -> str:
    """Where it is had."""
    return f"/runs/{run_id}/{FILE}"


def download_name(run: Run) -> str:
    """As browsers save it."""
    return f"run-{run.number}-{FILE}"


def run_routes(db: Database) -> APIRouter:
    """GET /runs/{id}/config.yaml: every setting of a run and how it was made."""
    router = APIRouter()

    @router.get("/runs/{run_id}/config.yaml")
    def config(run_id: str) -> FileResponse:
        path = config_path(db, run_id) if _ID.fullmatch(run_id) else None
        if path is None:
            raise HTTPException(404, "There is no config.yaml of this run: it is written when a run begins.")
        name = download_name(runs.get_run(db, run_id))
        return FileResponse(path, media_type="application/yaml", filename=name)

    return router
