"""What people said, as comparisons of two images of one group, and as one number per image.

How much a comparison counts. Choosing the best of n images is one act and not n - 1 wins, so each of its
comparisons weighs 2 / n: at equal strengths the act then pulls as hard as in Plackett and Luce's likelihood
of a first choice (whose gradient is 1 - 1/n; n - 1 logistic ones of weight w give (n - 1) w / 2). The worst,
where it is named beside the best, is one more such choice, among the n - 1 that are left. A ranking is a row
of such choices among those that are left; a pair is the case n = 2. Stars are a ranking as well, with equal
stars left out and less weight where they hardly differ. A flagged image is the worst of itself and the
unflagged ones. Both of a pair bad is a tie: neither is better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from flowgrpo.preferences import bradley_terry

Kind = Literal["stars", "best", "pair", "rank", "flags", "skip"]

PSEUDO_RATINGS = 10
"""Star ratings of the average annotator that are added to each one's own: few stars say little of a habit."""
SCORE_RIDGE = 1.0
"""Precision of the prior of a group's scores, in 1 / nats^2: images of one group differ by a nat or so."""


@dataclass(frozen=True)
class Vote:
    """One thing that one annotator said, as it is kept.

    Attributes:
        annotator: who.
        group: id of the group.
        prompt: what makes votes dependent: equal for groups of the same prompt.
        kind: what was said; `payload` is its form (storage.rating_kinds).
        images: ids of the whole group, in the order in which it was shown.
        image: of stars, best and flags; None flags the whole group.
        value: stars, 1 to 5.
        lead_ms: milliseconds from showing the group to the vote, or None.
        is_repeat: said when the group was asked a second time. No vote: it counts in `agreement` alone.
    """

    annotator: str
    group: str
    prompt: str
    kind: Kind
    images: tuple[str, ...]
    image: str | None = None
    value: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    lead_ms: int | None = None
    is_repeat: bool = False


@dataclass(frozen=True)
class Comparison:
    """One image over another of its group, in the eyes of one annotator.

    Attributes:
        weight: above 0; see the head of this file.
        tie: neither is better; which of them stands as winner then means nothing.
    """

    group: str
    prompt: str
    annotator: str
    winner: str
    loser: str
    weight: float
    tie: bool = False


Judged: TypeAlias = dict[tuple[str, str], list[Vote]]
"""(annotator, group) to what holds."""


def latest(votes: Iterable[Vote]) -> Judged:
    """What holds of each annotator and group: the last of each kind and image. A skip takes back the rest.

    Args:
        votes: in the order in which they were given; repeats among them are left out.
    """
    held: dict[tuple[str, str], dict[object, Vote]] = defaultdict(dict)
    for vote in votes:
        if vote.is_repeat:
            continue
        slots = held[vote.annotator, vote.group]
        slots.pop("skip", None)
        if vote.kind == "skip":
            slots.clear()
        slot = _slot(vote)
        slots.pop(slot, None)
        slots[slot] = vote
    return {
        key: said
        for key, slots in held.items()
        if (said := [vote for vote in slots.values() if vote.kind != "skip"])
    }


def _slot(vote: Vote) -> object:
    if vote.kind in ("stars", "flags"):
        return vote.kind, vote.image
    if vote.kind == "pair":
        return frozenset((vote.payload["left"], vote.payload["right"]))
    return vote.kind


def comparisons(votes: Iterable[Vote]) -> list[Comparison]:
    """Every comparison that the votes imply, of what still holds.

    Args:
        votes: in the order in which they were given, of any groups and annotators. The more there are, the
            better each annotator's habit with stars is known: pass all, and choose among the comparisons.
    """
    judged = latest(votes)
    habits = star_habits(judged)
    found = []
    for (annotator, group), said in judged.items():
        prompt = said[0].prompt
        for winner, loser, weight, tie in _implied(said, habits.get(annotator, (0.0, 0.0))):
            found.append(Comparison(group, prompt, annotator, winner, loser, weight, tie))
    return found


def star_habits(judged: Judged) -> dict[str, tuple[float, float]]:
    """Annotator to the mean and the std of their stars, shrunk to everybody's (rewards.md 6).

    The std is 0 where nobody's stars differ.
    """
    given: dict[str, list[int]] = defaultdict(list)
    for (annotator, _), said in judged.items():
        given[annotator] += [vote.value for vote in said if vote.kind == "stars" and vote.value is not None]
    everybody = [value for values in given.values() for value in values]
    if not everybody:
        return {}
    mean, var = float(np.mean(everybody)), float(np.var(everybody))
    habits = {}
    for annotator, values in given.items():
        n = len(values)
        own = (float(np.mean(values)), float(np.var(values))) if values else (mean, var)
        of_mean, of_var = (
            (n * mine + PSEUDO_RATINGS * all_) / (n + PSEUDO_RATINGS)
            for mine, all_ in zip(own, (mean, var), strict=True)
        )
        habits[annotator] = of_mean, of_var**0.5
    return habits


_Pairs: TypeAlias = Iterator[tuple[str, str, float, bool]]
"""(winner, loser, weight, tie)."""


def _implied(said: Sequence[Vote], habit: tuple[float, float]) -> _Pairs:
    for vote in said:
        if vote.kind == "best" and vote.image is not None:
            others = [image for image in vote.images if image != vote.image]
            yield from _ordered([[vote.image], others], ties_in_last=False)
            worst = vote.payload.get("worst")
            if worst in others:
                yield from ((other, worst, 2 / len(others), False) for other in others if other != worst)
        elif vote.kind == "rank":
            yield from _ordered([list(tied) for tied in vote.payload["order"]])
        elif vote.kind == "pair":
            yield _pair(vote.payload)
    yield from _of_stars(said, habit)
    yield from _of_flags(said)


def _ordered(blocks: Sequence[Sequence[str]], *, ties_in_last: bool = True) -> _Pairs:
    """Pairs of a ranking; each choice is made among those that are left."""
    for place, block in enumerate(blocks):
        below = [image for later in blocks[place + 1 :] for image in later]
        weight = 2 / (len(block) + len(below))
        for number, image in enumerate(block):
            yield from ((image, other, weight, False) for other in below)
            if below or ties_in_last:
                yield from ((image, other, weight, True) for other in block[number + 1 :])


def _pair(payload: Mapping[str, Any]) -> tuple[str, str, float, bool]:
    left, right, outcome = payload["left"], payload["right"], payload["outcome"]
    winner, loser = (right, left) if outcome == "right" else (left, right)
    return winner, loser, 1.0, outcome in ("tie", "bad")


def _of_stars(said: Sequence[Vote], habit: tuple[float, float]) -> _Pairs:
    std = habit[1]
    stars = {vote.image: vote.value for vote in said if vote.kind == "stars" and vote.value is not None}
    if std == 0 or len(stars) < 2:
        return
    blocks = [
        [image for image, given in stars.items() if given == value and image is not None]
        for value in sorted(set(stars.values()), reverse=True)
    ]
    for winner, loser, weight, tie in _ordered(blocks):
        if not tie:
            yield winner, loser, weight * min(1.0, (stars[winner] - stars[loser]) / std), False


def _of_flags(said: Sequence[Vote]) -> _Pairs:
    flags = [vote for vote in said if vote.kind == "flags" and vote.payload["flags"]]
    flagged = [vote.image for vote in flags if vote.image is not None]
    sound = [image for image in flags[0].images if image not in flagged] if flags else []
    for image in flagged:
        yield from ((other, image, 2 / (len(sound) + 1), False) for other in sound)


def group_scores(votes: Iterable[Vote]) -> dict[str, dict[str, float]]:
    """Group to image to how well people liked it there, in nats; the mean over a group is zero.

    One number per image that anybody said something about, from all comparisons of the group together: the
    most probable Bradley-Terry strengths under a prior of N(0, 1). Images that nobody judged are absent, and
    so are groups of which nothing was said. All zero where all said was that none is better.

    Args:
        votes: as for `comparisons`.
    """
    votes = list(votes)
    named: dict[str, dict[str, None]] = defaultdict(dict)
    for (_, group), said in latest(votes).items():
        for vote in said:
            named[group] |= dict.fromkeys(_spoken_of(vote))
    compared: dict[str, list[Comparison]] = defaultdict(list)
    for one in comparisons(votes):
        compared[one.group].append(one)
    return {group: _scores(list(images), compared[group]) for group, images in named.items() if images}


def _spoken_of(vote: Vote) -> Sequence[str]:
    if vote.kind == "pair":
        return vote.payload["left"], vote.payload["right"]
    if vote.kind == "rank":
        return [image for tied in vote.payload["order"] for image in tied]
    if vote.kind == "stars":
        return (vote.image,) if vote.image is not None else ()
    is_about_all = vote.kind == "best" or (vote.image is not None and vote.payload.get("flags"))
    return vote.images if is_about_all else ()


def _scores(images: list[str], compared: Sequence[Comparison]) -> dict[str, float]:
    place = {image: index for index, image in enumerate(images)}
    strengths = bradley_terry.fit(
        np.array([place[one.winner] for one in compared], dtype=np.int64),
        np.array([place[one.loser] for one in compared], dtype=np.int64),
        np.array([0.5 if one.tie else 1.0 for one in compared]),
        np.array([one.weight for one in compared]),
        num_items=len(images),
        ridge=SCORE_RIDGE,
    )
    return {image: float(strength) for image, strength in zip(images, strengths, strict=True)}
