"""The networks that an evaluation measures with: the worker's rewards, and those loaded for this job."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from flowgrpo.metrics.distributions import NAMES
from flowgrpo.rewards.base import Reward
from flowgrpo.rewards.encoders import clip_for
from flowgrpo.rewards.eye import Eye
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.human import Taste
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rewards.verifier import AttributeVerifier
from flowgrpo.runs.heads import path_of
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.reward_options import options_for
from storage import snapshots

USUAL: Final = ("clip", "quality", "aesthetic")
"""Rewards of every evaluation, where they are here; others are asked for by name, and then fetched too."""
PREFERENCE: Final = "preference"
NO_HEAD: Final = "no preference head is in use: fit one to the votes"
LPIPS: Final = "lpips_ref"
"""By alex, as reports have it; it needs another image, so it is no column of its own."""
_PAIRED: Final = ("ssim", "psnr", "lpips", "perceptual")
_OWN: Final = {"judge", "diversity", PREFERENCE, LPIPS, *NAMES, *_PAIRED}
"""Metrics that are no rewards, or are measured in ways of their own."""


@dataclass(frozen=True)
class Instruments:
    """What there is.

    Attributes:
        stack: Rewards that are columns.
        lpips: LPIPS to a reference, where its trunk is here.
        absent: Metric to why it cannot be had.
    """

    stack: RewardStack
    lpips: Reward | None
    absent: dict[str, str]


def metric_of(column: str) -> str:
    """The metric that a column is of: "ssim/base" is of ssim, "judge/mouth" of judge. Others are as named."""
    metric = column.partition("/")[0]
    return metric if metric in _OWN else column


def load_instruments(
    bench: Bench, wanted: Collection[str] | None, head_of: Callable[[Bench], Reward | None]
) -> Instruments:
    """Those for the metrics that are wanted; None stands for the usual ones."""
    found: dict[str, Reward] = {}
    absent: dict[str, str] = {}
    for name in USUAL if wanted is None else wanted:
        if name not in _OWN:
            _add(found, absent, name, _stack_with(bench, name, fetches=wanted is not None))
    lpips: dict[str, Reward] = {}
    if wanted is None or "lpips" in wanted:
        _add(lpips, absent, LPIPS, _stack_with(bench, LPIPS, fetches=wanted is not None))
    if LPIPS in absent:
        absent["lpips"] = f"{absent.pop(LPIPS)}; the embedded perceptual distance stands beside it"
    if wanted is None or PREFERENCE in wanted:
        try:
            head = head_of(bench)
        except (LookupError, ValueError) as error:
            absent[PREFERENCE] = str(error)
        else:
            found |= {PREFERENCE: head} if head else {}
            absent |= {} if head else {PREFERENCE: NO_HEAD}
    return Instruments(RewardStack(found), lpips.get(LPIPS), absent)


def applied_head(bench: Bench) -> Reward | None:
    """The preference head that is in use; None where none is.

    Raises LookupError or ValueError where its file cannot be read, or it was fitted through another eye.
    """
    fit = snapshots.applied_fit(bench.db, "head")
    if fit is None:
        return None
    device = str(bench.device)
    taste = Taste(Eye(clip_for("", Options(bench.weights, device=device)), device))
    taste.use(path_of(bench.db, fit))
    return taste


def load_judge(bench: Bench, absent: dict[str, str]) -> AttributeVerifier | None:
    """The judge, which took no part in any training; None, and why in `absent`, where it is not here."""
    try:
        return AttributeVerifier(bench.weights / "judge", "judge", str(bench.device))
    except LookupError as error:
        absent["judge"] = str(error)
        return None


def _add(found: dict[str, Reward], absent: dict[str, str], name: str, stack: RewardStack) -> None:
    if name in stack.rewards:
        found[name] = stack.rewards[name]
    else:
        absent[name] = stack.unavailable[name]


def _stack_with(bench: Bench, name: str, *, fetches: bool) -> RewardStack:
    """A stack with this reward, or with why it cannot be had."""
    stack = bench.painter.stack
    if name in stack.rewards or name in stack.unavailable:
        return stack
    options = options_for(bench.db, bench.weights)
    if not fetches:
        options = replace(options, offline=True)
    try:
        return load_stack([name], bench.weights, str(bench.device), options)
    except (LookupError, ValueError) as error:
        return RewardStack({}, {name: str(error)})
