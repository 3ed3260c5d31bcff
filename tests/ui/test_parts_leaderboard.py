"""The leaderboard on a page: the order of the engine, bars on one scale, who met whom, who met nobody."""

from __future__ import annotations

from typing import Any

from storage import blind, jobs
from storage.engine import Database
from tests.ui.blinded import blinded, judge_all
from ui import boards
from ui.parts import leaderboard
from ui.services import Services

RESULT: dict[str, Any] = {
    "base": "b",
    "entries": [
        {"checkpoint": "t", "name": "tuned <b>", "rating": [1200.0, 1100.0, 1300.0],
         "win_rate": [0.8, 0.6, 0.9], "num_votes": 60, "preliminary": False},
        {"checkpoint": "b", "name": "base", "rating": [1000.0, 1000.0, 1000.0],
         "win_rate": [0.2, 0.1, 0.4], "num_votes": 60, "preliminary": False},
        {"checkpoint": "x", "name": "apart", "rating": None, "win_rate": None, "num_votes": 0,
         "preliminary": True},
    ],
    "wins": [[0, 40, 0], [10, 0, 0], [0, 0, 0]],
    "ties": [[0, 10, 0], [10, 0, 0], [0, 0, 0]],
    "bad": [[0, 4, 0], [4, 0, 0], [0, 0, 0]],
    "num_votes": 60,
    "num_prompts": 24,
    "num_annotators": 1,
}  # fmt: skip


def test_bars_stand_on_one_scale_and_the_base_has_no_width() -> None:
    tuned, base, apart = boards.places(RESULT)
    assert base.width == 0 and base.dot is not None and tuned.dot is not None
    assert base.dot < tuned.left < tuned.dot < tuned.left + tuned.width <= 100
    assert apart.dot is None and apart.is_preliminary


def test_the_matrix_counts_ties_as_halves_and_is_empty_where_two_never_met() -> None:
    cells = boards.matrix(RESULT)
    assert cells[0][1] is not None and cells[1][0] is not None
    assert (cells[0][1].votes, cells[0][1].share, cells[1][0].share) == (60, 75, 25)
    assert cells[0][0] is cells[0][2] is cells[2][1] is None


def test_the_page_shows_the_last_count_while_new_votes_wait(services: Services, db: Database) -> None:
    _, html = leaderboard.opened(services)
    assert "No comparisons yet." in html and "20 blind votes give a first ranking." in html
    data = blinded(db)
    test = data.start()
    judge_all(db, test, data.ann)
    blind.reveal(db, test.id)
    _, html = leaderboard.opened(services)
    assert "New votes wait to be counted." in html and "Until then" not in html
    job = jobs.claim_job(db, "w")
    assert job is not None
    jobs.finish_job(db, job.id, RESULT)
    same, html = leaderboard.opened(services)
    assert "not comparable" in html and "tuned &lt;b&gt;" in html and "<b>" not in html.split("tuned")[1][:12]
    assert same == html == leaderboard.opened(services)[1]
    assert jobs.claim_job(db, "w") is None  # nothing new: nobody counts again
    second = data.start()
    blind.reveal(db, second.id)
    _, html = leaderboard.opened(services)
    assert "Until then this is the last count." in html
