"""Files from a browser: datasets and adapters, streamed to tmp, looked at, kept; file first, row second. And
images whose settings are read.

The routes answer with JSON: what was made, or {"error": a sentence} with a status that is not 200.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from flowgrpo.imagefolder import read_folder
from flowgrpo.tensorheader import check_adapter, read_header
from storage import datasets, imports, quotas
from storage.engine import Database
from storage.errors import NotSavedError
from storage.models_studio import Dataset
from storage.types import new_id
from ui import arriving, decoding, recall
from ui.archives import unpacked
from ui.forms import Refused
from ui.people import person_of
from ui.receiving import Limits, Received, receive
from ui.sent_ratings import keep_ratings
from ui.services import SHOWN_ERRORS, shown

DATASETS: Final = "/datasets"
ADAPTERS: Final = "/adapters"
RATINGS: Final = "/ratings"
RECALL: Final = "/recall"
LIMITS: Final = {
    DATASETS: Limits(files=3 * arriving.MAX_IMAGES, size=4 * 2**30),
    ADAPTERS: Limits(files=2, size=4 * 2**30),
    RATINGS: Limits(files=1, size=4 * 2**30),
    RECALL: Limits(files=1, size=decoding.MAX_BYTES),
}
"""Path to what a form sent there may have."""


def upload_routes(db: Database) -> APIRouter:
    """POST /datasets: fields `name`, files: images with captions beside them, or one .zip of them; answers
    {"id", "name", "num_images", "detail"}.

    POST /adapters: fields `base` (id of a base's own checkpoint) and `name`, one .safetensors file, with the
    adapter_config.json of one of PEFT's; answers {"job": id} of the job that imports it.

    POST /ratings: one file of ratings, or a .zip of `export-ratings` or of such files with their images;
    answers {"job": id} of the job that takes them over.

    POST /recall: one image, which is not kept; answers the settings that it carries, as
    `ui.recall.Recalled` has them.
    """
    imports.tidy(db)
    router = APIRouter()

    @router.post(DATASETS)
    async def dataset(request: Request) -> JSONResponse:
        return await _answer(db, request, _keep_dataset)

    @router.post(ADAPTERS)
    async def adapter(request: Request) -> JSONResponse:
        return await _answer(db, request, _ask_for_import)

    @router.post(RATINGS)
    async def ratings(request: Request) -> JSONResponse:
        return await _answer(db, request, keep_ratings)

    @router.post(RECALL)
    async def settings(request: Request) -> JSONResponse:
        return await _answer(db, request, _recall)

    return router


Keep = Callable[[Database, Received, Path, str], dict[str, Any]]
"""Database, form, a folder to work in, and who sent it, to what is answered."""


async def _answer(db: Database, request: Request, keep: Keep) -> JSONResponse:
    try:
        with _work_folder(db) as folder:
            sent = folder / "sent"
            sent.mkdir()
            _check_room(db, request)
            form = await receive(request, sent, LIMITS[request.url.path])
            made = await run_in_threadpool(keep, db, form, folder, person_of(db, request).id)
        return JSONResponse(made)
    except SHOWN_ERRORS as error:
        return JSONResponse({"error": shown(error)}, 507 if isinstance(error, NotSavedError) else 400)
    except OSError as error:
        said = f"The files were not saved ({error.strerror}): free some space, then send them again."
        return JSONResponse({"error": said}, 507)


@contextmanager
def _work_folder(db: Database) -> Iterator[Path]:
    folder = db.home / "tmp" / "uploads" / new_id()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_room(db: Database, request: Request) -> None:
    """An upload lies on the disk twice for a moment."""
    quotas.check_room(db)
    length = request.headers.get("content-length", "0")
    needed = 2 * int(length if length.isdigit() else 0) + quotas.reserve_of(db)
    free = shutil.disk_usage(db.home).free
    if free < needed:
        raise NotSavedError(
            f"Not saved: this upload needs {needed / 2**20:,.0f} MB while it is looked at, and "
            f"{free / 2**20:,.0f} MB are free: free some space, then send it again."
        )


def _keep_dataset(db: Database, form: Received, folder: Path, by: str) -> dict[str, Any]:
    name = datasets.checked_name(db, form.fields.get("name", ""))
    if not form.files:
        raise Refused("No files were sent: choose images with their captions, or one .zip of them.")
    (folder / "unpacked").mkdir()
    arranged = folder / "arranged"
    arranged.mkdir()
    arrived = arriving.arrange(unpacked(form.files, folder / "unpacked"), arranged)
    detail = _looked_at(arranged) | {"left_out": arrived.left_out}
    dataset_id = new_id()
    target = db.home / datasets.FOLDER / dataset_id
    target.parent.mkdir(exist_ok=True)
    _sync(arranged)
    arranged.rename(target)
    try:
        made = datasets.add_dataset(
            db, name=name, path=str(target.relative_to(db.home)), num_images=arrived.images, detail=detail,
            created_by=by, dataset_id=dataset_id,
        )  # fmt: skip
    except SHOWN_ERRORS:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return dataset_dict(made)


def point_at(db: Database, name: str, path: str, by: str = "local") -> Dataset:
    """Notes a folder of this machine as a dataset; nothing is copied, so it must stay where it is.

    Raises:
        Refused, ValueError, LookupError: there is no such folder, or what is in it cannot be learned from.
    """
    name = datasets.checked_name(db, name)
    folder = Path(path.strip()).expanduser()
    if not path.strip() or not folder.is_absolute():
        raise Refused("Give the whole path of the folder on this machine, from its root on.")
    detail = _looked_at(folder)
    return datasets.add_dataset(
        db, name=name, path=str(folder.resolve()), num_images=detail["captions"] + detail["silent"],
        detail=detail, created_by=by,
    )  # fmt: skip


def _looked_at(folder: Path) -> dict[str, Any]:
    """What the reader of stage 1 finds in a folder; its sentence where it cannot be learned from."""
    examples = read_folder(folder, allow_empty=True)
    silent = sum(not example.caption for example in examples)
    sizes = sorted(example.width * example.height for example in examples)
    return {"captions": len(examples) - silent, "silent": silent, "pixels": sizes[len(sizes) // 2]}


def dataset_dict(dataset: Dataset) -> dict[str, Any]:
    """A dataset as JSON."""
    said = {"id": dataset.id, "name": dataset.name, "num_images": dataset.num_images}
    return said | {"detail": dataset.detail}


def _sync(folder: Path) -> None:
    """Everything below the folder is on the disk when this returns."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _recall(db: Database, form: Received, folder: Path, by: str) -> dict[str, Any]:
    del db, folder, by
    if len(form.files) != 1:
        raise Refused("No image was sent: choose one.")
    name, sent = form.files[0]
    return asdict(recall.read(decoding.texts_of(sent, name.rpartition("/")[2][:100])))


def _ask_for_import(db: Database, form: Received, folder: Path, by: str) -> dict[str, Any]:
    del folder
    (origin, sent), settings = _adapter(form.files)
    told, base = f"The file {origin}", form.fields.get("base", "")
    check_adapter(read_header(sent, told), told)
    upload, place = imports.new_upload(db)
    sent.rename(place)
    if settings is not None:
        settings.rename(place.with_name(imports.SETTINGS))
    name = form.fields.get("name", "").strip() or origin[: -len(".safetensors")]
    try:
        job = imports.request_import(
            db, upload=upload, base_checkpoint_id=base, name=name, origin=origin, by=by
        )
    except SHOWN_ERRORS:
        shutil.rmtree(place.parent, ignore_errors=True)
        raise
    return {"job": job.id}


def _adapter(files: Sequence[tuple[str, Path]]) -> tuple[tuple[str, Path], Path | None]:
    """(its own name, the weights), and the settings that PEFT keeps beside them."""
    named = [(name.replace("\\", "/").rpartition("/")[2][:200], sent) for name, sent in files]
    settings = [sent for name, sent in named if name == imports.SETTINGS]
    weights = [one for one in named if one[0] != imports.SETTINGS]
    if len(weights) != 1:
        raise Refused(
            "Choose one .safetensors file, the adapter's; with the adapter_config.json of the same folder if "
            "PEFT wrote it."
        )
    if not weights[0][0].lower().endswith(".safetensors"):
        raise Refused(f"The file {weights[0][0]} is no .safetensors file, and nothing else is opened here.")
    return weights[0], settings[0] if settings else None
