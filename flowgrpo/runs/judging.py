"""Jobs about what people said: weights that agree with them, how far they agree, which checkpoint they like.

None of them needs the device. Their results are JSON, where a number that there is not is null.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flowgrpo.config import DEFAULT_WEIGHTS
from flowgrpo.preferences import calibration
from flowgrpo.preferences.agreement import agreements, between_people
from flowgrpo.preferences.annotators import AnnotatorQuality, annotators, position_bias
from flowgrpo.preferences.calibration import Calibration
from flowgrpo.preferences.intervals import Interval, wilson
from flowgrpo.preferences.leaderboard import Leaderboard, Match, leaderboard
from flowgrpo.preferences.votes import Vote, comparisons
from flowgrpo.rewards import registry
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.votes import as_votes, by_reward, votes_of
from storage import blind, exclusion, judged, snapshots
from storage.blind import BlindJudgement
from storage.engine import Database
from storage.models import Score
from storage.models_judging import PreferenceFit
from storage.types import canonical_json


def calibrate_job(bench: Bench) -> dict[str, Any]:
    """Payload: {"allow_negative": bool}, may be empty. The result names the proposed fit."""
    bench.tick("reading the votes", 0, 1)
    fit = calibrate(bench.db, allow_negative=bool(bench.job.payload.get("allow_negative")))
    return fit_result(fit)


def agreement_job(bench: Bench) -> dict[str, Any]:
    """Payload: {"stamp": that of the votes when it was asked for} or {}; it counts those of now."""
    bench.tick("reading the votes", 0, 1)
    return agreement(bench.db)


def leaderboard_job(bench: Bench) -> dict[str, Any]:
    """Payload: {"test": id of a revealed blind test}, or {} for all revealed ones together."""
    bench.tick("reading the votes", 0, 1)
    return board(bench.db, bench.job.payload.get("test"))


# Weights


def calibrate(db: Database, *, allow_negative: bool = False) -> PreferenceFit:
    """Proposes reward weights from all votes that hold, and keeps which votes those were.

    Raises ValueError with a sentence where there is too little to go by.
    """
    events = snapshots.standing_votes(db)
    if not events:
        raise ValueError("there are no votes to calibrate with: rate some groups first")
    groups = judged.judged_groups(db, {event.group_id for event in events})
    scores = judged.scores_of(db, groups)
    rewards, kept_back = _that_may_reward(by_reward(scores))
    members = [[image.id for image in one.images] for one in groups.values()]
    compared = comparisons(as_votes(events, groups))
    found = calibration.calibrate(
        compared,
        rewards,
        calibration.within_group_stds(rewards, members),
        current_weights(db),
        allow_negative=allow_negative,
    )
    snapshot = snapshots.take_snapshot(db, events)
    detail = _detail(found)
    in_use = {name for name, weight in current_weights(db).items() if weight}
    judged_ids = {one.group for one in compared}
    of_groups = [ids for name, ids in zip(groups, members, strict=True) if name in judged_ids]
    detail["left_out"] = with_coverage(found.left_out, in_use - rewards.keys(), scores, of_groups) | kept_back
    detail |= {
        "num_unscored": sum(not one.tie for one in compared) - found.num_comparisons,
        "allow_negative": allow_negative,
        "annotators": len({event.annotator_id for event in events}),
        "versions": _versions(scores.values(), found.weights),
        "snapshot_hash": snapshot.hash,
    }
    return snapshots.record_fit(
        db,
        kind="weights",
        snapshot_id=snapshot.id,
        version=hashlib.sha256(canonical_json([snapshot.hash, found.weights]).encode()).hexdigest()[:16],
        detail=detail,
        num_pairs=found.num_comparisons,
        accuracy=found.accuracy.value,
        low=found.accuracy.low,
        high=found.accuracy.high,
        baseline=found.baseline.value if found.baseline else None,
    )


def with_coverage(
    left_out: Mapping[str, str],
    unheard: Collection[str],
    scores: Mapping[str, Mapping[str, Score]],
    groups: Sequence[Sequence[str]],
) -> dict[str, str]:
    """Why rewards could not be weighed, with how many of the judged groups each has scored.

    Args:
        left_out: reward name to the reason that the fit found.
        unheard: rewards with a weight today that have scored no image of these groups.
        scores: image id to reward name to score.
        groups: image ids of each judged group.
    """
    reasons = dict(left_out) | {
        name: "no comparison has a score of it, and it has a weight today"
        for name in unheard
        if name not in left_out
    }
    return {name: f"{why}: {_coverage(name, scores, groups)}" for name, why in sorted(reasons.items())}


def _coverage(name: str, scores: Mapping[str, Mapping[str, Score]], groups: Sequence[Sequence[str]]) -> str:
    """On how many groups a reward has scored every image, and why not on the others."""
    rows = [[scores.get(image, {}).get(name) for image in group] for group in groups]
    whole = sum(all(row is not None and row.value is not None for row in group) for group in rows)
    unasked = sum(all(row is None for row in group) for group in rows)
    failed = Counter(row.reason for group in rows for row in group if row is not None and row.value is None)
    said = [f"it has scored every image in {whole} of {len(groups)} rated groups"]
    if unasked:
        said.append(f"{unasked} were drawn without it")
    if failed:
        said.append(f"of {failed.total()} images it says: {failed.most_common(1)[0][0]}")
    return ", ".join(said)


def _that_may_reward(
    rewards: dict[str, dict[str, float]],
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """(those that a run may learn from, the others with the reason)."""
    usable, kept_back = {}, {}
    for name, values in rewards.items():
        try:
            kind = registry.about(name).kind
        except (LookupError, FailedRewardError) as error:
            kept_back[name] = str(error).strip("'\"")
            continue
        if kind in ("gate", "monitor"):
            kept_back[name] = f"it is a {kind}, which teaches nothing"
        else:
            usable[name] = values
    return usable, kept_back


def current_weights(db: Database) -> dict[str, float]:
    """Those of the applied fit, else the program's own."""
    fit = snapshots.applied_fit(db, "weights")
    return dict(DEFAULT_WEIGHTS) if fit is None else {k: float(v) for k, v in fit.detail["weights"].items()}


def fit_result(fit: PreferenceFit) -> dict[str, Any]:
    """What people see of a fit of weights."""
    return {
        "fit": fit.id,
        "num_comparisons": fit.num_pairs,
        "accuracy": [fit.accuracy, fit.low, fit.high],
        **fit.detail,
    }


def _detail(found: Calibration) -> dict[str, Any]:
    return {
        "weights": found.weights,
        "stds": found.stds,
        "baseline": _ends(found.baseline),
        "gain": _ends(found.gain),
        "num_prompts": found.num_prompts,
        "left_out": found.left_out,
    }


def _versions(scores: Any, names: Mapping[str, float]) -> dict[str, list[str]]:
    """Reward name to the versions whose scores were used: more than one is worth knowing."""
    found: dict[str, set[str]] = {name: set() for name in names}
    for of_image in scores:
        for name in found.keys() & of_image.keys():
            found[name].add(of_image[name].version)
    return {name: sorted(versions) for name, versions in found.items()}


# Agreement


def agreement(db: Database) -> dict[str, Any]:
    """How far annotators agree, whether place sways them, and what there is to see of each.

    Whose votes do not count is seen beside those that do, and is in nothing else.
    """
    said = votes_of(db, judged.said_votes(db))
    left_out = exclusion.exclusions(db).keys()
    votes = [vote for vote in said if vote.annotator not in left_out]
    seen = [*annotators(votes), *(one for who in left_out for one in _beside(who, votes, said))]
    names = judged.names_of(db, [one.annotator for one in seen])
    return {
        "agreements": [_plain(asdict(one)) for one in agreements(votes)],
        "people": [_plain(asdict(one)) for one in between_people(votes)],
        "positions": [_plain(asdict(one)) for one in position_bias(votes)],
        "annotators": [_plain(asdict(one)) | {"name": names.get(one.annotator, "")} for one in seen],
        "num_votes": sum(not vote.is_repeat for vote in votes),
        "num_repeats": sum(vote.is_repeat for vote in votes),
    }


def _beside(who: str, votes: Sequence[Vote], said: Sequence[Vote]) -> list[AnnotatorQuality]:
    """One whose votes do not count, as seen beside those that do; nothing where they said nothing."""
    theirs = [vote for vote in said if vote.annotator == who]
    return [one for one in annotators([*votes, *theirs]) if one.annotator == who]


# Leaderboard


def board(db: Database, test_id: str | None) -> dict[str, Any]:
    """The leaderboard of a revealed blind test, or of all of them together.

    Raises:
        ValueError: the test is not revealed, or there is no revealed test.
        LookupError: no such test.
    """
    if test_id is not None and blind.get_test(db, test_id).revealed_at is None:
        raise ValueError("this blind test is not revealed yet: reveal it, and its votes are counted")
    said = blind.judgements(db, None if test_id is None else [test_id])
    names = list(dict.fromkeys(name for one in said for name in (one.first, one.second)))
    if test_id is not None:
        names = blind.get_test(db, test_id).checkpoints
    if not names:
        raise ValueError("there are no blind votes to count: start a blind test, judge it and reveal it")
    known = judged.checkpoints_of(db, names)
    base = next((name for name in names if known[name].path is None), names[0])
    found = leaderboard([_match(one) for one in said], names, base)
    return _board(found, {name: one.name for name, one in known.items()}) | {
        "left": _ends(_left(said)),
        "tests": sorted({one.test_id for one in said}),
        "num_annotators": len({one.annotator_id for one in said}),
    }


def _match(one: BlindJudgement) -> Match:
    assert one.outcome in ("first", "second", "tie", "bad")
    return Match(one.prompt_hash, one.first, one.second, one.outcome)


def _left(said: Sequence[BlindJudgement]) -> Interval:
    """How often the left one was chosen, of what was decided: half, without a bias."""
    decided = [one for one in said if one.outcome in ("first", "second")]
    return wilson(sum((one.outcome == "second") == one.swapped for one in decided), len(decided))


def _board(found: Leaderboard, names: Mapping[str, str]) -> dict[str, Any]:
    order = [entry.name for entry in found.entries]

    def matrix(cells: Mapping[tuple[str, str], int]) -> list[list[int]]:
        return [[cells.get((one, other), 0) for other in order] for one in order]

    return {
        "base": found.base,
        "entries": [
            {
                "checkpoint": entry.name,
                "name": names[entry.name],
                "rating": _ends(entry.rating),
                "win_rate": _ends(entry.win_rate),
                "num_votes": entry.num_votes,
                "preliminary": entry.preliminary,
                "comparable": entry.rating is not None,
            }
            for entry in found.entries
        ],
        "wins": matrix(found.wins),
        "ties": matrix(found.ties),
        "bad": matrix(found.bad),
        "num_votes": found.num_votes,
        "num_prompts": found.num_prompts,
    }


# JSON


def _ends(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [_finite(end) for end in interval]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have; an Interval is a list."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _finite(value) if isinstance(value, float) else value
