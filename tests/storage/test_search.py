"""A search finds what matches and nothing else, newest first, page by page, by way of the indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Table, event

from storage import boards, groups, ratings, search
from storage.engine import Database
from storage.groups import GroupView, ScoreInput
from storage.models import Checkpoint, Image, ImageGroup, Score
from storage.ratings import RatingInput
from storage.search import Filters
from storage.types import new_id, utc_now
from tests.storage.records import CONFIG, finished_group
from tests.storage.test_ratings import ann, best, skip, stars

__all__ = ["ann"]

GROUPS, SIZE = 400, 8
COLOURS = ("red", "blue", "green", "white")


@pytest.fixture
def many(db: Database, base: Checkpoint) -> list[str]:
    """3,200 images: every fourth group is of each colour, every tenth a rollout; "clip" counts up to 1."""
    tables: dict[Any, list[dict[str, Any]]] = {ImageGroup: [], Image: [], Score: []}
    now = utc_now()
    for number in range(GROUPS):
        group = {
            "id": new_id(),
            "seq": number + 1,
            "prompt": f"portrait, {COLOURS[number % 4]} Hair, x{number}_y",
        }
        group |= {
            "prompt_hash": "0" * 64,
            "checkpoint_id": base.id,
            "config": CONFIG,
            "seeds": list(range(SIZE)),
        }
        kind = "rollout" if number % 10 == 0 else "studio"
        group |= {"kind": kind, "state": "done", "claims": 1, "created_by": "local"}
        tables[ImageGroup].append(group | {"created_at": now - timedelta(days=GROUPS - number)})
        for index in range(SIZE):
            place = number * SIZE + index
            image = {
                "id": new_id(),
                "group_id": group["id"],
                "index": index,
                "seed": index,
                "sha256": f"{place:064x}",
            }
            tables[Image].append(image | {"width": 64, "height": 64, "created_at": now})
            value = place / (GROUPS * SIZE - 1)
            tables[Score].append({"image_id": image["id"], "reward": "clip", "version": "1", "value": value})
    with db.write() as session:
        for kind_of_row, rows in tables.items():
            table: Table = kind_of_row.__table__
            session.execute(table.insert(), rows)
    return [row["id"] for row in tables[Image]]


def all_images(db: Database, filters: Filters, limit: int = 60) -> list[str]:
    """Every match, page by page."""
    found: list[str] = []
    page = search.search_images(db, filters, limit=limit)
    while True:
        found += [one.view.image.id for one in page.images]
        if page.next is None:
            return found
        page = search.search_images(db, filters, page.next, limit)


def all_groups(db: Database, filters: Filters, limit: int = 24) -> list[int]:
    """The `seq` of every match, page by page."""
    found: list[int] = []
    page = search.search_groups(db, filters, limit=limit)
    while True:
        found += [one.group.seq for one in page.groups]
        if page.next is None:
            return found
        page = search.search_groups(db, filters, page.next, limit)


def both(db: Database, filters: Filters) -> tuple[list[str], list[int]]:
    """What is found of images and of groups, oldest first; the counts must agree."""
    images, seqs = all_images(db, filters)[::-1], all_groups(db, filters)[::-1]
    assert (search.count_images(db, filters), search.count_groups(db, filters)) == (len(images), len(seqs))
    return images, seqs


def test_pages_hold_everything_once_and_the_newest_first(db: Database, many: list[str]) -> None:
    assert all_images(db, Filters(), limit=500) == many[::-1]
    assert all_groups(db, Filters(), limit=133) == list(range(GROUPS, 0, -1))
    assert search.count_groups(db, Filters()) == GROUPS
    assert search.count_images(db, Filters()) == search.COUNTED + 1
    assert search.count_words(search.COUNTED + 1) == "1,000+"
    assert search.count_words(search.COUNTED) == "1,000"


def test_every_word_must_be_in_the_prompt_in_any_case(db: Database, many: list[str]) -> None:
    images, seqs = both(db, Filters(words="RED  x100"))
    assert seqs == [101] and images == many[100 * SIZE : 101 * SIZE]
    assert both(db, Filters(words="hair violet")) == ([], [])
    assert all_groups(db, Filters(words="x7_")) == [8]
    assert all_groups(db, Filters(words="%")) == []


def test_letters_beyond_ascii_are_found_in_their_other_case(db: Database, base: Checkpoint) -> None:
    finished_group(db, base, prompt="Élodie au café")
    finished_group(db, base, prompt="赤い髪")
    for words in ("élodie CAFÉ", "Café ÉLODIE"):
        assert all_groups(db, Filters(words=words)) == [1]
    assert all_groups(db, Filters(words="髪")) == [2]


@pytest.mark.parametrize("few", [4_000, 100, 0])
def test_a_reward_s_range_is_the_same_whichever_way_it_is_looked_up(
    db: Database, many: list[str], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_FEW", few)
    last = GROUPS * SIZE - 1
    images, seqs = both(db, Filters(reward="clip", low=20 / last, high=40 / last))
    assert images == many[20:41] and seqs == [3, 4, 5, 6]
    images, _ = both(db, Filters(reward="clip", low=20 / last, high=40 / last, words="green"))
    assert images == many[20:24]
    assert both(db, Filters(reward="verifier")) == ([], [])
    assert search.count_images(db, Filters(reward="clip", low=0.5)) == search.COUNTED + 1


def test_only_the_newest_version_of_a_reward_counts(db: Database, group: GroupView) -> None:
    image = group.images[0].image.id
    groups.add_scores(db, [ScoreInput(image, "clip", "1", 0.9), ScoreInput(image, "clip", "2", 0.1)])
    assert all_images(db, Filters(reward="clip", low=0.5)) == []
    assert all_images(db, Filters(reward="clip", high=0.5)) == [image]


@pytest.mark.parametrize("few", [4_000, 0])
def test_ratings_are_found_while_they_stand(
    db: Database, base: Checkpoint, ann: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_FEW", few)
    views = [finished_group(db, base) for _ in range(4)]
    ids = [[image.image.id for image in view.images] for view in views]
    ratings.rate(db, best(views[0], 1, "a"))
    ratings.rate(db, stars(views[1], 0, 4, "b"))
    ratings.rate(db, skip(views[2], "c"))
    ratings.rate(db, best(views[3], 0, "d"))
    assert ratings.undo(db, "local", "e") is not None
    assert both(db, Filters(rated="rated")) == (ids[0] + ids[1], [1, 2])
    assert both(db, Filters(rated="unrated")) == (ids[2] + ids[3], [3, 4])
    assert both(db, Filters(rated="best")) == ([ids[0][1]], [1])
    assert both(db, Filters(stars=4)) == ([ids[1][0]], [2])
    assert both(db, Filters(stars=5)) == ([], [])
    ratings.rate(db, best(views[0], 0, "f"))
    assert both(db, Filters(rated="best")) == ([ids[0][0]], [1])
    assert ratings.undo(db, "local", "g") is not None
    assert both(db, Filters(rated="best")) == ([ids[0][1]], [1])
    ratings.rate(db, best(views[0], 0, "h", ann))
    assert both(db, Filters(rated="best")) == (ids[0], [1])


def test_a_flag_of_an_image_or_of_its_whole_group_is_found(db: Database, base: Checkpoint) -> None:
    one, whole = finished_group(db, base), finished_group(db, base)
    image = one.images[0].image.id
    said = {"flags": ["other"], "note": "broken"}
    ratings.rate(db, RatingInput("a", "local", one.group.id, "flags", image, payload=said))
    ratings.rate(db, RatingInput("b", "local", whole.group.id, "flags", payload={"flags": ["unsafe"]}))
    assert both(db, Filters(flag="broken")) == ([], [])
    assert both(db, Filters(flag="other")) == ([image], [1])
    assert both(db, Filters(flag="unsafe")) == ([image.image.id for image in whole.images], [2])
    ratings.rate(db, RatingInput("c", "local", one.group.id, "flags", image, payload={"flags": []}))
    assert both(db, Filters(flag="other")) == ([], [])
    assert both(db, Filters(rated="rated"))[1] == [2]


def test_dates_checkpoints_kinds_and_boards_narrow_a_search(
    db: Database, many: list[str], base: Checkpoint
) -> None:
    now = utc_now()
    week = Filters(since=now - timedelta(days=10.5), until=now - timedelta(days=4.5))
    assert all_groups(db, week) == [396, 395, 394, 393, 392, 391]
    assert all_groups(db, Filters(kinds=("rollout",)))[:2] == [391, 381]
    assert all_images(db, Filters(checkpoint_id="another")) == []
    assert len(all_groups(db, Filters(checkpoint_id=base.id, kinds=("studio",)))) == GROUPS * 9 // 10
    board = boards.create_board(db, "mine", "local")
    boards.add_images(db, board.id, [many[0], many[99]])
    assert both(db, Filters(board_id=board.id)) == ([many[0], many[99]], [1, 13])
    assert both(db, Filters(board_id=board.id, words="x12")) == ([many[99]], [13])


def test_a_group_without_images_is_found_by_what_is_known_of_it(db: Database, base: Checkpoint) -> None:
    groups.request_group(db, prompt="portrait", checkpoint_id=base.id, config=CONFIG, seeds=[1])
    assert all_groups(db, Filters(words="portrait", rated="unrated")) == [1]
    assert all_groups(db, Filters(reward="clip")) == []


def test_a_found_image_comes_with_its_scores_ratings_and_group(db: Database, many: list[str]) -> None:
    with db.read() as session:
        group_id = session.get_one(Image, many[-1]).group_id
    ratings.rate(db, best(groups.get_group(db, group_id), SIZE - 1, "a"))
    found = search.search_images(db, Filters(), limit=1).images[0]
    assert (found.view.image.id, found.view.best, found.view.scores["clip"].value) == (many[-1], True, 1.0)
    assert (found.group.seq, found.checkpoint.name) == (GROUPS, "starter")


@pytest.fixture
def plans(db: Database) -> Iterator[Callable[[], list[str]]]:
    """How SQLite carried out every statement of a search that selected images or groups."""
    said: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    def told() -> list[str]:
        with db.read() as session:
            connection: Any = session.connection().connection
            return [
                row[3]
                for sql, values in said
                for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
            ]

    event.listen(db._reader, "before_cursor_execute", note)
    yield told
    event.remove(db._reader, "before_cursor_execute", note)


@pytest.mark.sqlite_only("reads SQLite's plans; PostgreSQL plans by its own counts")
@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(), "SCAN image USING INDEX sqlite_autoindex_image_1"),
        (Filters(reward="clip", low=0.99), "SEARCH score USING INDEX ix_score_reward_value"),
        (Filters(reward="clip", low=0.1), "SEARCH score USING INDEX sqlite_autoindex_score_1 (image_id=?"),
        (Filters(rated="rated"), "USING INDEX ix_rating_event_group_id_annotator_id"),
        (Filters(words="x17"), "SEARCH image USING INDEX sqlite_autoindex_image_2 (group_id=?)"),
    ],
)
def test_a_search_goes_by_the_indexes(
    db: Database,
    many: list[str],
    filters: Filters,
    index: str,
    plans: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_FEW", 500)
    search.search_images(db, filters)
    steps = plans()
    assert any(index in step for step in steps), steps
    assert not any(step in ("SCAN image", "SCAN score", "SCAN score_1") for step in steps), steps
