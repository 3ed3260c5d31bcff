"""Files of finished evaluations, by the id of their job: nothing that a browser sends is part of a path."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from storage import evaluations, jobs
from storage.engine import Database

_TYPES = {
    "markdown": ("text/markdown; charset=utf-8", "md"),
    "csv": ("text/csv; charset=utf-8", "csv"),
    "json": ("application/json", "json"),
    "latex": ("application/x-tex; charset=utf-8", "tex"),
    "plot": ("image/png", "png"),
}


def file_url(job_id: str, form: str) -> str:
    """Where a file of an evaluation is had."""
    return f"/evaluations/{job_id}/{form}"


def evaluation_routes(db: Database) -> APIRouter:
    """GET /evaluations/{job}/{form}: the table as markdown, csv, json or latex, or its plot, to download; 404
    with a sentence where there is none."""
    router = APIRouter()

    @router.get("/evaluations/{job_id}/{form}")
    def table(job_id: str, form: str) -> FileResponse:
        try:
            job = jobs.get_job(db, job_id)
        except LookupError as error:
            raise _missing() from error
        name = str(((job.result or {}).get("files") or {}).get(form) or "")
        if job.kind != evaluations.KIND or form not in _TYPES or not name or Path(name).name != name:
            raise _missing()
        path = db.home / "evaluations" / job.id / name
        if not path.is_file():
            raise HTTPException(
                404, "The files of this evaluation are gone: ask for it again, which takes seconds."
            )
        kind, ending = _TYPES[form]
        return FileResponse(path, media_type=kind, filename=f"evaluation-{job.seq}.{ending}")

    return router


def _missing() -> HTTPException:
    return HTTPException(404, "There is no such file of an evaluation.")
