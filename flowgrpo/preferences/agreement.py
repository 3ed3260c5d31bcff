"""Whether people agree, with each other and with themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import evalica
import numpy as np
import pandas as pd
from jaxtyping import Float

from flowgrpo.preferences.intervals import Interval, ratio_by_cluster, spread, wilson
from flowgrpo.preferences.votes import Judged, Vote, latest

MIN_SHARED = 30
"""Groups that two people or more judged; below, alpha moves too much from group to group to be shown."""
STARS_APART = 1
"""Stars that an image may move between two answers of one annotator which still count as the same."""
_RESAMPLES = 400
"""Of groups: the items of one depend on each other. Each takes a millisecond."""
Scale = Literal["nominal", "ordinal"]
Answers: TypeAlias = dict[tuple[str, Hashable], dict[str, float]]
"""(group, item) to annotator to what they said, as a number; on a nominal scale only its equality means
something."""


Shared: TypeAlias = Sequence[Sequence[dict[str, float]]]
"""By group: annotator to what they said, of each item that two people or more judged."""


@dataclass(frozen=True)
class Agreement:
    """Of one kind of vote.

    Attributes:
        kind: stars, best or pair.
        scale: what alpha takes a difference for.
        num_shared: items that two people or more judged.
        num_groups: that these items are of; intervals are over groups.
        same: share of pairs of people that said the same of such an item; None without any.
        alpha: Krippendorff's, 1 for agreement and 0 for chance; None below MIN_SHARED groups, and where
            everybody said the same of everything, as chance then explains nothing.
        why_no_alpha: a sentence, or empty.
    """

    kind: str
    scale: Scale
    num_shared: int
    num_groups: int
    same: Interval | None
    alpha: Interval | None
    why_no_alpha: str


@dataclass(frozen=True)
class PeopleAgreement:
    """Of two people, over all that both of them judged.

    Attributes:
        one, other: annotators, in the order of their names.
        num_shared: items that both judged, of `num_groups` groups.
        same: share of the items of which they said the same; its interval is over groups.
    """

    one: str
    other: str
    num_shared: int
    num_groups: int
    same: Interval


def agreements(votes: Iterable[Vote], seed: int = 0) -> list[Agreement]:
    """How far annotators agree on stars (of an image), bests (of a group) and pairs (of two images)."""
    stars, bests, pairs = _answers(latest(votes))
    return [
        _agreement("stars", "ordinal", stars, seed),
        _agreement("best", "nominal", bests, seed),
        _agreement("pair", "nominal", pairs, seed),
    ]


def between_people(votes: Iterable[Vote], seed: int = 0) -> list[PeopleAgreement]:
    """Every two annotators who judged something of the same, those who share most first."""
    same: dict[tuple[str, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for answers in _answers(latest(votes)):
        for (group, _), said in answers.items():
            for one, other in combinations(sorted(said), 2):
                same[one, other][group].append(said[one] == said[other])
    found = [_of_two(*who, list(groups.values()), seed) for who, groups in same.items()]
    return sorted(found, key=lambda two: -two.num_shared)


def _of_two(one: str, other: str, groups: Sequence[Sequence[bool]], seed: int) -> PeopleAgreement:
    of = np.array([float(sum(same)) for same in groups])
    to = np.array([float(len(same)) for same in groups])
    shared = int(to.sum())
    return PeopleAgreement(
        one, other, shared, len(groups), ratio_by_cluster(of, to, trials=shared, seed=seed)
    )


def _answers(judged: Judged) -> tuple[Answers, Answers, Answers]:
    """Of stars, bests and pairs."""
    return _stars(judged), _bests(judged), _pairs(judged)


def _stars(judged: Judged) -> Answers:
    found: Answers = defaultdict(dict)
    for (annotator, _), said in judged.items():
        for vote in said:
            if vote.kind == "stars" and vote.value is not None:
                found[vote.group, vote.image][annotator] = float(vote.value)
    return found


def _bests(judged: Judged) -> Answers:
    found: Answers = defaultdict(dict)
    for (annotator, group), said in judged.items():
        for vote in said:
            if vote.kind == "best" and vote.image is not None:
                found[group, "best"][annotator] = float(vote.images.index(vote.image))
    return found


def _pairs(judged: Judged) -> Answers:
    """0 and 1 stand for the images in order of their ids, 2 for a tie, 3 for both bad."""
    found: Answers = defaultdict(dict)
    for (annotator, _), said in judged.items():
        for vote in said:
            if vote.kind == "pair":
                found[vote.group, _two(vote)][annotator] = _outcome(vote)
    return found


def _two(vote: Vote) -> tuple[str, ...]:
    return tuple(sorted((vote.payload["left"], vote.payload["right"])))


def _outcome(vote: Vote) -> float:
    outcome = vote.payload["outcome"]
    if outcome in ("left", "right"):
        return float(_two(vote).index(vote.payload[outcome]))
    return 2.0 if outcome == "tie" else 3.0


def _agreement(kind: str, scale: Scale, answers: Answers, seed: int) -> Agreement:
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for (group, _), said in answers.items():
        if len(said) >= 2:
            groups[group].append(said)
    shared = list(groups.values())
    alpha, why = _alpha(shared, scale, seed)
    return Agreement(kind, scale, sum(map(len, shared)), len(shared), _same_said(shared, seed), alpha, why)


def _same_said(shared: Shared, seed: int) -> Interval | None:
    """Share of the pairs of people that said the same of an item, by groups; None without any."""
    if not shared:
        return None
    pairs = [[pair for said in group for pair in combinations(said.values(), 2)] for group in shared]
    of = np.array([float(sum(a == b for a, b in them)) for them in pairs])
    to = np.array([float(len(them)) for them in pairs])
    return ratio_by_cluster(of, to, trials=sum(map(len, shared)), seed=seed)


def _alpha(shared: Shared, scale: Scale, seed: int) -> tuple[Interval | None, str]:
    if len(shared) < MIN_SHARED:
        return (
            None,
            f"{len(shared)} groups were judged by two people or more; alpha is shown from {MIN_SHARED} on",
        )
    items = [said for group in shared for said in group]
    if len({value for said in items for value in said.values()}) < 2:
        return None, "everybody said the same of everything, so there is no chance agreement to compare with"
    table = pd.DataFrame(items, dtype=float).T  # a row for each annotator, a column for each item
    value = float(evalica.alpha(table, distance=scale).alpha)
    found = spread(value, _resampled(table, [len(group) for group in shared], scale, seed), len(shared))
    return Interval(value, max(-1.0, found.low), min(1.0, found.high)), ""


def _resampled(
    table: pd.DataFrame, sizes: Sequence[int], scale: Scale, seed: int
) -> Float[np.ndarray, " resample"]:
    """Alpha of groups drawn again.

    Args:
        table: annotators by items, those of one group beside each other.
        sizes: items of each group.
    """
    rng = np.random.default_rng(seed)
    values = table.to_numpy()
    columns = np.split(np.arange(values.shape[1]), np.cumsum(sizes)[:-1])
    found = []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([columns[group] for group in rng.integers(0, len(sizes), len(sizes))])
        found.append(evalica.alpha(pd.DataFrame(values[:, drawn]), distance=scale).alpha)
    return np.array(found, dtype=np.float64)


def consistency(votes: Sequence[Vote]) -> dict[str, Interval]:
    """Annotator to the share of what they were asked twice that they answered the same way.

    The same is: the same best, the same outcome of a pair, stars at most one apart, two ranked images in the
    same order. One item is one of these; the interval takes them as independent.
    """
    first = latest(votes)
    again = latest([_as_vote(vote) for vote in votes if vote.is_repeat])
    same: dict[str, list[bool]] = defaultdict(list)
    for key, said in again.items():
        same[key[0]] += _same(first.get(key, []), said)
    return {annotator: wilson(sum(found), len(found)) for annotator, found in same.items() if found}


def _as_vote(vote: Vote) -> Vote:
    return Vote(**{**vars(vote), "is_repeat": False})


def _same(first: Sequence[Vote], second: Sequence[Vote]) -> list[bool]:
    one, two = _sayings(first), _sayings(second)
    return [
        abs(one[item] - value) <= (STARS_APART if item[0] == "stars" else 0)
        for item, value in two.items()
        if item in one
    ]


def _sayings(said: Sequence[Vote]) -> dict[tuple[str, Hashable], float]:
    """What was said, item by item, as numbers that are equal when the answer is."""
    found: dict[tuple[str, Hashable], float] = {}
    for vote in said:
        if vote.kind == "stars" and vote.value is not None:
            found["stars", vote.image] = float(vote.value)
        elif vote.kind == "best" and vote.image is not None:
            found["best", vote.group] = float(vote.images.index(vote.image))
        elif vote.kind == "pair":
            found["pair", _two(vote)] = _outcome(vote)
        elif vote.kind == "rank":
            ranks = {image: rank for rank, tied in enumerate(vote.payload["order"]) for image in tied}
            for a, b in combinations(sorted(ranks), 2):
                found["rank", (a, b)] = float(np.sign(ranks[a] - ranks[b]))
    return found
