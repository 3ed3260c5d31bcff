"""The job that writes all ratings as one .zip: what is in it comes in again, and it is whole or not there."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from flowgrpo.runs.generation import CanceledError, Painter
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.ratings_job import ratings_job
from flowgrpo.runs.ratings_out import checked_format
from flowgrpo.runs.worker import WEIGHTS, Worker
from flowgrpo.sharing.card import FORMATS
from storage import imports, jobs, ratings_files
from storage.engine import Database, open_database
from storage.models_judging import Job
from tests.runs.opinions import Opinions, opinions_in
from tests.storage.ready import ready


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Opinions]:
    with opinions_in(tmp_path / "home") as made:
        yield made


def worked(db: Database, form: str) -> Job:
    """The job after a worker had it."""
    return after_work(db, ratings_files.request_ratings_file(db, form))


def after_work(db: Database, job: Job) -> Job:
    worker = Worker(db, "cpu", WEIGHTS)
    assert worker._did_a_job()
    worker.beacon.end()
    return jobs.get_job(db, job.id)


def taken(db: Database, folder: Path) -> Job:
    """The job that takes over what a folder has, after a worker had it."""
    upload, place = imports.new_folder(db)
    shutil.copytree(folder, place, dirs_exist_ok=True)
    job = imports.request_ratings(db, upload=upload, origin="ratings.zip")
    return after_work(db, job)


def test_the_archive_comes_in_again_elsewhere_with_every_group(studio: Opinions, tmp_path: Path) -> None:
    job = worked(studio.db, "trl")
    assert job.state == "done", job.reason
    place = ratings_files.path_of(studio.db, job.id)
    with zipfile.ZipFile(place) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "out")
    assert {"ratings/README.md", "ratings/votes.jsonl", "ratings/images.parquet"} <= set(names)
    assert any(name.startswith("ratings/trl/") for name in names)
    assert not any(name.startswith("ratings/hpd/") for name in names)
    assert [path.name for path in place.parent.iterdir()] == [place.name]  # nothing is left of the work
    told = job.result or {}
    assert (told["missing"], told["people"]) == (1, 4)  # one group has lost a file
    other = open_database(ready(tmp_path / "other"))
    try:
        brought = [taken(other, tmp_path / "out").result or {} for _ in range(2)]
    finally:
        other.close()
    assert [one["groups"] for one in brought] == [told["groups"]] * 2
    assert [one["new_groups"] for one in brought] == [told["groups"], 0]
    assert not list((tmp_path / "other" / "tmp" / "uploads").iterdir())


def test_what_cannot_be_read_fails_with_a_sentence_and_keeps_nothing(db: Database, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "votes.json").write_text("[1, 2]")
    job = taken(db, tmp_path / "odd")
    assert job.state == "failed"
    assert "votes.json" in (job.reason or "")
    assert imports.uploaded_folder(db, job.payload["file"]).is_dir()  # for a day


def test_a_studio_without_ratings_is_told_so_and_nothing_is_written(db: Database) -> None:
    job = worked(db, "all")
    assert (job.state, job.reason) == (
        "failed", "there are no ratings with images to export: rate some groups first"
    )  # fmt: skip
    assert not list((db.home / "exports").iterdir())


def test_an_archive_that_nobody_wants_any_more_leaves_nothing(studio: Opinions) -> None:
    db = studio.db
    job = ratings_files.request_ratings_file(db, "all")
    jobs.claim_job(db, "w")
    worker = Worker(db, "cpu", WEIGHTS)
    bench = bench_of(worker, job)
    jobs.cancel_job(db, job.id)
    with pytest.raises(CanceledError):
        ratings_job(bench)
    worker.beacon.end()
    assert not list((db.home / "exports").iterdir())


def bench_of(worker: Worker, job: Job) -> Bench:
    painter: Painter = worker.painter
    return Bench(
        worker.db, job, painter, torch.device("cpu"), WEIGHTS,
        turn=worker.turns.turn, between=lambda: None, is_ending=lambda: False,
    )  # fmt: skip


def test_every_format_that_the_page_offers_is_one_that_is_written() -> None:
    assert set(ratings_files.FORMS) == {"all", "raw", *FORMATS}
    assert all(set(checked_format(form)) <= set(FORMATS) for form in ratings_files.FORMS)
