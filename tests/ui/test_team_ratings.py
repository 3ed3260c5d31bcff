"""Team → Ratings: an admin has them written and fetches them; nobody else does."""

from __future__ import annotations

import io
import zipfile

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from storage import imports, jobs, ratings_files, users
from storage.engine import Database
from tests.ui.at_desk import at, body, form
from ui import uploads
from ui.media import media_routes
from ui.pages.team import acted
from ui.services import Services
from ui.team.common import Desk
from ui.usage import Usage

FACTS = {"groups": 2, "images": 1234, "pairs": 5, "events": 7, "people": 3, "missing": 0}


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services, Usage(services.db.home), users.get_user(services.db, "local"))


def write(db: Database) -> str:
    """The engine writes what was asked for."""
    job = jobs.claim_job(db, "w")
    assert job is not None and job.kind == ratings_files.KIND
    place = ratings_files.place_of(db.home, job.id)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"PK" * 1000)
    jobs.finish_job(db, job.id, FACTS)
    return job.id


def test_an_admin_asks_for_the_file_sees_it_written_and_saves_it(db: Database, desk: Desk) -> None:
    assert "No file has been written yet." in body(desk, "ratings")
    said, problem = acted(desk, "ratings", "", {"format": "trl"})
    assert (problem, "The engine writes it" in said) == ("", True)
    assert "It waits for the engine; jobs ahead of it: 0." in body(desk, "ratings")
    assert acted(desk, "ratings", "", {"format": "all"})[1].startswith(
        "The ratings are being written already"
    )
    job_id = write(db)
    shown = body(desk, "ratings")
    assert f'href="/exports/ratings/{job_id}.zip"' in shown
    assert "Rating events: 7; people: 3; pairs: 5; images: 1,234;" in shown
    app = FastAPI()
    app.include_router(media_routes(db))
    answer = TestClient(app).get(f"/exports/ratings/{job_id}.zip")
    assert (answer.status_code, answer.content) == (200, b"PK" * 1000)
    assert answer.headers["content-disposition"] == 'attachment; filename="ratings.zip"'
    assert TestClient(app).get("/exports/ratings/nothing.zip").status_code == 404


def test_a_file_that_was_given_up_or_failed_leaves_the_one_before(db: Database, desk: Desk) -> None:
    acted(desk, "ratings", "", {"format": "all"})
    first = write(db)
    acted(desk, "ratings", "", {"format": "raw"})
    wanted = ratings_files.newest_job(db)
    assert wanted is not None
    assert f'data-act="cancel_ratings" data-id="{wanted.id}"' in body(desk, "ratings")
    assert acted(desk, "cancel_ratings", wanted.id, {})[1] == ""
    assert f"/exports/ratings/{first}.zip" in body(desk, "ratings")
    acted(desk, "ratings", "", {"format": "raw"})
    failed = jobs.claim_job(db, "w")
    assert failed is not None
    jobs.fail_job(db, failed.id, "the disk is full")
    assert '<div class="sentence" role="alert">The disk is full.</div>' in body(desk, "ratings")


def test_no_other_job_is_cancelled_from_here(db: Database, desk: Desk) -> None:
    other = jobs.request_job(db, "agreement", {})
    assert acted(desk, "cancel_ratings", other.id, {})[1].startswith("This is no file of ratings")
    assert jobs.get_job(db, other.id).state == "queued"


def test_who_is_no_admin_neither_asks_nor_sees_it(db: Database, desk: Desk) -> None:
    acted(desk, "ratings", "", {"format": "all"})
    write(db)
    trainer = at(desk, users.add_user(db, "Tess", "trainer").id)
    assert "/exports/" not in body(trainer, "ratings")
    assert "An admin can have it written." in body(trainer, "ratings")
    assert "<form" not in form(trainer, "ratings")
    assert "cannot take the ratings out" in acted(trainer, "ratings", "", {"format": "all"})[1]


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return buffer.getvalue()


def sent(db: Database, name: str, data: bytes) -> tuple[int, dict[str, str]]:
    """The status of the answer, and what it says."""
    app = FastAPI()
    app.include_router(uploads.upload_routes(db))
    answer = TestClient(app).post(uploads.RATINGS, files={"file": (name, data)})
    return answer.status_code, answer.json()


def test_an_archive_lies_where_the_job_looks_with_what_is_of_use_in_its_place(
    db: Database, desk: Desk
) -> None:
    files = {
        "ratings/votes.jsonl": b"{}", "ratings/images/a.PNG": b"png", "ratings/run.py": b"evil",
        "__MACOSX/ratings/votes.jsonl": b"x", "ratings/.hidden.json": b"x",
    }  # fmt: skip
    status, said = sent(db, "ratings.zip", archive(files))
    assert status == 200, said
    job = jobs.get_job(db, said["job"])
    assert (job.kind, job.payload["origin"]) == (imports.RATINGS, "ratings.zip")
    folder = imports.uploaded_folder(db, job.payload["file"])
    kept = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert kept == ["ratings/images/a.PNG", "ratings/votes.jsonl"]
    assert "<b>ratings.zip</b>" in body(desk, "ratings")
    jobs.claim_job(db, "w")
    told = {"groups": 9, "ratings": 30, "new_groups": 2, "new_ratings": 5, "left_out": 1}
    jobs.finish_job(db, job.id, told)
    assert "Groups: 9, of which new: 2. Ratings: 30, of which new: 5." in body(desk, "ratings")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("ratings.csv", b"a,b", "ratings.csv is of no known format: expected .zip"),
        ("ratings.zip", b"no archive", "cannot be unpacked"),
        ("ratings.zip", archive({"a.png": b"x"}), "has no .parquet, .json or .jsonl"),
        ("ratings.zip", archive({"../../a.json": b"x"}), "leads out of it"),
        ("ratings.zip", archive({"/etc/a.json": b"x"}), "leads out of it"),
        ("ratings.zip", archive({f"{'a' * 300}.json": b"x"}), "too long"),
        ("ratings.zip", archive({"a.json": b"x", "./a.json": b"y"}), "a.json twice"),
    ],
)
def test_what_can_be_no_ratings_is_refused_in_a_sentence_and_leaves_nothing(
    db: Database, name: str, data: bytes, words: str
) -> None:
    status, said = sent(db, name, data)
    assert (status, words in said["error"]) == (400, True), said
    assert not jobs.recent_jobs(db, imports.RATINGS)
    assert not list((db.home / "tmp" / "uploads").iterdir())
