"""The group strip: one group's images, each reward as a bar from the group's mean, and the details of one
image."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.assignments import RATEABLE
from storage.groups import GroupView, ImageView
from storage.models import Image
from ui.components import render, signed, span
from ui.forms import show_seeds
from ui.language import t
from ui.media import thumb_url

REWARD_ORDER = ("verifier", "clip", "quality", "diversity", "human")
"""The same order everywhere; rewards that are not here follow by name."""
_FULL_BAR = 2.5
"""Standard deviations at which a bar is full."""
_TILE = 384
"""Pixels: images up to here are shown as they are."""
_SMALLEST_STD = 0.01
"""Of rewards, which all lie in about 0 to 1; a standard deviation below it is read as this one, so that noise
is not drawn as a difference."""


@dataclass(frozen=True)
class Bar:
    """One reward of one image against its group.

    Attributes:
        name: the reward.
        left, width: percent of the track that the bar covers; the middle is the group's mean.
        text: standard deviations from the mean (of at least 0.01), or a dash.
        title: the whole sentence, with the raw value.
    """

    name: str
    left: float
    width: float
    text: str
    title: str


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of one reward inside a group."""

    mean: float
    std: float
    n: int


def reward_names(group: GroupView) -> list[str]:
    """The rewards that any image of the group has, in the fixed order."""
    found = {name for image in group.images for name in image.scores}
    if any(image.stars is not None for image in group.images):
        found.add("human")
    known = [name for name in REWARD_ORDER if name in found]
    return known + sorted(found - set(known))


def value_of(image: ImageView, reward: str) -> float | None:
    """The raw value of a reward on an image; stars are the reward "human"."""
    if reward == "human" and reward not in image.scores:
        return None if image.stars is None else float(image.stars)
    score = image.scores.get(reward)
    return score.value if score else None


def spread_of(images: Sequence[ImageView], reward: str) -> Spread | None:
    """Mean and standard deviation of the images that have a value; None when none has."""
    values = [value for image in images if (value := value_of(image, reward)) is not None]
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.pstdev(values), len(values))


def bar_of(image: ImageView, reward: str, spread: Spread | None) -> Bar:
    """Places one value against its group's mean, in the group's standard deviations."""
    value = value_of(image, reward)
    if value is None or spread is None:
        score = image.scores.get(reward)
        reason = score.reason if score and score.reason else "not scored"
        return Bar(reward, 50, 0, "–", f"{reward}: {reason}")
    distance = (value - spread.mean) / max(spread.std, _SMALLEST_STD)
    half = 50 * min(1.0, abs(distance) / _FULL_BAR)
    title = f"{reward} {value:.3f}; the group's mean is {spread.mean:.3f}, its spread {spread.std:.3f}"
    return Bar(reward, 50 - half if distance < 0 else 50, half, signed(distance, 1), title)


def bars_of(group: GroupView, image: ImageView) -> list[Bar]:
    """The bars of one image; a reward that has no value on any image of the group has no bar."""
    spreads = {name: spread_of(group.images, name) for name in reward_names(group)}
    return [bar_of(image, name, spread) for name, spread in spreads.items() if spread is not None]


def took(group: GroupView) -> float | None:
    """Seconds from start to end of a finished group."""
    record = group.group
    if record.started_at is None or record.finished_at is None:
        return None
    return (record.finished_at - record.started_at).total_seconds()


def settings_line(config: Mapping[str, object]) -> str:
    """ "16 steps · guidance 3 · 64 × 64"."""
    guidance = float(str(config["guidance_scale"]))
    words = "no guidance" if math.isclose(guidance, 1) else f"guidance {guidance:g}"
    return f"{config['num_steps']} steps · {words} · {config['width']} × {config['height']}"


def small_url(image: Image) -> str:
    """Where an image is had no larger than a tile needs it."""
    return f"/media/{image.id}.png" if max(image.width, image.height) <= _TILE else thumb_url(image.id)


def state_line(group: GroupView, position: int | None, wait: float | None) -> str:
    """Where a group stands, in words; empty once it is done."""
    record = group.group
    about = t("studio.about_left", time=span(wait)) if wait else ""
    if record.state == "queued":
        place = t("studio.waiting_ahead", n=position) if position else t("studio.waiting_next")
        return place + about
    if record.state == "running":
        phase = record.phase or t("studio.starting")
        return phase[0].upper() + phase[1:] + about
    if record.state == "canceled":
        return t("studio.canceled", ready=len(group.images), total=len(record.seeds))
    if record.state == "failed":
        return t("studio.failed", reason=record.reason or t("studio.no_reason"))
    return ""


def strip_html(
    group: GroupView, *, picked: str | None, position: int | None = None, wait: float | None = None
) -> str:
    """Renders a group; `picked` is the image that is looked at, `wait` the seconds left if known."""
    record = group.group
    seconds = took(group)
    return render(
        "strip.html",
        group=record,
        checkpoint=group.checkpoint,
        tiles=_tiles(group),
        bars={image.image.id: bars_of(group, image) for image in group.images},
        has_bars=bool(reward_names(group)),
        picked=picked,
        small_url=small_url,
        is_offered=record.kind in RATEABLE,
        is_open=_is_open(group),
        ready=len(group.images),
        rated=sum(1 for image in group.images if image.stars is not None or image.best),
        state=state_line(group, position, wait),
        settings=settings_line(record.config),
        seeds=show_seeds(record.seeds),
        seconds=None if seconds is None else span(seconds),
    )


def batch_html(groups: Sequence[GroupView], *, picked: str | None, hidden: int = 0) -> str:
    """Renders several groups one under the other, those of a prompt together, the same seed in a column.

    Args:
        hidden: groups of the batch that are not among these.
    """
    parts: dict[str, list[dict[str, object]]] = {}
    for view in groups:
        row = {"group": view.group, "checkpoint": view.checkpoint, "tiles": _tiles(view)}
        row |= {"bars": {image.image.id: bars_of(view, image) for image in view.images}}
        row |= {"state": state_line(view, None, None), "is_open": _is_open(view)}
        parts.setdefault(view.group.prompt, []).append(row)
    return render(
        "batch.html",
        parts=list(parts.items()),
        ids=",".join(view.group.id for view in groups),
        total=len(groups) + hidden,
        hidden=hidden,
        images=sum(len(view.group.seeds) for view in groups),
        ready=sum(len(view.images) for view in groups),
        is_open=any(_is_open(view) for view in groups),
        picked=picked,
        small_url=small_url,
    )


def _is_open(group: GroupView) -> bool:
    return group.group.state in ("queued", "running")


def _tiles(group: GroupView) -> list[tuple[int, int, ImageView | None]]:
    """(index, seed, image or None) of every seed."""
    images = {image.image.index: image for image in group.images}
    return [(index, seed, images.get(index)) for index, seed in enumerate(group.group.seeds)]
