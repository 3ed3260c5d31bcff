"""The promises about the disk, at the size that they are made for. SOAK_SHARE=0.1 tries a tenth of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import backup
from storage.backup import Backups
from storage.copies import backups_of, verified
from storage.settings import put_setting
from tests.faults.test_fill_ups import fill_ups
from tests.faults.test_full_disk import disk
from tests.faults.test_synced_votes import syncs_per_vote
from tests.runs.helpers import wait_for
from tests.storage.populated import RELEASED
from tests.storage.test_backup import backups_during_votes, voting
from tests.storage.test_upgrades import POINTS, killed_everywhere, upgraded

__all__ = ["disk"]
SHARE = float(os.environ.get("SOAK_SHARE", "1"))
Figure = Callable[[str, str], None]


def size(full: int) -> int:
    return max(1, round(full * SHARE))


@pytest.mark.timeout(1800)
def test_fifty_fill_ups_lose_no_acknowledged_vote(disk: Path, figure: Figure) -> None:
    times = size(50)
    votes = fill_ups(disk, times)
    figure("full disk", f"{times} fill-ups, {votes:,} acknowledged votes, 0 lost, no restart")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("revision", RELEASED)
def test_ten_thousand_ratings_of_every_released_schema_come_through(
    tmp_path: Path, revision: str, figure: Figure
) -> None:
    start = time.monotonic()
    ratings = upgraded(tmp_path / "home", revision, rows=size(2_000), ratings=size(12_000))
    took = time.monotonic() - start
    figure(
        f"migration from {revision} keeps data",
        f"{ratings:,} ratings and {size(2_000):,} rows of every other table, all counts and hashes equal, "
        f"{took:.1f} s",
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("revision", RELEASED)
def test_a_migration_killed_at_every_point_keeps_ten_thousand_ratings(
    tmp_path: Path, revision: str, figure: Figure
) -> None:
    kills = killed_everywhere(tmp_path, revision, rows=size(1_000), ratings=size(10_000))
    assert kills >= len(POINTS) - len(RELEASED)
    figure(f"migration from {revision} killed", f"{kills} points, {size(10_000):,} ratings, 0 lost")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("journal", ["WAL", "TRUNCATE"])
def test_backups_during_thirty_votes_a_second_are_intact(
    tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    start = time.monotonic()
    count = size(200)
    votes, slowest = backups_during_votes(tmp_path / "home", journal, monkeypatch, num_backups=count)
    rate = votes / (time.monotonic() - start)
    figure(
        f"backups while people rate ({journal})",
        f"{count} backups during {votes:,} votes at {rate:.0f}/s, all intact, the slowest in {slowest:.2f} s",
    )


@pytest.mark.timeout(1800)
def test_the_newest_backup_is_never_older_than_five_minutes_while_people_rate(
    tmp_path: Path, figure: Figure
) -> None:
    minutes = 5.0 * SHARE  # the interval shrinks with the time, so that a share tries the same thing
    until = time.monotonic() + 3.2 * minutes * 60
    oldest = 0.0
    with voting(tmp_path / "home") as (db, acknowledged):
        put_setting(db, backup.SETTING, {"minutes": minutes})
        keeper = Backups(db, first_seconds=min(20.0, minutes * 12)).start()
        try:
            wait_for(lambda: backups_of(db.home), seconds=60.0, what="the first backup")
            while time.monotonic() < until:
                oldest = max(oldest, time.time() - backups_of(db.home)[0].at.timestamp())
                time.sleep(0.2)
            assert keeper.trouble == ""
        finally:
            keeper.stop()
        newest = backups_of(db.home)[0]
        assert verified(newest.path).ratings > 0
        figure(
            "age of the newest backup",
            f"{oldest / 60:.2f} min at most of {minutes:g} promised, {len(backups_of(db.home))} backups, "
            f"{acknowledged[0]:,} votes",
        )
    assert oldest <= minutes * 60


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("journal", ["WAL", "TRUNCATE"])
def test_every_acknowledged_vote_was_synced(
    tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    counts = syncs_per_vote(tmp_path, journal, size(500), monkeypatch)
    assert min(counts) >= 1
    figure(f"sync before an acknowledgement ({journal})", f"at least {min(counts)} in {len(counts):,} votes")
