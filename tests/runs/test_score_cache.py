"""Scores in the database are found again by pixels, bit for bit."""

from __future__ import annotations

import pytest
import torch

from flowgrpo.rewards.base import ScoreBatch, ScoreResult
from flowgrpo.rewards.cache import ScoreKey
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs.score_cache import StoredScores
from storage.engine import Database
from tests.given import Given, brightness


def stack_of(db: Database, seen: list[int]) -> RewardStack:
    def answer(batch: ScoreBatch) -> ScoreResult:
        seen.append(len(batch))
        return brightness(batch)

    return RewardStack({"given": Given(answer)}, cache=StoredScores(db))


def images(count: int, seed: int = 0) -> ScoreBatch:
    noise = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=noise, dtype=torch.uint8)
    return ScoreBatch(pixels, ["a prompt"] * count, [0] * count)


def test_another_process_finds_the_same_bits(db: Database) -> None:
    seen: list[int] = []
    fresh = stack_of(db, seen).score(images(6))["given"]
    again = stack_of(db, seen).score(images(6))["given"]
    assert seen == [6]
    assert torch.equal(fresh.values.view(torch.int32), again.values.view(torch.int32))
    assert fresh.reasons == again.reasons


def test_an_abstention_is_kept_as_one(db: Database) -> None:
    cache, key = StoredScores(db), ScoreKey("a" * 64, "")
    cache.put_many("given", "1", {key: (None, "nothing to say")})
    assert cache.get_many("given", "1", [key]) == {key: (None, "nothing to say")}
    assert cache.get_many("given", "2", [key]) == {}


@pytest.mark.sqlite_only("a server says of a table that is not there that the statement is wrong")
def test_a_database_that_cannot_be_used_costs_time_and_no_score(db: Database) -> None:
    seen: list[int] = []
    stack = stack_of(db, seen)
    with db.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE score_cache RENAME TO away")
    for _ in range(2):
        assert stack.score(images(2))["given"].values.isfinite().all()
    assert seen == [2, 2]
