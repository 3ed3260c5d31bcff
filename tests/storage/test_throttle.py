"""Guesses of a password become slow, for the account and for the address, and a right one starts anew."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select

from storage import throttle
from storage.engine import Database
from storage.models_access import LoginThrottle
from storage.types import utc_now

ADA = throttle.keys_of("Ada", "10.0.0.1")


def wrong(db: Database, keys: Sequence[str], times: int, at: datetime) -> datetime:
    """So many wrong guesses, each as soon as it is taken; returns when the last one was."""
    for _ in range(times):
        at += timedelta(seconds=throttle.wait(db, keys, now=at))
        assert throttle.take(db, keys, now=at) == 0
    return at


def test_the_fifth_wrong_guess_of_an_account_makes_the_next_wait_longer_each_time(db: Database) -> None:
    at, waits = utc_now(), []
    for _ in range(8):
        at = wrong(db, ADA, 1, at)
        waits.append(throttle.wait(db, ADA, now=at))
    assert waits == [0, 0, 0, 0, 30, 60, 120, 240]


def test_a_guess_that_has_to_wait_is_not_counted(db: Database) -> None:
    at = wrong(db, ADA, 5, utc_now())
    assert [throttle.take(db, ADA, now=at) for _ in range(10)] == [30.0] * 10


def test_of_a_hundred_guesses_at_once_five_are_looked_at(db: Database) -> None:
    taken, all_ready = list[float](), threading.Barrier(20)

    def guess() -> None:
        all_ready.wait()
        taken.extend(throttle.take(db, ADA) for _ in range(5))

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100 and taken.count(0) == throttle.LIMITS["account"]


def test_no_wait_is_longer_than_a_quarter_of_an_hour(db: Database) -> None:
    at = wrong(db, ADA, 12, utc_now())
    assert throttle.wait(db, ADA, now=at) == throttle.LONGEST_WAIT.total_seconds()


def test_an_address_that_guesses_many_names_waits_and_others_do_not(db: Database) -> None:
    at = utc_now()
    for number in range(throttle.LIMITS["address"]):
        assert throttle.take(db, throttle.keys_of(f"name {number}", "10.0.0.1"), now=at) == 0
    assert throttle.wait(db, ADA, now=at) > 0
    assert throttle.wait(db, throttle.keys_of("Ada", "10.0.0.2"), now=at) == 0


def test_a_right_guess_between_does_not_let_an_address_guess_at_others_for_ever(db: Database) -> None:
    at, own, looked_at = utc_now(), throttle.keys_of("Mallory", "10.0.0.1"), 0
    for number in range(60):
        looked_at += throttle.take(db, throttle.keys_of(f"name {number}", "10.0.0.1"), now=at) == 0
        if throttle.take(db, own, now=at) == 0:
            throttle.was_right(db, own)
    assert looked_at == throttle.LIMITS["address"]


def test_right_guesses_of_a_whole_office_at_one_address_lock_nobody_out(db: Database) -> None:
    at = utc_now()
    for number in range(100):
        keys = throttle.keys_of(f"name {number}", "10.0.0.1")
        assert throttle.take(db, keys, now=at) == 0
        throttle.was_right(db, keys)


def test_a_name_in_other_letters_or_with_spaces_is_the_same_account(db: Database) -> None:
    assert throttle.keys_of("  ADA ", "x")[0] == throttle.keys_of("ada", "y")[0]


def test_a_right_guess_and_a_quarter_of_an_hour_both_forgive(db: Database) -> None:
    at = wrong(db, ADA, 5, utc_now())
    later = wrong(db, ADA, 1, at + timedelta(seconds=30) + throttle.WINDOW)
    assert throttle.wait(db, ADA, now=later) == 0
    later = wrong(db, ADA, 4, later)
    assert throttle.wait(db, ADA, now=later) == 30
    throttle.was_right(db, ADA)
    assert throttle.wait(db, ADA, now=later) == 0


def test_what_was_guessed_days_ago_is_not_kept(db: Database) -> None:
    long_ago = utc_now() - timedelta(days=2)
    for number in range(5):
        throttle.take(db, throttle.keys_of(f"name {number}", f"10.0.1.{number}"), now=long_ago)
    throttle.take(db, ADA)
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(LoginThrottle)) == 2
