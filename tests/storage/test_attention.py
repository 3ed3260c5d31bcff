"""How many people are at a group, and which comes next: what is kept is what counting and sorting say."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import assignments, checks, offers, ratings, users
from storage.checkpoints import register_base
from storage.engine import Database, open_database
from storage.models import Checkpoint, ImageGroup, Run
from storage.rating_rules import OVERLAP, put_rule, rules_in
from storage.ratings import RatingInput
from storage.types import utc_now
from tests.storage.attention import counted
from tests.storage.ready import ready
from tests.storage.records import finished_group
from tests.storage.test_assignments import prioritise, rollout

ACTS = ("next", "vote", "skip", "star", "undo", "lapse", "check", "no check", "stay")
Act = tuple[str, int, int]
"""What is done, by which person, to which group."""
_keys = itertools.count()


def act(db: Database, what: str, who: str, group: str, image: str) -> None:
    """One thing that somebody does; what cannot be done now is refused."""
    key = f"key number {next(_keys)}"
    if what == "next":
        ratings.next_task(db, who)
    elif what in ("vote", "skip"):
        vote, skip = RatingInput(key, who, group, "best", image), RatingInput(key, who, group, "skip")
        ratings.submit(db, who, group, [vote if what == "vote" else skip])
    elif what == "star":
        ratings.rate(db, RatingInput(key, who, group, "stars", image, value=3))
    elif what == "undo":
        ratings.undo(db, who, key)
    elif what == "lapse":
        with db.write() as session:
            assignments.expire(session, utc_now() + timedelta(hours=1))
    elif what == "check":
        checks.add_check(db, group, [image])
    elif what == "no check":
        checks.remove_check(db, group)
    else:
        ratings.stay(db, who, group)


def in_order(db: Database, who: str) -> tuple[list[str], list[str]]:
    """The open groups as they are offered, and as sorting all of them gives."""
    with db.read() as session:
        rules = rules_in(session)
        sorted_all = list(session.scalars(offers.open_to(who, (), rules).with_only_columns(ImageGroup.id)))
        return offers.likely(session, who, (), 50), sorted_all


def go(db: Database, acts: Sequence[Act], priorities: Sequence[float | None], raters: int) -> None:
    """Lets three people act on groups of these priorities, and looks after each act."""
    base = register_base(db, name="starter", source="weights/pipeline", family="sdxl")
    people = ["local", *(users.add_user(db, name, "annotator").id for name in ("Ann", "Bea"))]
    views = [finished_group(db, base) for _ in priorities]
    put_rule(db, OVERLAP, {"share": 1, "raters": raters})
    prioritise(db, *zip(views, priorities, strict=True))
    for what, person, number in acts:
        view = views[number]
        with suppress(ValueError, LookupError):
            act(db, what, people[person], view.group.id, view.images[0].image.id)
        assert all(kept == rows_say for kept, rows_say in counted(db).values())
    for who in people:
        offered, sorted_all = in_order(db, who)
        assert offered == sorted_all


@pytest.mark.sqlite_only("makes a database for each of many examples")
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 2), st.integers(0, 5)), min_size=5, max_size=25),
    st.lists(st.sampled_from([None, 0.25, 0.5, 3.0]), min_size=6, max_size=6),
    st.sampled_from([1, 2, 3]),
)
def test_after_anything_that_people_do_the_kept_count_and_the_order_are_those_of_the_rows(
    acts: list[Act], priorities: list[float | None], raters: int
) -> None:
    with TemporaryDirectory() as folder:
        db = open_database(ready(Path(folder) / "home"))
        go(db, acts, priorities, raters)
        db.close()


@pytest.mark.parametrize("seed", range(3))
def test_after_a_long_day_they_are_so_on_either_database(db: Database, seed: int) -> None:
    chance = random.Random(seed)
    acts = [(chance.choice(ACTS), chance.randrange(3), chance.randrange(6)) for _ in range(60)]
    go(db, acts, [chance.choice([None, 0.25, 3.0]) for _ in range(6)], 2)
    assert sum(kept for kept, _ in counted(db).values()) > 0


def test_what_a_run_waits_for_comes_first_in_the_kept_order_too(
    db: Database, base: Checkpoint, run: Run
) -> None:
    finished_group(db, base, num_images=2)
    waited_for = rollout(db, base, run)
    finished_group(db, base, num_images=2)
    offered, sorted_all = in_order(db, "local")
    assert offered == sorted_all
    assert offered[0] == waited_for.group.id and len(offered) == 3
