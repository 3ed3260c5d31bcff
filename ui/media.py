"""Images by the id of their row: nothing that a browser sends is ever part of a path."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse

from storage import blind, blobs, checkpoints, exports, image_text, ratings_files, thumbs
from storage.engine import Database
from storage.models import Image
from storage.models_studio import Export
from ui.people import person_of
from ui.roles import may

_ID = re.compile(r"[0-9a-f-]{36}")
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
_OF_A_PERSON = _HEADERS | {"Vary": "Cookie"}
"""Whose left is whose right: what one person saw is not shown to the next one at this browser."""
Side = Literal["left", "right"]


def pair_url(pair_id: str, side: Side) -> str:
    """Where an image of a blind pair is had: an address that names no image, and so no checkpoint."""
    return f"/media/blind/{pair_id}/{side}.png"


def thumb_url(image_id: str) -> str:
    """Where an image is had small enough for a list of many."""
    return f"/media/thumb/{image_id}.webp"


def export_url(export_id: str) -> str:
    """Where an exported file is had."""
    return f"/exports/{export_id}"


def card_url(export_id: str) -> str:
    """Where the card beside it is had."""
    return f"{export_url(export_id)}/card"


def media_routes(db: Database) -> APIRouter:
    """GET /media/{image_id}.png; 404 with a sentence where there is no such image or its file is gone. Who
    judges blind gets it without the text that a PNG carries about the model that made it, and so does
    everybody where the studio's setting (`storage.image_text`) or `app.state.bare_images` says so.

    GET /media/thumb/{image_id}.webp: the same, at most 384 pixels wide and high, and never with a text.

    GET /media/blind/{pair_id}/left.png and right.png: what this annotator sees of a blind pair, without the
    text that a PNG carries about the model that made it.

    GET /exports/{export_id}: an exported adapter, to be saved under the name of its checkpoint; and
    GET /exports/{export_id}/card: what stands beside it. A merged model's folder is not sent.
    GET /exports/ratings/{job_id}.zip: the archive of all ratings that a job wrote.
    """
    router = APIRouter()

    @router.get("/media/{image_id}.png")
    def image(image_id: str, request: Request) -> Response:
        if not _ID.fullmatch(image_id):
            raise _missing()
        with db.read() as session:
            found = session.get(Image, image_id)
        path = _file(db, found)
        if may(person_of(db, request), "look") and not _is_bare(db, request):
            return FileResponse(path, media_type="image/png", headers=_OF_A_PERSON)
        png = blobs.pixels_only(path.read_bytes())
        return Response(png, media_type="image/png", headers=_OF_A_PERSON)

    @router.get("/media/blind/{pair_id}/{side}.png")
    def side_of_pair(pair_id: str, side: Side, request: Request) -> Response:
        try:
            found = blind.image_of(db, pair_id, side, person_of(db, request).id)
        except LookupError as error:
            raise _missing() from error
        png = blobs.pixels_only(_file(db, found).read_bytes())
        return Response(png, media_type="image/png", headers=_OF_A_PERSON)

    _add_thumbs(router, db)
    _add_exports(router, db)
    return router


def _is_bare(db: Database, request: Request) -> bool:
    """Whether nobody gets the text: by `serve --no-metadata`, or by the studio's setting."""
    return bool(getattr(request.app.state, "bare_images", False)) or not image_text.carries_text(db)


def _add_thumbs(router: APIRouter, db: Database) -> None:
    @router.get("/media/thumb/{image_id}.webp")
    def thumb(image_id: str) -> Response:
        if not _ID.fullmatch(image_id):
            raise _missing()
        with db.read() as session:
            found = session.get(Image, image_id)
        _file(db, found)
        try:
            small = thumbs.thumb_of(db.home, found.sha256 if found else "")
        except OSError as error:
            raise _missing() from error
        if small.suffix == ".webp":
            return FileResponse(small, media_type="image/webp", headers=_HEADERS)
        return Response(blobs.pixels_only(small.read_bytes()), media_type="image/png", headers=_HEADERS)


def _add_exports(router: APIRouter, db: Database) -> None:
    @router.get("/exports/{export_id}")
    def exported(export_id: str) -> FileResponse:
        path, called = _export(db, export_id, exports.file_of, "There is no exported file with this id")
        return FileResponse(path, media_type="application/octet-stream", filename=called, headers=_HEADERS)

    @router.get("/exports/ratings/{job_id}.zip")
    def ratings(job_id: str) -> FileResponse:
        try:
            path = ratings_files.path_of(db, job_id)
        except LookupError as error:
            raise HTTPException(404, "This file of ratings is gone: have a new one written.") from error
        return FileResponse(path, media_type="application/zip", filename="ratings.zip", headers=_OF_A_PERSON)

    @router.get("/exports/{export_id}/card")
    def card(export_id: str) -> FileResponse:
        path, called = _export(db, export_id, exports.card_of, "This export has no card")
        called = called.removesuffix(".safetensors") + ".md"
        return FileResponse(path, media_type="text/markdown", filename=called, headers=_HEADERS)


def _export(
    db: Database, export_id: str, file_of: Callable[[Database, Export], Path], missing: str
) -> tuple[Path, str]:
    """A file of an export, and the name that it is saved under."""
    try:
        found = exports.get_export(db, export_id)
        name = checkpoints.get_checkpoint(db, found.checkpoint_id).name
        return file_of(db, found), exports.file_name(name, found.layout)
    except LookupError as error:
        raise HTTPException(404, f"{missing}: export it again.") from error


def _missing() -> HTTPException:
    return HTTPException(404, "There is no image with this id.")


def _file(db: Database, image: Image | None) -> Path:
    path = blobs.path_of(db.home, image.sha256) if image else None
    if path is None or not path.is_file():
        raise _missing()
    return path
