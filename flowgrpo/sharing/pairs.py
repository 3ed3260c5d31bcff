"""What was said of a group, as pairs of images, as ranks, and as images that are good or not.

One person says one thing of two images of a group: where they said several, a pair counts before a ranking,
a ranking before a best of the group, and that before stars. Stars count where they differ. A best one beats
every other image shown; a worst one, where it was named, is beaten by every other. Flags make no pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flowgrpo.sharing.told import Said, Shown, Source, Told

ORDER: tuple[Source, ...] = ("pair", "rank", "best", "stars")
"""What counts before what."""


@dataclass(frozen=True)
class Pair:
    """What one person thinks of two images.

    Attributes:
        number: of the judgement it is part of.
        first, second: the left and the right one where they were shown as a pair, else in order of the group.
        label: 1 where the first is better, 0 where the second is, 0.5 where neither is.
    """

    number: int
    annotator: str
    at: datetime
    first: Shown
    second: Shown
    label: float
    source: Source


def pairs_of(told: Told) -> list[Pair]:
    """Every pair of a group, by person, each two images once for each person."""
    images = {image.id: image for image in told.images}
    found: list[Pair] = []
    for said in by_person(told).values():
        mine: dict[frozenset[str], Pair] = {}
        for source in ORDER:
            for pair in _of(source, [one for one in said if one.kind == source], images):
                mine.setdefault(frozenset((pair.first.id, pair.second.id)), pair)
        found += mine.values()
    return found


def by_person(told: Told) -> dict[str, list[Said]]:
    """Annotator to what of theirs stands, in order."""
    found: dict[str, list[Said]] = {}
    for one in told.said:
        if one.status == "stands":
            found.setdefault(one.annotator, []).append(one)
    return found


def _of(source: Source, said: Sequence[Said], images: Mapping[str, Shown]) -> Iterator[Pair]:
    if source == "stars":
        yield from _of_stars(said, images)
        return
    for one in said:
        if source == "pair":
            left, right, outcome = (one.payload[key] for key in ("left", "right", "outcome"))
            label = {"left": 1.0, "right": 0.0}.get(outcome, 0.5)
            yield Pair(one.number, one.annotator, one.at, images[left], images[right], label, source)
        elif source == "rank":
            levels = {image: place for place, tied in enumerate(one.payload["order"]) for image in tied}
            yield from _of_levels(one, levels, images, source)
        else:
            levels = dict.fromkeys(images, 1) | {one.payload.get("worst", ""): 2, str(one.image): 0}
            yield from (pair for pair in _of_levels(one, levels, images, source) if pair.label != 0.5)


def _of_stars(said: Sequence[Said], images: Mapping[str, Shown]) -> Iterator[Pair]:
    """The later of the two star ratings is the judgement."""
    given = {one.image: one for one in said if one.image in images}
    for first, second in _twos(list(images.values()), given):
        one, other = given[first.id], given[second.id]
        if one.value is not None and other.value is not None and one.value != other.value:
            last = max(one, other, key=lambda said: said.number)
            label = 1.0 if one.value > other.value else 0.0
            yield Pair(last.number, last.annotator, last.at, first, second, label, "stars")


def _of_levels(
    one: Said, levels: Mapping[str, int], images: Mapping[str, Shown], source: Source
) -> Iterator[Pair]:
    """Of images with a level each: the lower, the better."""
    for first, second in _twos(list(images.values()), levels):
        a, b = levels[first.id], levels[second.id]
        label = 0.5 if a == b else float(a < b)
        yield Pair(one.number, one.annotator, one.at, first, second, label, source)


def _twos(
    images: Sequence[Shown], known: Mapping[str | None, object] | Mapping[str, int]
) -> Iterator[tuple[Shown, Shown]]:
    spoken = [image for image in images if image.id in known]
    for place, first in enumerate(spoken):
        yield from ((first, second) for second in spoken[place + 1 :])


def ranks_of(pairs: Sequence[Pair]) -> dict[str, int]:
    """Image id to its rank in the eyes of one person, 1 for the best; those that tie share one.

    Args:
        pairs: of that person and one group.
    """
    worth: dict[str, float] = {}
    for pair in pairs:
        worth[pair.first.id] = worth.get(pair.first.id, 0.0) + 2 * pair.label - 1
        worth[pair.second.id] = worth.get(pair.second.id, 0.0) + 1 - 2 * pair.label
    return {image: 1 + sum(other > mine for other in worth.values()) for image, mine in worth.items()}


def verdicts(pairs: Sequence[Pair]) -> dict[str, bool]:
    """Image id to whether one person only preferred it, or never; who did both says neither.

    Args:
        pairs: of that person and one group.
    """
    won: dict[str, set[bool]] = {}
    for pair in pairs:
        if pair.label != 0.5:
            won.setdefault(pair.first.id, set()).add(pair.label == 1)
            won.setdefault(pair.second.id, set()).add(pair.label == 0)
    return {image: one.pop() for image, one in won.items() if len(one) == 1}


def people(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Annotator to their pairs."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.annotator, []).append(pair)
    return found
