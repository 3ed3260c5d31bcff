"""Whether the rewards want what people want: on groups that were rated, before a run spends anything.

Scores are stored raw and weights apply later, so old groups can be weighed again by any weights. A choice is
a pair of images of one group of which one person prefers one: the best of the group over each other, what
they ranked or put first of two, more stars over fewer, an image without a flag over one with; where these
contradict each other, the first counts. A reward agrees with a choice if it orders the pair the same way, and
half if it sees no difference. Plain functions over rows.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flowgrpo.metrics.intervals import MIN_PROMPTS
from flowgrpo.preferences.intervals import ratio_by_cluster
from storage.groups import GroupView
from storage.rated import RatedGroup
from storage.ratings_current import RatingsView

Values = Sequence[float | None]
"""One a member of a group; None where there is no score."""
Tally = tuple[float, int]
"""Choices agreed with, ties as halves, of how many."""
Rule = Callable[[Sequence[float]], list[float]]
"""Scores of one group -> how far each is from their mean, in the unit that all rewards share."""
Choice = Callable[[str, str], bool]
"""Whether somebody chose the first image over the second."""
LOOKED_BACK = 100
"""Rated groups, the newest, that are asked about."""
_STD_FLOOR, _Z_CLIP = 0.5, 3.0
"""As in the update (docs/algorithm.md, section 4)."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Agreement:
    """How often something orders pairs as people do.

    Attributes:
        share: of the choices, 0 to 1; a half is what chance gives.
        low, high: 95% interval, over prompts; 0 and 1 where there are too few prompts for one.
        pairs, groups: that it could be asked about.
    """

    name: str
    share: float
    low: float
    high: float
    pairs: int
    groups: int

    @property
    def is_clear(self) -> bool:
        """Whether it is told apart from chance."""
        return not self.low <= 0.5 <= self.high

    @property
    def words(self) -> str:
        """ "agrees with 71% of 120 choices (62 to 79%)"."""
        choices = f"{self.pairs:,} choice{'' if self.pairs == 1 else 's'}"
        if (self.low, self.high) == (0.0, 1.0):
            return f"agrees with {self.share:.0%} of {choices} (too few prompts for an interval)"
        return f"agrees with {self.share:.0%} of {choices} ({100 * self.low:.0f} to {self.high:.0%})"


def choices_of(view: RatedGroup) -> list[tuple[int, int]]:
    """(index of the better image, of the worse one), of one annotator after the other, each pair once."""
    place = {one.image.id: index for index, one in enumerate(view.images)}
    return [
        (place[better], place[worse]) for said in view.said for better, worse in _choices(said, list(place))
    ]


def _choices(said: RatingsView, images: Sequence[str]) -> list[tuple[str, str]]:
    """Of one annotator, (better, worse); where what they said contradicts itself, in this order."""
    found: dict[tuple[str, str], None] = {}
    for chosen in (_by_best(said), _by_order(said), _by_pairs(said), _by_stars(said), _by_flags(said)):
        for better in images:
            for worse in images:
                if (worse, better) not in found and chosen(better, worse):
                    found[better, worse] = None
    return list(found)


def _by_best(said: RatingsView) -> Choice:
    return lambda better, worse: better != worse and (said.best == better or said.worst == worse)


def _by_order(said: RatingsView) -> Choice:
    places = {image: place for place, tied in enumerate(said.order) for image in tied}
    return lambda better, worse: better in places and worse in places and places[better] < places[worse]


def _by_pairs(said: RatingsView) -> Choice:
    won = _won(said)
    return lambda better, worse: (better, worse) in won


def _by_stars(said: RatingsView) -> Choice:
    return lambda better, worse: said.stars.get(better, 0) > said.stars.get(worse, 5)


def _by_flags(said: RatingsView) -> Choice:
    flagged = {image for image in said.flags if image is not None}
    return lambda better, worse: worse in flagged and better not in flagged


def preferred(view: RatedGroup) -> set[int]:
    """The images that somebody would keep: their best, else the first of their order, else those with their
    most stars, else those that won a pair.
    """
    kept = {image for said in view.said for image in _kept(said)}
    return {index for index, one in enumerate(view.images) if one.image.id in kept}


def _kept(said: RatingsView) -> set[str]:
    if said.best is not None:
        return {said.best}
    if said.order:
        return set(said.order[0])
    most = max(said.stars.values(), default=0)
    starred = {image for image, stars in said.stars.items() if stars == most}
    return starred or {better for better, _ in _won(said)}


def _won(said: RatingsView) -> set[tuple[str, str]]:
    """(better, worse) of the pairs that were decided."""
    decided = [(pair, outcome) for pair, outcome in said.pairs.items() if outcome in ("left", "right")]
    return {(left, right) if outcome == "left" else (right, left) for (left, right), outcome in decided}


def values_of(view: GroupView, reward: str) -> list[float | None]:
    """The stored scores of one reward."""
    scores = [image.scores.get(reward) for image in view.images]
    return [None if score is None else score.value for score in scores]


def weighed(
    views: Sequence[GroupView], weights: Mapping[str, float], *, is_pooled: bool = False
) -> list[list[float | None]]:
    """What an update with these weights would think of each image of each group, up to a common factor.

    The rule of the update: each reward as its distance from the group's mean, in stds of the group that are
    at least half of the usual one, here the median over these groups. A group has a reward that scored more
    than half of it; an image that lacks a reward of its group has no value.

    Args:
        is_pooled: By the other rule that presets have: the unit of a reward is one for all groups, the root
            of the mean variance within them, and nothing is clipped.
    """
    used = {name: weight for name, weight in weights.items() if weight}
    columns = {name: [values_of(view, name) for view in views] for name in used}
    groups = [
        _counted({name: of_groups[i] for name, of_groups in columns.items()}) for i in range(len(views))
    ]
    if is_pooled:
        rules = {name: _by_pool([group.get(name, []) for group in groups]) for name in used}
    else:
        rules = {name: _by_group(of_groups) for name, of_groups in columns.items()}
    return [_weighed(group, used, rules, len(view.images)) for group, view in zip(groups, views, strict=True)]


def _counted(group: Mapping[str, Values]) -> dict[str, Values]:
    """The rewards that scored more than half of a group, without the images that one of them did not."""
    size = len(next(iter(group.values()), ()))
    present = {name: values for name, values in group.items() if 2 * len(_known(values)) > size}
    counted = [all(values[i] is not None for values in present.values()) for i in range(size)]
    if sum(counted) < 2:
        return {}
    return {
        name: [value if counts else None for value, counts in zip(values, counted, strict=True)]
        for name, values in present.items()
    }


def _weighed(
    group: Mapping[str, Values], weights: Mapping[str, float], rules: Mapping[str, Rule], size: int
) -> list[float | None]:
    if not group:
        return [None] * size
    total = sum(abs(weights[name]) for name in group)
    zs = [[weights[name] * z / total for z in rules[name](_known(values))] for name, values in group.items()]
    summed = iter([sum(column) for column in zip(*zs, strict=True)])
    return [None if value is None else next(summed) for value in next(iter(group.values()))]


def agreement(name: str, views: Sequence[RatedGroup], values: Sequence[Values]) -> Agreement | None:
    """How often the values of some groups agree with the people; None where there is no choice to ask of."""
    by_prompt: dict[str, Tally] = {}
    groups = 0
    for view, column in zip(views, values, strict=True):
        points, pairs = _tally(choices_of(view), column)
        if pairs:
            before = by_prompt.get(view.group.prompt, (0.0, 0))
            by_prompt[view.group.prompt] = (before[0] + points, before[1] + pairs)
            groups += 1
    if not by_prompt:
        return None
    tallies = tuple(by_prompt.values())
    low, high = interval(tallies)
    return Agreement(name, _share(tallies), low, high, sum(pairs for _, pairs in tallies), groups)


@lru_cache(maxsize=256)
def interval(tallies: tuple[Tally, ...]) -> tuple[float, float]:
    """95% interval of the share agreed with, by prompts, since choices of one are not independent, and no
    narrower than that of as many choices that are.

    Fewer than six prompts have none: 0 and 1.
    """
    if len(tallies) < MIN_PROMPTS:
        return 0.0, 1.0
    points, pairs = np.array(tallies, dtype=np.float64).T
    found = ratio_by_cluster(points, pairs, trials=int(pairs.sum()))
    return found.low, found.high


def order(values: Values) -> list[int]:
    """The images best first; those without a value are left out."""
    known = [(value, -index) for index, value in enumerate(values) if value is not None]
    return [-negative for _, negative in sorted(known, reverse=True)]


def _tally(choices: Sequence[tuple[int, int]], values: Values) -> Tally:
    points, pairs = 0.0, 0
    for better, worse in choices:
        first, second = values[better], values[worse]
        if first is None or second is None:
            continue
        is_tie = abs(first - second) <= _ROUNDING * max(1.0, abs(first))
        points += 0.5 if is_tie else float(first > second)
        pairs += 1
    return points, pairs


def _share(tallies: Sequence[Tally]) -> float:
    return sum(points for points, _ in tallies) / sum(pairs for _, pairs in tallies)


def _by_group(groups: Sequence[Values]) -> Rule:
    """In stds of a group, at least half of the median one; 0 where no group has two scores."""
    stds = [statistics.stdev(known) for values in groups if len(known := _known(values)) > 1]
    floor = _STD_FLOOR * (statistics.median(stds) if stds else 0.0)

    def rule(values: Sequence[float]) -> list[float]:
        mean = statistics.fmean(values)
        std = max(statistics.stdev(values), floor, _noise(mean))
        return [max(-_Z_CLIP, min(_Z_CLIP, (value - mean) / std)) for value in values]

    return rule


def _by_pool(groups: Sequence[Values]) -> Rule:
    """In the root of the mean variance within the groups that vary, each by its degrees of freedom."""
    squares = free = 0.0
    for values in groups:
        known = _known(values)
        if len(known) > 1 and statistics.stdev(known) >= _noise(statistics.fmean(known)):
            squares += statistics.variance(known) * (len(known) - 1)
            free += len(known) - 1
    pooled = (squares / max(free, 1.0)) ** 0.5

    def rule(values: Sequence[float]) -> list[float]:
        mean = statistics.fmean(values)
        return [(value - mean) / max(pooled, _noise(mean)) for value in values]

    return rule


def _noise(mean: float) -> float:
    """What is no difference beside the size of the values."""
    return _ROUNDING * max(1.0, abs(mean))


def _known(values: Values) -> list[float]:
    return [value for value in values if value is not None]
