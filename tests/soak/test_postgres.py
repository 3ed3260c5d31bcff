"""PostgreSQL under load: killed ten times, and sixteen processes that claim two hundred runs each."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.engine import open_database
from tests.claims import claim_at_once
from tests.faults.test_killed_postgres import kill_under_load
from tests.postgres import running

KILLS = 10
PROCESSES, CLAIMS = 16, 200


@pytest.mark.timeout(900)
def test_ten_kills_of_the_server_lose_and_double_nothing(
    tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    (tmp_path / "home").mkdir()
    with running() as server:
        acknowledged, beside = kill_under_load(server, tmp_path / "home", KILLS, random.Random())
    assert beside <= 6
    figure("PostgreSQL killed ten times under load: acknowledged ratings lost", f"0 of {acknowledged}")


@pytest.mark.timeout(3600)
def test_each_run_is_claimed_once_on_sqlite(tmp_path: Path, figure: Callable[[str, str], None]) -> None:
    db = open_database(tmp_path / "home", f"sqlite:///{tmp_path / 'rows.db'}")
    claim_at_once(db, f"sqlite:///{tmp_path / 'rows.db'}", PROCESSES, CLAIMS)
    db.close()
    figure("16 processes x 200 claims on SQLite", f"{PROCESSES * CLAIMS} runs, each claimed once")


@pytest.mark.timeout(3600)
def test_each_run_is_claimed_once_on_postgresql(tmp_path: Path, figure: Callable[[str, str], None]) -> None:
    with running() as server:
        db = open_database(tmp_path / "home", server.url("postgres"))
        claim_at_once(db, server.url("postgres"), PROCESSES, CLAIMS)
        db.close()
    figure("16 processes x 200 claims on PostgreSQL", f"{PROCESSES * CLAIMS} runs, each claimed once")
