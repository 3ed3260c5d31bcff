"""What there is to see of those who judge: whether an image's place sways them, and how each one rates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from flowgrpo.preferences.agreement import consistency
from flowgrpo.preferences.intervals import Interval, ratio_by_cluster, wilson
from flowgrpo.preferences.votes import Comparison, Judged, Vote, comparisons, latest

_SIMULATIONS = 5000


@dataclass(frozen=True)
class PositionBias:
    """Whether one place is chosen more often than chance has it.

    Attributes:
        places: how many there were: the size of the groups, or 2 for pairs.
        counts: how often each was chosen.
        first: share of the first place, with its interval over choices.
        expected: what it is without bias.
        p_value: of counts as uneven as these (chi-square, by simulation) without any bias; None of none.
    """

    kind: str
    places: int
    counts: list[int]
    first: Interval
    expected: float
    p_value: float | None


@dataclass(frozen=True)
class AnnotatorQuality:
    """What there is to see of one annotator. Who is excluded is a person's decision.

    Attributes:
        num_votes: that hold.
        num_skips: groups that they gave back, and that are still given back.
        consensus: share of their comparisons that the others of the same two images lean towards as well.
        num_shared: groups that this is over.
        consistency: share of what they said twice that was the same.
        first: share of choices that fell on the first place, less what no bias would give.
        median_lead_ms: from showing a group to a vote.
        The shares are None where there is nothing to take them of.
    """

    annotator: str
    num_votes: int
    num_skips: int
    consensus: Interval | None
    num_shared: int
    consistency: Interval | None
    first: float | None
    median_lead_ms: float | None


def position_bias(votes: Iterable[Vote], seed: int = 0) -> list[PositionBias]:
    """Of the best of groups, for each size, and of pairs. Repeats count too: they were choices."""
    counts: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for vote in votes:
        place = _place(vote)
        if place is not None:
            counts[vote.kind, _places(vote)][place] += 1
    return [
        _bias(kind, [found[place] for place in range(places)], seed)
        for (kind, places), found in sorted(counts.items())
    ]


def _places(vote: Vote) -> int:
    return 2 if vote.kind == "pair" else len(vote.images)


def _place(vote: Vote) -> int | None:
    """The place of the image that was chosen; None where nothing was."""
    if vote.kind == "best" and vote.image is not None and len(vote.images) > 1:
        return vote.images.index(vote.image)
    if vote.kind == "pair":
        return {"left": 0, "right": 1}.get(vote.payload["outcome"])
    return None


def _bias(kind: str, counts: list[int], seed: int) -> PositionBias:
    n, places = sum(counts), len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, [1 / places] * places, _SIMULATIONS)
    unevenness = ((drawn - n / places) ** 2).sum(1)
    ours = sum((count - n / places) ** 2 for count in counts)
    p_value = float((1 + (unevenness >= ours - 1e-9).sum()) / (1 + len(drawn)))
    return PositionBias(kind, places, counts, wilson(counts[0], n), 1 / places, p_value)


def annotators(votes: Sequence[Vote]) -> list[AnnotatorQuality]:
    """Every annotator, those with the most votes first.

    Args:
        votes: in the order in which they were given, repeats among them.
    """
    judged = latest(votes)
    by_annotator = _grouped(judged)
    skips = _skips(votes)
    consensus, consistent = _consensus(comparisons(votes)), consistency(votes)
    found = [
        AnnotatorQuality(
            annotator=name,
            num_votes=len(by_annotator[name]),
            num_skips=skips[name],
            consensus=consensus[name][0] if name in consensus else None,
            num_shared=consensus[name][1] if name in consensus else 0,
            consistency=consistent.get(name),
            first=_first(by_annotator[name]),
            median_lead_ms=_median([vote.lead_ms for vote in by_annotator[name]]),
        )
        for name in dict.fromkeys([*by_annotator, *skips])
    ]
    return sorted(found, key=lambda one: -one.num_votes)


def _grouped(judged: Judged) -> dict[str, list[Vote]]:
    found: dict[str, list[Vote]] = defaultdict(list)
    for (annotator, _), said in judged.items():
        found[annotator] += said
    return found


def _skips(votes: Iterable[Vote]) -> Counter[str]:
    last = {(vote.annotator, vote.group): vote.kind for vote in votes if not vote.is_repeat}
    return Counter(annotator for (annotator, _), kind in last.items() if kind == "skip")


def _consensus(compared: Sequence[Comparison]) -> dict[str, tuple[Interval, int]]:
    """Each with its number of groups. Those are the clusters: comparisons of one stand and fall together."""
    lean: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in compared:
        if not one.tie:
            lean[one.group, one.winner, one.loser][one.annotator] += one.weight
            lean[one.group, one.loser, one.winner][one.annotator] -= one.weight
    hits: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    for one in compared:
        said = lean[one.group, one.winner, one.loser]
        others = sum(weight for who, weight in said.items() if who != one.annotator)
        if not one.tie and others:
            cell = hits[one.annotator][one.group]
            cell[0] += one.weight * (others > 0)
            cell[1] += one.weight
    return {
        who: (ratio_by_cluster(*np.array(list(cells.values())).T, trials=len(cells)), len(cells))
        for who, cells in hits.items()
        if len(cells) > 1
    }


def _first(said: Sequence[Vote]) -> float | None:
    chosen = [(place == 0) - 1 / _places(vote) for vote in said if (place := _place(vote)) is not None]
    return float(np.mean(chosen)) if chosen else None


def _median(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
