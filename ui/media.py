"""Images by the id of their row: nothing that a browser sends is ever part of a path."""

from __future__ import annotations

import re

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from storage import blobs
from storage.engine import Database
from storage.models import Image

_ID = re.compile(r"[0-9a-f-]{36}")
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def media_routes(db: Database) -> APIRouter:
    """GET /media/{image_id}.png; 404 with a sentence where there is no such image or its file is gone."""
    router = APIRouter()

    @router.get("/media/{image_id}.png")
    def image(image_id: str) -> FileResponse:
        if not _ID.fullmatch(image_id):
            raise HTTPException(404, "There is no image with this id.")
        with db.read() as session:
            found = session.get(Image, image_id)
        path = blobs.path_of(db.home, found.sha256) if found else None
        if path is None or not path.is_file():
            raise HTTPException(404, "There is no image with this id.")
        return FileResponse(path, media_type="image/png", headers=_HEADERS)

    return router
