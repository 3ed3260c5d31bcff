"""The score cache of the rewards, in the database: what one worker computed, no other computes again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from flowgrpo.rewards.cache import Kept, ScoreKey
from flowgrpo.runs.patience import attempt_write
from storage import scores
from storage.engine import Database
from storage.errors import UNAVAILABLE

_log = logging.getLogger(__name__)


class StoredScores:
    """A `ScoreCache` in the table `score_cache`. While the database is busy it has nothing and keeps nothing:
    the images are scored instead.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def get_many(self, reward: str, version: str, keys: Collection[ScoreKey]) -> Mapping[ScoreKey, Kept]:
        """Those of the keys that are known."""
        try:
            found = scores.cached_scores(self.db, reward, version, [scores.ScoreKey(*key) for key in keys])
        except UNAVAILABLE as error:
            _log.warning("the score cache cannot be read now: %s", error)
            return {}
        return {ScoreKey(*key): kept for key, kept in found.items()}

    def put_many(self, reward: str, version: str, values: Mapping[ScoreKey, Kept]) -> None:
        """Keeps values."""
        rows = {scores.ScoreKey(*key): kept for key, kept in values.items()}
        attempt_write("score cache", lambda: scores.cache_scores(self.db, reward, version, rows))
