"""Uploads keep what can be learned from, written anew, and refuse the rest in words with nothing left."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from flowgrpo.imagefolder import read_folder
from storage import audit, datasets, exports, imports, jobs, quotas, users
from storage.engine import Database
from storage.models import Checkpoint
from storage.types import new_id
from tests.ui.conftest import png
from ui import archives, arriving, receiving, security, uploads
from ui.forms import Refused
from ui.media import card_url, export_url, media_routes
from ui.people import COOKIE, people_routes

Files = Mapping[str, bytes]


@pytest.fixture
def client(db: Database) -> Iterator[TestClient]:
    app = FastAPI()
    security.protect(app)
    for routes in (media_routes, people_routes, uploads.upload_routes):
        app.include_router(routes(db))
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened


def jpeg(colour: str = "red", size: tuple[int, int] = (40, 24)) -> bytes:
    file = io.BytesIO()
    exif = Picture.Exif()
    exif[0x010E] = "where I live"
    exif[0x0112] = 6  # turned by a quarter
    Picture.new("RGB", size, colour).save(file, "JPEG", exif=exif)
    return file.getvalue()


def zipped(files: Files) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def send(client: TestClient, files: Files, name: str = "portraits") -> Any:
    parts = [("files", (called, content)) for called, content in files.items()]
    return client.post("/datasets", data={"name": name}, files=parts)


def leftovers(db: Database) -> list[Path]:
    """Files that an upload left behind in tmp, and folders of datasets without a row."""
    known = {one.path for one in datasets.list_datasets(db)}
    folders = [path for path in (db.home / "datasets").glob("*") if f"datasets/{path.name}" not in known]
    return [*(db.home / "tmp").glob("uploads/*"), *folders]


PAIRS: Files = {"a.jpg": jpeg(), "a.txt": b"red hair, solo", "b.png": png(9), "b.txt": b"glasses"}


def test_images_with_captions_become_a_dataset_that_stage_1_reads(db: Database, client: TestClient) -> None:
    answer = send(client, {**PAIRS, "notes.pdf": b"x", ".DS_Store": b"x"})
    assert answer.status_code == 200, answer.text
    (row,) = datasets.list_datasets(db)
    assert answer.json() == {"id": row.id, "name": "portraits", "num_images": 2, "detail": row.detail}
    assert row.detail == {"captions": 2, "silent": 0, "pixels": 960, "left_out": 1}
    examples = read_folder(datasets.folder_of(db, row), decode=True)
    assert [(one.path.name, one.caption) for one in examples] == [
        ("a.png", "red hair, solo"), ("b.png", "glasses"),
    ]  # fmt: skip
    assert (examples[0].width, examples[0].height) == (24, 40), "upright"
    with Picture.open(examples[0].path) as image:
        assert not image.getexif(), "nothing of where it was taken is kept"
    assert leftovers(db) == []
    assert audit.latest(db)[0].act == "dataset.add"


def test_an_archive_is_the_same_and_its_folders_count(db: Database, client: TestClient) -> None:
    listing = "\n".join(
        json.dumps({"file_name": name, "text": text})
        for name, text in (("3_hats/a.jpg", "hat"), ("b.png", "glasses"))
    )
    files = {
        "set/metadata.jsonl": listing.encode(), "set/3_hats/a.jpg": jpeg(), "set/b.png": png(2),
        "__MACOSX/set/._b.png": b"junk",
    }  # fmt: skip
    answer = send(client, {"all.zip": zipped(files)})
    assert answer.status_code == 200, answer.text
    (row,) = datasets.list_datasets(db)
    found = read_folder(datasets.folder_of(db, row))
    assert [(one.path.name, one.caption) for one in found] == [("a.png", "hat"), ("b.png", "glasses")]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "An upload comes as a form with files"),
        ({"a.txt": b"hat"}, "There is no image"),
        ({"a.png": b"not an image"}, "a.png cannot be read as an image"),
        ({"a.jpg": jpeg()[: len(jpeg()) // 2]}, "a.jpg cannot be read as an image"),
        ({"a.png": png(1), "a.jpg": jpeg()}, "Two files would be called a.png"),
        ({"a.png": png(1), "A.PNG": png(2)}, "Two files would be called A.png"),
        ({"a.png": png(1), "b.txt": b"hat"}, "No image belongs to 1 file (b.txt)"),
        ({"a.png": png(1), "a.txt": b"\xff\xfe"}, "a.txt is not UTF-8"),
        ({"all.zip": zipped({"../../evil.png": png(1)})}, "no plain name below a folder"),
        ({"all.zip": zipped({"/etc/evil.png": png(1)})}, "no plain name below a folder"),
        ({"all.zip": zipped({"c:\\evil.png": png(1)})}, "no plain name below a folder"),
        ({"all.zip": b"PK not a zip"}, "all.zip cannot be unpacked"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused_and_nothing_is_left(
    db: Database, client: TestClient, files: Files, words: str
) -> None:
    answer = send(client, files)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert datasets.list_datasets(db) == []
    assert leftovers(db) == []
    assert not list(db.home.rglob("evil*"))


def test_a_form_in_which_nothing_was_chosen_says_so(client: TestClient) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nportraits\r\n'
        b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n--x--\r\n"
    )
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert "No files were sent" in client.post("/datasets", content=body, headers=kind).json()["error"]
    for cut in (10, 60, 200):
        answer = client.post("/datasets", content=body[:cut], headers=kind)
        assert answer.status_code == 400, "broken off"


def test_a_form_of_many_small_fields_is_given_up(client: TestClient) -> None:
    field = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\na\r\n'
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/datasets", content=field * 1_000 + b"--x--\r\n", headers=kind)
    assert answer.status_code == 400
    assert f"{receiving.MAX_PARTS} fields beside its files at most" in answer.json()["error"]


def test_a_name_is_wanted_and_taken_once(db: Database, client: TestClient) -> None:
    assert "A dataset's name has 1 to 120 characters" in send(client, PAIRS, " ").json()["error"]
    assert send(client, PAIRS).status_code == 200
    assert "There is a dataset named portraits already" in send(client, PAIRS).json()["error"]
    assert len(datasets.list_datasets(db)) == 1
    assert leftovers(db) == []


def test_limits_hold_whatever_the_form_says_of_itself(
    db: Database, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(uploads.LIMITS, "/datasets", receiving.Limits(files=3, size=100_000))
    assert "3 files at most" in send(client, PAIRS).json()["error"]
    monkeypatch.setitem(uploads.LIMITS, "/datasets", receiving.Limits(files=9, size=1000))
    assert "MB at most" in send(client, PAIRS).json()["error"]
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1000)
    monkeypatch.setitem(uploads.LIMITS, "/datasets", receiving.Limits(files=9, size=100_000))
    bomb = zipped({"a.png": b"0" * 1_000_000})
    assert "Unpacked, the archive has more than" in send(client, {"a.zip": bomb}).json()["error"]
    monkeypatch.setattr(arriving, "MAX_IMAGES", 1)
    assert "1 images at most" in send(client, PAIRS).json()["error"]
    assert leftovers(db) == []


def test_only_the_routes_of_files_take_more_than_a_page_sends(client: TestClient) -> None:
    large = {"content-length": str(security.MAX_BODY + 1)}
    assert client.post("/person", content=b"", headers=large).status_code == 413
    assert client.post("/datasets", content=b"", headers=large).json()["error"].startswith("An upload comes")
    huge = {"content-length": str(uploads.LIMITS["/datasets"].size + 1)}
    assert client.post("/datasets", content=b"", headers=huge).status_code == 413
    foreign = {"origin": "http://evil.example"}
    assert client.post("/datasets", content=b"", headers=foreign).status_code == 403


def test_a_disk_without_room_is_told_before_anything_is_read(
    db: Database, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "reserve_of", lambda db: 2**60)
    answer = send(client, PAIRS)
    assert answer.status_code == 507
    assert "free some space" in answer.json()["error"]
    assert leftovers(db) == []


def test_a_folder_of_this_machine_is_pointed_at_and_stays_where_it_is(db: Database, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(LookupError, match="has no images"):
        uploads.point_at(db, "mine", str(folder))
    (folder / "a.png").write_bytes(png(1))
    row = uploads.point_at(db, "mine", str(folder))
    assert (Path(row.path), row.num_images, row.detail["silent"]) == (folder, 1, 1)
    assert datasets.folder_of(db, row) == folder
    with pytest.raises(Refused, match="the whole path"):
        uploads.point_at(db, "other", "mine")
    with pytest.raises(LookupError, match="there is no data folder"):
        uploads.point_at(db, "other", str(tmp_path / "nothing"))
    (folder / "a.png").unlink()
    folder.rmdir()
    with pytest.raises(LookupError, match="the folder of the dataset mine is gone"):
        datasets.folder_of(db, row)


def safetensors(values: bytes = bytes(8), end: int = 8) -> bytes:
    tensor = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, end]}
    header = json.dumps({"unet.to_q.lora_A.weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + values


def test_an_adapter_is_looked_at_and_its_import_is_queued_in_the_name_of_who_sent_it(
    db: Database, client: TestClient, base: Checkpoint
) -> None:
    ann = users.add_user(db, "Ann", "artist")
    client.cookies.set(COOKIE, ann.id)
    file = {"file": ("folder/soft.safetensors", safetensors())}
    answer = client.post("/adapters", data={"base": base.id, "name": " "}, files=file)
    assert answer.status_code == 200, answer.text
    job = jobs.get_job(db, answer.json()["job"])
    assert (job.kind, job.created_by, job.payload["name"]) == ("import", ann.id, "soft")
    assert job.payload["origin"] == "soft.safetensors"
    assert imports.uploaded_file(db, job.payload["file"]).read_bytes() == safetensors()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.ckpt", safetensors(), "no .safetensors file"),
        ("a.safetensors", b"", "cut short"),
        ("a.safetensors", b"\x80\x04pickle" * 9, "cut short"),
        ("a.safetensors", safetensors(bytes(7)), "cut short"),
        ("a.safetensors", (4).to_bytes(8, "little") + b"[1]]", "header cannot be read"),
    ],
)
def test_a_file_that_is_no_adapter_is_refused_before_a_worker_sees_it(
    db: Database, client: TestClient, base: Checkpoint, name: str, content: bytes, words: str
) -> None:
    answer = client.post("/adapters", data={"base": base.id}, files={"file": (name, content)})
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert jobs.recent_jobs(db, "import") == []
    assert leftovers(db) == []


def test_the_settings_of_peft_come_with_its_adapter(
    db: Database, client: TestClient, base: Checkpoint
) -> None:
    settings = ("file", ("folder/adapter_config.json", b'{"lora_alpha": 8}'))
    weights = ("file", ("folder/adapter_model.safetensors", safetensors()))
    answer = client.post("/adapters", data={"base": base.id}, files=[settings, weights])
    assert answer.status_code == 200, answer.text
    place = imports.uploaded_file(db, jobs.get_job(db, answer.json()["job"]).payload["file"])
    assert place.with_name(imports.SETTINGS).read_bytes() == b'{"lora_alpha": 8}'
    for files in ([settings], [weights, weights], []):
        answer = client.post("/adapters", data={"base": base.id}, files=files or {"other": ("", b"")})
        assert "Choose one .safetensors file" in answer.json()["error"]


def test_an_adapter_for_nothing_leaves_nothing(db: Database, client: TestClient) -> None:
    file = {"file": ("a.safetensors", safetensors())}
    answer = client.post("/adapters", data={"base": "nothing"}, files=file)
    assert "There is no checkpoint" in answer.json()["error"]
    assert leftovers(db) == []


def test_what_broke_off_goes_after_a_day_and_what_a_job_waits_for_stays(
    db: Database, base: Checkpoint
) -> None:
    (waits, place), (old, other), (new, _) = (imports.new_upload(db) for _ in range(3))
    place.write_bytes(safetensors())
    imports.request_import(db, upload=waits, base_checkpoint_id=base.id, name="a", origin="a")
    for folder in (place.parent, other.parent):
        os.utime(folder, (0, 0))
    uploads.upload_routes(db)
    assert {path.name for path in (db.home / "tmp" / "uploads").iterdir()} == {waits, new}
    assert old not in (waits, new)


def test_an_exported_file_is_had_by_its_id_alone(db: Database, client: TestClient, base: Checkpoint) -> None:
    place = db.home / "exports" / "x.safetensors"
    place.parent.mkdir()
    place.write_bytes(b"tensors")
    made = exports.record_export(
        db, export_id=new_id(), checkpoint_id=base.id, layout="kohya", path="exports/x.safetensors",
        sha256="0" * 64, created_by="local",
    )  # fmt: skip
    answer = client.get(export_url(made.id))
    assert (answer.status_code, answer.content) == (200, b"tensors")
    assert answer.headers["content-disposition"] == 'attachment; filename="starter-kohya.safetensors"'
    for other in (new_id(), "x.safetensors", "..%2Fapp.db"):
        assert client.get(f"/exports/{other}").status_code == 404
    assert client.get(card_url(made.id)).status_code == 404
    place.with_suffix(".md").write_text("# soft")
    card = client.get(card_url(made.id))
    assert (card.status_code, card.text) == (200, "# soft")
    assert card.headers["content-disposition"] == 'attachment; filename="starter-kohya.md"'
    place.unlink()
    assert client.get(export_url(made.id)).status_code == 404


def test_an_image_is_asked_for_its_settings_and_not_kept(client: TestClient, db: Database) -> None:
    said, file = PngInfo(), io.BytesIO()
    said.add_itxt("parameters", "red hair\nSteps: 8, Sampler: Euler, CFG scale: 3, Seed: 7, Size: 64x64")
    Picture.new("RGB", (64, 64)).save(file, "PNG", pnginfo=said)
    answer = client.post(uploads.RECALL, files={"file": ("a.png", file.getvalue())})
    assert answer.status_code == 200
    assert answer.json()["values"]["prompt"] == "red hair"
    assert not [path for path in (db.home / "tmp" / "uploads").rglob("*") if path.is_file()]
    for sent, words in (
        (png(7), "says nothing of how it was made"),
        (b"GIF89a", "cannot be read as an image"),
    ):
        refused = client.post(uploads.RECALL, files={"file": ("a.png", sent)})
        assert refused.status_code == 400
        assert words in refused.json()["error"]
    assert "choose one" in client.post(uploads.RECALL, files={"file": ("", b"")}).json()["error"]
