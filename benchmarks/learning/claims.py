"""What the table has to show, checked from the stored races: each claim with its figures and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.learning.table import LOWER_IS_BETTER, Race, Spread, seconds_to, spread
from benchmarks.learning.tasks import FAST, Task

MIN_FALL = 0.2
"""By how much a distance to the renders has to fall against continued SFT."""
MAX_SHARE_OF_DDPO = 1 / 3
MAX_COST = 0.3
"""Of an image, against all steps with guidance."""


@dataclass(frozen=True)
class Claim:
    """A sentence and whether the figures bear it; None where a race is missing."""

    sentence: str
    figures: str
    holds: bool | None


def check(races: Mapping[str, Sequence[Race]], ours: str = "ours", task: Task = FAST) -> list[Claim]:
    """Every claim, for one of our methods."""
    names = ("base", "sft", "ddpo", "published", "guided_kl", ours)
    found: dict[str, Sequence[Race]] = {name: races.get(name, []) for name in names}
    if not found[ours]:
        return []
    return [
        *(_apart(found, ours, other, metric) for other in ("ddpo", "sft") for metric in ("judge", "kid")),
        *([_apart(found, ours, "guided_kl", "judge")] if "guided_kl" in task.entrants else []),
        _falls(found, ours),
        _sooner(found, ours),
        *(_reaches(found, ours, metric, task) for metric in ("judge", "kid")),
        _cheaper(found, ours),
        _learns_as_much(found, ours),
    ]


def _final(runs: Sequence[Race], metric: str, sampler: str = "fast") -> Spread | None:
    return spread([run.final[sampler][metric] for run in runs]) if runs else None


def _apart(races: Mapping[str, Sequence[Race]], ours: str, other: str, metric: str) -> Claim:
    sentence = f"{metric}: better than {other}, intervals apart"
    one, two = _final(races[ours], metric), _final(races[other], metric)
    if one is None or two is None:
        return Claim(sentence, "not raced", None)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    gap = sign * (one.value - two.value)
    apart = None if one.half is None or two.half is None else gap > one.half + two.half
    return Claim(sentence, f"{one.words(4)} against {two.words(4)}", apart)


def _falls(races: Mapping[str, Sequence[Race]], ours: str) -> Claim:
    sentence = "KID or FID is lower than continued SFT's by a fifth at least"
    falls = []
    for metric in ("kid", "fid"):
        one, two = _final(races[ours], metric), _final(races["sft"], metric)
        if one is None or two is None:
            return Claim(sentence, "not raced", None)
        falls.append(1 - one.value / two.value)
    return Claim(sentence, f"KID by {falls[0]:.0%}, FID by {falls[1]:.0%}", max(falls) >= MIN_FALL)


def _sooner(races: Mapping[str, Sequence[Race]], ours: str) -> Claim:
    """Seed by seed; measured along the curves, so to within the updates between two measurements."""
    sentence = "reaches DDPO's final reward in at most a third of DDPO's computing"
    rivals = {run.seed: run for run in races["ddpo"]}
    pairs = [(run, rivals[run.seed]) for run in races[ours] if run.seed in rivals]
    if not pairs:
        return Claim(sentence, "not raced", None)
    shares = [
        taken / rival.cost["seconds"]
        if (taken := seconds_to(run, rival.curve[-1]["reward"])) is not None
        else 9.0
        for run, rival in pairs
    ]
    return Claim(sentence, ", ".join(f"{share:.2f}" for share in shares), max(shares) <= MAX_SHARE_OF_DDPO)


def _reaches(races: Mapping[str, Sequence[Race]], ours: str, metric: str, task: Task) -> Claim:
    """The mean over seeds is within the interval of what is to be reached, or better; seeds that differ much
    do not make it easier.
    """
    sentence = f"{metric}: {task.words} reach the base's 16 guided ones"
    one = _final(races[ours], metric)
    if one is None or not races["base"]:
        return Claim(sentence, "not raced", None)
    goal = races["base"][0].final["guided"]
    low, high = goal[f"{metric}/low"], goal[f"{metric}/high"]
    reaches = one.value <= high if metric in LOWER_IS_BETTER else one.value >= low
    figures = f"{one.words(4)} against {goal[metric]:.4f} ({low:.4f} to {high:.4f})"
    return Claim(sentence, figures, reaches)


def _cheaper(races: Mapping[str, Sequence[Race]], ours: str) -> Claim:
    sentence = f"an image costs at most {MAX_COST:g} of one by all steps with guidance"
    if not races["published"]:
        return Claim(sentence, "not raced", None)
    one, two = (
        mean(run.cost["seconds"] / run.cost["images"] for run in races[name]) for name in (ours, "published")
    )
    return Claim(sentence, f"{one:.3f} s against {two:.3f} s, {one / two:.2f}", one / two <= MAX_COST)


def _learns_as_much(races: Mapping[str, Sequence[Race]], ours: str) -> Claim:
    """At the images of the shorter of both races."""
    sentence = "learns at least as much per image as all steps with guidance"
    if not races["published"]:
        return Claim(sentence, "not raced", None)
    images = min(run.cost["images"] for name in (ours, "published") for run in races[name])
    gains = [
        spread([_judge_at(run, images) - run.curve[0]["judge"] for run in races[name]])
        for name in (ours, "published")
    ]
    figures = f"judge rises by {gains[0].words(4)} against {gains[1].words(4)} in {images:.0f} images"
    return Claim(sentence, figures, gains[0].value >= gains[1].value)


def _judge_at(run: Race, images: float) -> float:
    return [point["judge"] for point in run.curve if point["images"] <= images][-1]


def markdown(claims: Sequence[Claim]) -> str:
    """For `docs/benchmarks.md`."""
    words = {True: "holds", False: "does not hold", None: "not shown"}
    rows = [f"| {claim.sentence} | {claim.figures} | {words[claim.holds]} |" for claim in claims]
    return "\n".join(["| claim | figures | |", "|---|---|---|", *rows]) + "\n"
