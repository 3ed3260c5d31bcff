"""Which checkpoint people like best, and how sure that is: Bradley-Terry with an interval over prompts.

Votes on one prompt are not independent, so prompts are resampled and not votes. Ratings are in Elo-like units
(400 for odds of ten to one) with the base at 1000, and the order is that of the lower ends: what was judged
seldom does not lead by luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from flowgrpo.preferences import bradley_terry
from flowgrpo.preferences.intervals import Interval, clusters_drawn, ratio_by_cluster, spread

BASE_RATING = 1000.0
ELO_PER_NAT = 400 / math.log(10)
PRELIMINARY_BELOW = 50
"""Votes on an entry."""
RIDGE = 0.1
"""Precision of the prior of a strength, in 1 / nats^2: weak enough not to be seen next to ten votes, strong
enough that who never lost stays finite."""
Outcome = Literal["first", "second", "tie", "bad"]


@dataclass(frozen=True)
class Match:
    """One vote between two entries on one prompt; `bad`, neither is any good, counts as a tie."""

    prompt: str
    first: str
    second: str
    outcome: Outcome


@dataclass(frozen=True)
class Entry:
    """One checkpoint.

    Attributes:
        rating: 1000 is the base; the interval is of the difference to it, so that of the base has no width.
            None where no chain of votes leads to the base: not comparable.
        win_rate: of its votes, ties as halves, with its interval over prompts; None without votes.
        num_votes: votes that it took part in.
        preliminary: there are fewer than 50 of them.
    """

    name: str
    rating: Interval | None
    win_rate: Interval | None
    num_votes: int
    preliminary: bool


@dataclass(frozen=True)
class Leaderboard:
    """Entries, best lower end first, those that are not comparable last.

    Attributes:
        wins: (winner, loser) to votes; `ties`: (one, other) to votes, both ways round.
        bad: as `ties`, of those where neither was any good; they are ties as well.
    """

    base: str
    entries: list[Entry]
    wins: dict[tuple[str, str], int]
    ties: dict[tuple[str, str], int]
    bad: dict[tuple[str, str], int]
    num_votes: int
    num_prompts: int


def leaderboard(
    matches: Sequence[Match], names: Sequence[str], base: str, *, resamples: int = 400, seed: int = 0
) -> Leaderboard:
    """Ranks entries by votes.

    Args:
        names: all entries, those without votes too.
        base: the one of them that stands at 1000.

    Raises:
        ValueError: the base is not among the entries.
    """
    if base not in names:
        raise ValueError(f"expected a base that is one of the entries, got {base!r}")
    table, anchor = _tabulate(matches, names), list(names).index(base)
    ratings = _ratings(table, len(names), anchor, resamples, seed)
    reachable = _reachable(table, len(names), anchor)
    entries = []
    for place, name in enumerate(names):
        own = int(table.votes[:, (table.first == place) | (table.second == place)].sum())
        win_rate = _win_rate(table, place, own, seed)
        rating = ratings[place] if reachable[place] else None
        entries.append(Entry(name, rating, win_rate, own, own < PRELIMINARY_BELOW))
    return Leaderboard(
        base=base,
        entries=sorted(entries, key=lambda one: -one.rating.low if one.rating else math.inf),
        **_matrices(matches),
        num_votes=len(matches),
        num_prompts=len(table.votes),
    )


@dataclass(frozen=True)
class _Table:
    """Columns are the pairs of entries that met; rows are prompts."""

    first: Int[ndarray, " pair"]
    second: Int[ndarray, " pair"]
    votes: Float[ndarray, "prompt pair"]
    wins: Float[ndarray, "prompt pair"]
    """Of the first, ties as halves."""


def _tabulate(matches: Sequence[Match], names: Sequence[str]) -> _Table:
    place = {name: index for index, name in enumerate(names)}
    met = sorted({(*sorted((place[one.first], place[one.second])),) for one in matches})
    column = {pair: index for index, pair in enumerate(met)}
    row = {prompt: index for index, prompt in enumerate(dict.fromkeys(one.prompt for one in matches))}
    votes, wins = np.zeros((2, len(row), len(met)))
    for one in matches:
        a, b = place[one.first], place[one.second]
        cell = row[one.prompt], column[min(a, b), max(a, b)]
        won = {"first": 1.0, "second": 0.0}.get(one.outcome, 0.5)
        votes[cell] += 1
        wins[cell] += won if a < b else 1 - won
    first, second = np.array(met, dtype=np.int64).reshape(-1, 2).T
    return _Table(first, second, votes, wins)


def _ratings(table: _Table, num: int, base: int, resamples: int, seed: int) -> list[Interval]:
    """Relative to the base.

    An interval is no narrower than if votes were independent of each other: who never lost wins in every
    resample too, and would seem known exactly.
    """
    num_prompts = len(table.votes)
    exactly = Interval(BASE_RATING, BASE_RATING, BASE_RATING)
    if not num_prompts:
        return [exactly] * num
    counts = np.concatenate([np.ones((1, num_prompts)), clusters_drawn(num_prompts, resamples, seed)])
    votes, wins = counts @ table.votes, counts @ table.wins
    share = np.divide(wins, votes, out=np.full_like(wins, 0.5), where=votes > 0)
    strengths = bradley_terry.fit(table.first, table.second, share, votes, num, RIDGE)
    data = table.first, table.second, share[0], votes[0], strengths[0], RIDGE
    found = []
    for place, column in enumerate((strengths - strengths[:, [base]]).T):
        if place == base:
            found.append(exactly)
            continue
        value, low, high = spread(float(column[0]), column[1:], num_prompts)
        likely = bradley_terry.likely(*data, place, base)
        found.append(_in_elo(Interval(value, min(low, likely[0]), max(high, likely[1]))))
    return found


def _in_elo(nats: Interval) -> Interval:
    return Interval(*(BASE_RATING + ELO_PER_NAT * end for end in nats))


def _reachable(table: _Table, num: int, base: int) -> list[bool]:
    """Which entries a chain of votes connects with the base."""
    known = {base}
    links = list(zip(table.first.tolist(), table.second.tolist(), strict=True))
    for _ in range(num):
        known |= {other for a, b in links for one, other in ((a, b), (b, a)) if one in known}
    return [place in known for place in range(num)]


def _win_rate(table: _Table, place: int, num_votes: int, seed: int) -> Interval | None:
    as_first, as_second = table.first == place, table.second == place
    votes = table.votes[:, as_first | as_second].sum(1)
    wins = table.wins[:, as_first].sum(1) + (table.votes - table.wins)[:, as_second].sum(1)
    met = votes > 0
    return ratio_by_cluster(wins[met], votes[met], trials=num_votes, seed=seed) if num_votes else None


def _matrices(matches: Sequence[Match]) -> dict[str, dict[tuple[str, str], int]]:
    found: dict[str, dict[tuple[str, str], int]] = {"wins": {}, "ties": {}, "bad": {}}

    def count(matrix: str, one: str, other: str) -> None:
        found[matrix][one, other] = found[matrix].get((one, other), 0) + 1

    for match in matches:
        if match.outcome in ("first", "second"):
            names = (match.first, match.second)
            count("wins", *(names if match.outcome == "first" else names[::-1]))
            continue
        for one, other in ((match.first, match.second), (match.second, match.first)):
            count("ties", one, other)
            if match.outcome == "bad":
                count("bad", one, other)
    return found
