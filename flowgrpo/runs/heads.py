"""Preference heads between votes and rewards: fitted to what people said, kept with the votes they saw.

A head is a file of the data folder and a row that names the snapshot of votes behind it. The newest fit is
the one in use; a person may withdraw it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from flowgrpo.preferences import active
from flowgrpo.preferences import head as heads
from flowgrpo.preferences.head import MIN_PAIRS, Head, trust
from flowgrpo.preferences.votes import comparisons, latest
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.encoders import clip_for
from flowgrpo.rewards.eye import Eye
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.human import load_head, save_head
from flowgrpo.runs import layout
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.pictures import read_png
from flowgrpo.runs.votes import as_votes
from storage import blobs, judged, scores, snapshots
from storage.engine import Database
from storage.judged import JudgedGroup
from storage.models_judging import PreferenceFit

TAKEN_BACK = (
    "Every vote that the preference head learned from has been taken back, so it was withdrawn: "
    "rate some groups, then fit one to them."
)
"""Why a head is withdrawn that nobody withdrew."""
_PER_LOOK = 64
"""Images that are embedded together."""


def fit_head(db: Database, eye: Eye) -> PreferenceFit:
    """Fits a head to all votes that hold, writes it, and puts it in use.

    Raises ValueError with a sentence where there are no comparisons to learn from. Where the head in use
    rests on nothing that holds either, it is withdrawn then, and the sentence says so.
    """
    try:
        return _fitted_to_all(db, eye)
    except ValueError as error:
        if withdraw_unfounded(db) is None:
            raise
        raise ValueError(TAKEN_BACK) from error


def withdraw_unfounded(db: Database) -> PreferenceFit | None:
    """Takes the head out of use where no comparison holds of the votes that it learned from; returns it then.

    A vote holds that was neither undone nor replaced by a later one of the same annotator.
    """
    fit = snapshots.applied_fit(db, "head")
    if fit is None:
        return None
    learned = set(snapshots.get_snapshot(db, fit.snapshot_id).events)
    events = snapshots.standing_votes(db)
    votes = as_votes(events, judged.judged_groups(db, {event.group_id for event in events}))
    its_own = {id(vote) for event, vote in zip(events, votes, strict=True) if event.seq in learned}
    holding = [vote for said in latest(votes).values() for vote in said if id(vote) in its_own]
    if comparisons(holding):
        return None
    return snapshots.set_fit_state(db, fit.id, "withdrawn", TAKEN_BACK)


def _fitted_to_all(db: Database, eye: Eye) -> PreferenceFit:
    events = snapshots.standing_votes(db)
    if not events:
        raise ValueError("there are no votes to learn a taste from: rate some groups first")
    groups = judged.judged_groups(db, {event.group_id for event in events})
    ids, of_group, seen = embedded(db, eye, list(groups.values()))
    row = {image: place for place, image in enumerate(ids)}
    data = heads.data_of(comparisons(as_votes(events, groups)), row, of_group)
    fitted = heads.fit(seen, eye.widths, data)
    accuracy = heads.held_out_accuracy(seen, eye.widths, data)
    path = layout.head_file(db.home, fitted.version)
    if not path.exists():
        save_head(fitted, eye.name, path)
    snapshot = snapshots.take_snapshot(db, events)
    fit = snapshots.record_fit(
        db,
        kind="head",
        snapshot_id=snapshot.id,
        version=fitted.version,
        detail=_detail(fitted, eye, snapshot.hash, len(groups), {event.annotator_id for event in events}),
        num_pairs=data.num_pairs,
        accuracy=_known(accuracy.value),
        low=_known(accuracy.low),
        high=_known(accuracy.high),
        baseline=0.5,
    )
    return snapshots.set_fit_state(db, fit.id, "applied")


def _detail(
    fitted: Head, eye: Eye, snapshot_hash: str, num_groups: int, annotators: set[str]
) -> dict[str, Any]:
    variances = dict(zip(eye.names, fitted.variances, strict=True))
    return {
        "eye": eye.name,
        "variances": variances,
        "spread": fitted.spread,
        "snapshot_hash": snapshot_hash,
        "num_groups": num_groups,
        "annotators": len(annotators),
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def loudness(fit: PreferenceFit, updates_since: int = 0) -> float:
    """How much of its weight a fitted head has (`preferences.head.trust`); 0 once it is withdrawn."""
    if fit.state == "withdrawn" or fit.accuracy is None:
        return 0.0
    return trust(fit.num_pairs, fit.accuracy, updates_since)


def in_words(fit: PreferenceFit) -> str:
    """What a page says of a head."""
    if fit.num_pairs < MIN_PAIRS:
        return f"It is silent: it has {fit.num_pairs} comparisons, and speaks from {MIN_PAIRS} on."
    if fit.accuracy is None or fit.low is None or fit.high is None:
        return (
            f"It is silent: all of its {fit.num_pairs} comparisons are about one prompt, so there is nothing "
            "to test it on. Rate groups of other prompts too."
        )
    foresees = f"{fit.accuracy:.0%} ({fit.low:.0%} to {fit.high:.0%}) of choices that it has not seen"
    return f"It foresees {foresees}, from {fit.num_pairs} comparisons; loudness {loudness(fit):.0%}."


def path_of(db: Database, fit: PreferenceFit) -> Path:
    """The file of a fitted head."""
    return layout.head_file(db.home, fit.version)


def head_in_use(db: Database) -> Path | None:
    """The file of the head that is in use; None where none is, or its file is gone."""
    fit = snapshots.applied_fit(db, "head")
    path = path_of(db, fit) if fit else None
    return path if path and path.is_file() else None


def embedded(
    db: Database, eye: Eye, groups: Sequence[JudgedGroup]
) -> tuple[list[str], list[str], Float[ndarray, "image feature"]]:
    """Image ids, the id of each one's group, and what the eye sees of it; images whose file is gone are left
    out. What was seen before is read from the database.
    """
    rows = [(image, group.group) for group in groups for image in group.images]
    known = dict(scores.cached_embeddings(db, eye.name, {image.sha256 for image, _ in rows}))
    missing = {image.sha256: group.prompt for image, group in rows if image.sha256 not in known}
    new = _looked_at(db, eye, missing)
    if new:
        scores.cache_embeddings(db, eye.name, new)
    known |= new
    found = [(image, group) for image, group in rows if image.sha256 in known]
    vectors = [np.frombuffer(known[image.sha256], dtype="<f4").astype(np.float64) for image, _ in found]
    table = np.stack(vectors) if vectors else np.zeros((0, sum(eye.widths)))
    return [image.id for image, _ in found], [group.id for _, group in found], table


def _looked_at(db: Database, eye: Eye, missing: Mapping[str, str]) -> dict[str, bytes]:
    """File hash to embedding of images that were not seen before; those of one size together."""
    by_size: dict[tuple[int, ...], list[tuple[str, torch.Tensor]]] = {}
    for sha256 in missing:
        path = blobs.path_of(db.home, sha256)
        if path.is_file():
            pixels = read_png(path)
            by_size.setdefault(tuple(pixels.shape), []).append((sha256, pixels))
    found: dict[str, bytes] = {}
    for of_size in by_size.values():
        for start in range(0, len(of_size), _PER_LOOK):
            part = of_size[start : start + _PER_LOOK]
            images = torch.stack([pixels for _, pixels in part])
            seen, _ = eye.see(ScoreBatch(images, [""] * len(part), [0] * len(part)))
            rows = zip(part, seen.astype("<f4"), strict=True)
            found |= {sha256: row.tobytes() for (sha256, _), row in rows}
    return found


def fit_head_job(bench: Bench) -> dict[str, Any]:
    """Payload: {}. Fits a head, and says which open groups would teach it the most."""
    bench.tick("reading the votes", 0, 3)
    eye = Eye(clip_for("", Options(bench.weights, device=str(bench.device))), str(bench.device))
    with bench.turn():
        fit = fit_head(bench.db, eye)
    bench.tick("looking at what is not rated yet", 1, 3)
    with bench.turn():
        num_open = rank_open_groups(bench.db, eye, fit)
    bench.tick("done", 3, 3)
    return {
        "fit": fit.id, "num_pairs": fit.num_pairs, "accuracy": [fit.accuracy, fit.low, fit.high],
        "loudness": loudness(fit), "words": in_words(fit), "num_open": num_open, **fit.detail,
    }  # fmt: skip


def rank_open_groups(db: Database, eye: Eye, fit: PreferenceFit, limit: int = 200) -> int:
    """Gives the newest groups that nobody has rated their priority; returns how many have one now: none where
    somebody withdrew the head meanwhile.
    """
    open_ids = judged.unrated_groups(db, limit)
    ids, of_group, seen = embedded(db, eye, list(judged.judged_groups(db, open_ids).values()))
    if not ids:
        return 0
    head, _ = load_head(path_of(db, fit))
    shown, owner = head.basis(seen), np.array(of_group)
    groups = {name: shown[owner == name] for name in dict.fromkeys(of_group)}
    found = active.priorities(head.weights, head.covariance, groups)
    return len(found) if judged.set_priorities(db, dict(found), fit.id) else 0
