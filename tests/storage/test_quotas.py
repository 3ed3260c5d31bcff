"""Below the reserve nothing large is taken on; artists have limits where some are set; ratings go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import groups, quotas, users
from storage.backup import Plan, plan_of
from storage.engine import Database
from storage.errors import NotSavedError
from storage.groups import GroupView
from storage.models import Checkpoint
from storage.quotas import OverQuotaError, Quotas, check_images, check_room, quotas_of, set_quotas
from storage.rotation import Retention
from storage.settings import put_setting
from tests.storage.records import CONFIG
from tests.storage.test_backup import vote
from tests.storage.test_commands import called


@pytest.fixture
def artist(db: Database) -> str:
    return users.add_user(db, "Ann", "artist").id


def ask(db: Database, base: Checkpoint, by: str, images: int) -> str:
    return groups.request_group(
        db, prompt="a", checkpoint_id=base.id, config=CONFIG, seeds=range(images), created_by=by
    ).id


def test_below_the_reserve_images_are_refused_and_ratings_are_not(db: Database, group: GroupView) -> None:
    check_images(db, "local", 100)
    set_quotas(db, Quotas(reserve_bytes=10**18))
    with pytest.raises(NotSavedError, match=r"kept free for ratings: free some space, then try again"):
        check_images(db, "local", 1)
    vote(db, group, 1)


def test_a_full_folder_is_refused_with_both_numbers_and_what_to_do(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "_FRESH_SECONDS", 0.0)
    (db.home / "blobs" / "large").write_bytes(bytes(3_000_000))
    set_quotas(db, Quotas(folder_bytes=50_000_000))
    check_room(db)
    with pytest.raises(NotSavedError, match=r"takes \d MB of the 50 MB that it may"):
        check_room(db, needed=48_000_000)
    set_quotas(db, Quotas())
    check_room(db, needed=48_000_000)


def test_an_artist_may_have_so_many_waiting_and_others_are_not_limited(
    db: Database, base: Checkpoint, artist: str
) -> None:
    set_quotas(db, Quotas(images_waiting=6))
    first = ask(db, base, artist, 4)
    check_images(db, artist, 2)
    with pytest.raises(OverQuotaError, match="4 of your images wait to be drawn, and 6 may"):
        check_images(db, artist, 3)
    check_images(db, "local", 1_000)
    groups.cancel_group(db, first)
    check_images(db, artist, 6)


def test_an_artist_may_ask_for_so_many_a_day_and_what_was_canceled_does_not_count(
    db: Database, base: Checkpoint, artist: str
) -> None:
    set_quotas(db, Quotas(images_a_day=8))
    groups.cancel_group(db, ask(db, base, artist, 4))
    ask(db, base, artist, 4)
    check_images(db, artist, 4)
    with pytest.raises(OverQuotaError, match="4 images within 24 hours, and 8 are allowed: go on tomorrow"):
        check_images(db, artist, 5)
    assert quotas.images_of(db, "local") == (0, 0)


def test_nonsense_in_the_setting_is_no_limit_and_a_negative_one_is_refused(db: Database) -> None:
    put_setting(db, quotas.SETTING, {"folder_bytes": "many", "images_a_day": -3, "images_waiting": True})
    assert quotas_of(db) == Quotas()
    put_setting(db, quotas.SETTING, ["many"])
    assert quotas_of(db) == Quotas()
    with pytest.raises(ValueError, match="expected 0 or more for images_a_day"):
        set_quotas(db, Quotas(images_a_day=-1))


def test_the_command_shows_and_sets_them(home: Path, db: Database) -> None:
    code, said = called("limits", "--home", str(home))
    assert code == 0
    assert (
        "data folder  any" in said and "any images waiting, any a day" in said and "every 5 minutes" in said
    )
    code, said = called(
        "limits", "--home", str(home), "--folder-gb", "7", "--reserve-mb", "9", "--waiting", "30",
        "--a-day", "1000", "--backup-minutes", "2", "--backups-kept", "6,48,7",
    )  # fmt: skip
    assert (code, quotas_of(db)) == (0, Quotas(7 * 10**9, 9 * 10**6, 30, 1000))
    assert "7 GB" in said and "9 MB" in said and "30 images waiting, 1,000 a day" in said
    assert "every 2 minutes" in said and "the last 6, one of 48 hours and 7 days" in said
    assert plan_of(db) == Plan(2.0, Retention(6, 48, 7))
    code, said = called("limits", "--home", str(home), "--backups-kept", "6,many")
    assert (code, "expected three numbers" in said) == (2, True)
    code, said = called("limits", "--home", str(home), "--folder-gb", "0", "--a-day", "0")
    assert quotas_of(db) == Quotas(None, 9 * 10**6, 30, None)
