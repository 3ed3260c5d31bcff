"""Archives of ratings: asked for one at a time, and the newest is the one that stays."""

from __future__ import annotations

import pytest

from storage import audit, jobs, ratings_files
from storage.engine import Database


def written(db: Database) -> str:
    """Id of a job that has left an archive."""
    job = ratings_files.request_ratings_file(db, "all")
    jobs.claim_job(db, "w")
    place = ratings_files.place_of(db.home, job.id)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"archive")
    ratings_files.note_ratings_file(db, job, 3)
    jobs.finish_job(db, job.id, {"pairs": 3})
    return job.id


def test_one_archive_is_written_at_a_time_and_only_in_a_known_format(db: Database) -> None:
    with pytest.raises(ValueError, match=r"a format is all, pickapic, .* got parquet"):
        ratings_files.request_ratings_file(db, "parquet")
    first = ratings_files.request_ratings_file(db, "trl")
    with pytest.raises(ValueError, match="are being written already"):
        ratings_files.request_ratings_file(db, "all")
    jobs.cancel_job(db, first.id)
    assert ratings_files.request_ratings_file(db, "all").payload == {"format": "all"}


def test_the_newest_archive_stays_and_the_log_knows_of_each(db: Database) -> None:
    assert ratings_files.ratings_file(db) is None
    first, second = written(db), written(db)
    found = ratings_files.ratings_file(db)
    assert found is not None
    assert (found.job.id, found.size) == (second, len(b"archive"))
    assert ratings_files.path_of(db, second).read_bytes() == b"archive"
    with pytest.raises(LookupError, match="is gone: write a new one"):
        ratings_files.path_of(db, first)
    assert [one.act for one in audit.latest(db)] == ["ratings.export", "ratings.export"]


def test_no_other_job_stands_for_an_archive(db: Database) -> None:
    other = jobs.request_job(db, "agreement", {})
    ratings_files.place_of(db.home, other.id).parent.mkdir(exist_ok=True)
    ratings_files.place_of(db.home, other.id).write_bytes(b"of somebody else")
    with pytest.raises(LookupError, match="is gone"):
        ratings_files.path_of(db, other.id)
