"""Boards hold images by reference: putting one on a board or taking it off changes nothing else."""

from __future__ import annotations

import pytest

from storage import boards
from storage.engine import Database
from storage.groups import GroupView


def test_an_image_lies_on_a_board_once_however_often_it_is_put_there(db: Database, group: GroupView) -> None:
    first, second = (image.image.id for image in group.images)
    board = boards.create_board(db, "  For   Anna ", "local")
    assert board.name == "For Anna"
    assert boards.add_images(db, board.id, [first, first]) == 1
    assert boards.add_images(db, board.id, [first, second]) == 1
    assert [(view.count, view.newest) for view in boards.list_boards(db)] == [(2, second)]


def test_an_image_may_lie_on_several_boards_and_is_taken_off_one(db: Database, group: GroupView) -> None:
    image, other = (image.image.id for image in group.images)
    made = [boards.create_board(db, name, "local") for name in ("second", "first")]
    for board in made:
        boards.add_images(db, board.id, [image])
    assert [board.name for board in boards.boards_of(db, [image, other])[image]] == ["first", "second"]
    assert other not in boards.boards_of(db, [image, other])
    assert boards.remove_image(db, made[0].id, image)
    assert not boards.remove_image(db, made[0].id, image)
    assert [board.name for board in boards.boards_of(db, [image])[image]] == ["first"]


@pytest.mark.parametrize("name", ["", "   ", "x" * 61])
def test_a_name_that_cannot_be_shown_in_a_list_is_refused(db: Database, name: str) -> None:
    with pytest.raises(ValueError, match="a board's name has 1 to 60 characters"):
        boards.create_board(db, name, "local")


def test_a_name_is_had_by_one_board(db: Database) -> None:
    mine, other = (boards.create_board(db, name, "local") for name in ("mine", "other"))
    with pytest.raises(ValueError, match="there is a board “mine” already"):
        boards.create_board(db, "mine", "local")
    with pytest.raises(ValueError, match="there is a board “mine” already"):
        boards.rename(db, other.id, "mine")
    assert boards.rename(db, mine.id, "mine").name == "mine"
    assert boards.rename(db, mine.id, "new").name == "new"
    assert [view.board.name for view in boards.list_boards(db)] == ["new", "other"]


def test_an_unknown_image_leaves_the_board_as_it_was(db: Database, group: GroupView) -> None:
    board = boards.create_board(db, "mine", "local")
    with pytest.raises(LookupError, match="no image"):
        boards.add_images(db, board.id, [group.images[0].image.id, "nothing"])
    assert boards.list_boards(db)[0].count == 0
