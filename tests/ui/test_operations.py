"""/healthz tells what is amiss with a status, quickly; /metrics counts what there is, and repeats no path."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from flowgrpo.runs import layout
from flowgrpo.runs.dispatcher import Dispatcher
from storage import backup_trouble, copies, counts, jobs, quotas, workers
from storage.backup import back_up
from storage.engine import Database
from storage.errors import UnreadableError
from storage.types import utc_now
from tests.ui.conftest import MakeGroup
from ui import measures, operations
from ui.operations import STARTING_SECONDS, Vitals, operation_routes
from ui.server import create_app

pytestmark = [  # Gradio leaves event loops of its own unclosed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def client(db: Database) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(operation_routes(app, db))

    @app.get("/things/{name}")
    def thing(name: str) -> str:
        return name

    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened


def beat_of_dispatcher(db: Database) -> None:
    path = layout.dispatcher_lock(db.home)
    path.parent.mkdir(exist_ok=True)
    path.touch()


def values(client: TestClient) -> dict[str, float]:
    """Name with labels to value."""
    text = client.get("/metrics").text
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_studio_that_starts_is_well_and_one_whose_engine_never_came_is_not(db: Database) -> None:
    now = [0.0]
    vitals = Vitals(db, lambda: now[0])
    assert vitals.look() == {
        "database": "ok", "disk": "ok", "dispatcher": "starting", "engine": "starting", "backup": "ok",
    }  # fmt: skip
    now[0] = STARTING_SECONDS
    assert (vitals.look()["dispatcher"], vitals.look()["engine"]) == ("late", "late")
    beat_of_dispatcher(db)
    workers.worker_beat(db, worker_id="w", pid=1, state="idle")
    assert set(vitals.look().values()) == {"ok"}
    os.utime(layout.dispatcher_lock(db.home), (0, time.time() - 60))
    assert vitals.look()["dispatcher"] == "late"
    workers.worker_beat(db, worker_id="w", pid=1, state="stopped")
    assert vitals.look()["engine"] == "late", "it has said goodbye"


def test_what_is_amiss_is_a_status_and_a_word(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert answer.headers["cache-control"] == "no-store"
    full = SimpleNamespace(free=quotas.RESERVE_BYTES - 1, total=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["checks"]["disk"]) == (503, "full")

    def broken(db: Database) -> None:
        raise UnreadableError("disk image is malformed")

    monkeypatch.setattr(counts, "check_reads", broken)
    checks = client.get("/healthz").json()["checks"]
    assert checks["database"] == "unreadable"
    assert "malformed" not in client.get("/healthz").text


def test_health_is_told_in_less_than_20_ms(client: TestClient, db: Database) -> None:
    workers.worker_beat(db, worker_id="w", pid=1, state="idle")
    vitals, times = Vitals(db), []
    for _ in range(30):
        begun = time.perf_counter()
        vitals.look()
        times.append(time.perf_counter() - begun)
    assert sorted(times)[len(times) // 2] < 0.020


def test_the_dispatcher_that_is_elected_gives_a_sign_of_life_each_round(db: Database) -> None:
    path = layout.dispatcher_lock(db.home)
    dispatcher = Dispatcher(db, devices=())
    dispatcher._round()
    os.utime(path, (0, 0))
    other = Dispatcher(db, devices=())
    other._round()
    assert path.stat().st_mtime == 0, "the one that looks on gives none"
    dispatcher._round()
    assert operations.age_of(path) is not None
    assert (operations.age_of(path) or 0) < 30
    dispatcher._runs.resign()


def test_rows_disk_and_backups_are_counted(client: TestClient, db: Database, make_group: MakeGroup) -> None:
    make_group()
    jobs.request_job(db, "base", {})
    workers.worker_beat(db, worker_id="w", pid=1, state="idle")
    found = values(client)
    assert found["flowgrpo_groups done"] == 1
    assert found["flowgrpo_jobs queued"] == found["flowgrpo_queue_length"] == 1
    assert found["flowgrpo_votes_total rating"] == found["flowgrpo_votes_total blind"] == 0
    assert found["flowgrpo_worker_beat_age_seconds w"] < 60
    assert found["flowgrpo_disk_free_bytes"] > 0
    assert "flowgrpo_backup_age_seconds" not in found
    assert found["flowgrpo_backup_failed"] == 0


def test_the_age_is_that_of_backups_and_of_no_other_copy(client: TestClient, db: Database) -> None:
    folder = db.home / copies.FOLDER
    folder.mkdir()
    for name in ("schema-0005-before-0006.db", "monday.db"):
        (folder / name).touch()
    assert "flowgrpo_backup_age_seconds" not in values(client)
    (folder / copies.automatic_name(utc_now() - timedelta(hours=1))).touch()
    assert 3590 < values(client)["flowgrpo_backup_age_seconds"] < 3700


def test_a_backup_that_failed_is_seen_by_whoever_asks_until_one_succeeds(
    client: TestClient, db: Database
) -> None:
    assert client.get("/healthz").json()["checks"]["backup"] == "ok"
    backup_trouble.note(db.home, "the disk is full in /a/folder")
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["checks"]["backup"]) == (200, "failed")
    assert "folder" not in answer.text
    assert values(client)["flowgrpo_backup_failed"] == 1
    assert back_up(db) is not None
    assert client.get("/healthz").json()["status"] == "ok"
    assert values(client)["flowgrpo_backup_failed"] == 0


def test_rows_are_counted_every_few_seconds_at_most(db: Database, make_group: MakeGroup) -> None:
    collector = measures.StudioCollector(db)
    before = collector._count()
    make_group()
    assert collector._count() is before
    collector._until = 0.0
    assert (before.groups, collector._count().groups) == ({}, {"done": 1})


def test_requests_are_timed_by_their_route_and_never_by_what_was_asked(client: TestClient) -> None:
    for path in ("/things/a", "/things/b", "/nothing/<script>", "/nothing/else"):
        assert re.fullmatch(r"[0-9a-f]{12}", client.get(path).headers["x-request-id"])
    client.request("BREW", "/things/a")
    found = values(client)
    assert found["flowgrpo_request_seconds_count GET /things/{name} 200"] == 2
    assert found["flowgrpo_request_seconds_count GET other 404"] == 2
    assert found["flowgrpo_request_seconds_count OTHER /things/{name} 405"] == 1
    assert not any("nothing" in name or "BREW" in name for name in found)


def test_a_database_that_cannot_be_read_has_no_metrics(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(db: Database) -> None:
        raise UnreadableError("it is damaged")

    monkeypatch.setattr(counts, "count", broken)
    assert client.get("/metrics").status_code == 503


def test_the_whole_app_answers_and_routes_of_gradio_are_timed_too(db: Database, tmp_path: Path) -> None:
    with TestClient(create_app(db), base_url="http://127.0.0.1") as whole:
        assert whole.get("/healthz").status_code == 200
        assert whole.get("/config").status_code == 200
        found = values(whole)
    assert any(name.startswith("flowgrpo_request_seconds_count GET /healthz 200") for name in found)
    named = [name for name in found if name.startswith("flowgrpo_request_seconds_count")]
    assert any("config" in name for name in named), named


def test_a_dispatcher_of_any_host_that_shares_the_folder_is_a_sign_of_life(db: Database) -> None:
    vitals = Vitals(db, clock=iter([0.0, *[1000.0] * 10]).__next__)
    assert vitals.look()["dispatcher"] == "late"
    lock = db.home / "locks" / "another-host" / "dispatcher.lock"
    lock.parent.mkdir()
    lock.touch()
    assert vitals.look()["dispatcher"] == "ok"
