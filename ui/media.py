"""Images by the id of their row: nothing that a browser sends is ever part of a path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse

from storage import blind, blobs
from storage.engine import Database
from storage.models import Image
from ui.services import LOCAL_USER

_ID = re.compile(r"[0-9a-f-]{36}")
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
Side = Literal["left", "right"]


def pair_url(pair_id: str, side: Side) -> str:
    """Where an image of a blind pair is had: an address that names no image, and so no checkpoint."""
    return f"/media/blind/{pair_id}/{side}.png"


def media_routes(db: Database) -> APIRouter:
    """GET /media/{image_id}.png; 404 with a sentence where there is no such image or its file is gone.

    GET /media/blind/{pair_id}/left.png and right.png: what this annotator sees of a blind pair, without the
    text that a PNG carries about the model that made it.
    """
    router = APIRouter()

    @router.get("/media/{image_id}.png")
    def image(image_id: str) -> FileResponse:
        if not _ID.fullmatch(image_id):
            raise _missing()
        with db.read() as session:
            found = session.get(Image, image_id)
        return FileResponse(_file(db, found), media_type="image/png", headers=_HEADERS)

    @router.get("/media/blind/{pair_id}/{side}.png")
    def side_of_pair(pair_id: str, side: Side) -> Response:
        try:
            found = blind.image_of(db, pair_id, side, LOCAL_USER)
        except LookupError as error:
            raise _missing() from error
        png = blobs.pixels_only(_file(db, found).read_bytes())
        return Response(png, media_type="image/png", headers=_HEADERS)

    return router


def _missing() -> HTTPException:
    return HTTPException(404, "There is no image with this id.")


def _file(db: Database, image: Image | None) -> Path:
    path = blobs.path_of(db.home, image.sha256) if image else None
    if path is None or not path.is_file():
        raise _missing()
    return path
