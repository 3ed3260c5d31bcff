"""Boards: images that somebody put together under a name. An image may lie on several, or on none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import required
from storage.models import Image, User
from storage.models_studio import Board, BoardImage

MAX_NAME = 60
"""Characters."""


@dataclass(frozen=True)
class BoardView:
    """A board with how many images lie on it, and the one that was put there last."""

    board: Board
    count: int
    newest: str | None


def create_board(db: Database, name: str, by: str) -> Board:
    """Raises ValueError for a name that is empty, too long or taken."""
    with db.write() as session:
        required(session, User, by, "user")
        made = Board(name=_free_name(session, name, None), created_by=by)
        session.add(made)
        return made


def rename(db: Database, board_id: str, name: str) -> Board:
    """Raises ValueError for a name that is empty, too long or taken by another board."""
    with db.write() as session:
        board = required(session, Board, board_id, "board")
        board.name = _free_name(session, name, board_id)
        return board


def add_images(db: Database, board_id: str, image_ids: Sequence[str]) -> int:
    """Puts images on a board; how many of them were not there before.

    Raises:
        LookupError: unknown board, or an unknown image: then none is added.
    """
    with db.write() as session:
        required(session, Board, board_id, "board")
        added = 0
        for image_id in dict.fromkeys(image_ids):
            required(session, Image, image_id, "image")
            if session.get(BoardImage, (board_id, image_id)) is None:
                session.add(BoardImage(board_id=board_id, image_id=image_id))
                added += 1
        return added


def remove_image(db: Database, board_id: str, image_id: str) -> bool:
    """Takes an image off a board, and nothing else; False when it was not on it."""
    with db.write() as session:
        required(session, Board, board_id, "board")
        found = session.get(BoardImage, (board_id, image_id))
        if found is not None:
            session.delete(found)
        return found is not None


def boards_of(db: Database, image_ids: Collection[str]) -> dict[str, list[Board]]:
    """Image id to the boards that it lies on, by name; an image on none is not named."""
    query = select(BoardImage.image_id, Board).join(Board, Board.id == BoardImage.board_id)
    found: dict[str, list[Board]] = {}
    with db.read() as session:
        rows = session.execute(query.where(BoardImage.image_id.in_(image_ids)).order_by(Board.name))
        for image_id, board in rows:
            found.setdefault(image_id, []).append(board)
    return found


def list_boards(db: Database) -> list[BoardView]:
    """Every board, by name."""
    counted = select(BoardImage.board_id, func.count()).group_by(BoardImage.board_id)
    latest = select(BoardImage.image_id).where(BoardImage.board_id == Board.id)
    newest = latest.order_by(BoardImage.added_at.desc(), BoardImage.image_id.desc()).limit(1)
    with db.read() as session:
        counts = {row[0]: row[1] for row in session.execute(counted)}
        rows = session.execute(select(Board, newest.scalar_subquery()).order_by(Board.name)).all()
    return [BoardView(board, counts.get(board.id, 0), image_id) for board, image_id in rows]


def _free_name(session: Session, name: str, mine: str | None) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(
            f"a board's name has 1 to {MAX_NAME} characters, this one has {len(name)}: change it"
        )
    other = session.scalar(select(Board.id).where(Board.name == name))
    if other is not None and other != mine:
        raise ValueError(f"there is a board “{name}” already: choose another name")
    return name
