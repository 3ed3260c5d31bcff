"""Draws the starter's domain: DiceBear `adventurer` portraits with exact attributes and captions.

Pure Python (dicebear-core, dicebear-styles, resvg-py), 3 ms an image, deterministic in its arguments.
Design: "Adventurer" by Lisa Wischofsky, CC BY 4.0 (NOTICE).
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from functools import cache
from importlib import resources

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from numpy.typing import NDArray
from PIL import Image

from flowgrpo.starter import vocabulary as v

IMAGE_SIZE = 64
_SUPERSAMPLE = 2  # resvg leaves 1 px ink lines ragged at 64 px; drawing at 128 and averaging does not
_SCALE = 1.22  # eyes, mouth and glasses get more pixels; long hair still fits
_HELD_OUT_SHARE = 0.1


@cache
def _style() -> Style:
    return Style(json.loads((resources.files("dicebear_styles") / "adventurer.json").read_text()))


def sample_attributes(rng: random.Random) -> v.Attributes:
    """Draws every slot uniformly, the optional ones with their absence half of the time."""
    attributes: v.Attributes = {}
    for slot in v.SLOTS:
        if slot.absent and rng.random() < 0.5:
            attributes[slot.name] = slot.absent
        else:
            attributes[slot.name] = rng.choice(slot.values)
    return attributes


def is_held_out(attributes: v.Attributes) -> bool:
    """Whether this combination of hair style, hair colour and background is kept from all training."""
    key = "|".join(attributes.get(name, "") for name in ("hair style", "hair colour", "background"))
    return hashlib.sha256(key.encode()).digest()[0] < 256 * _HELD_OUT_SHARE


def render(attributes: v.Attributes, seed: int) -> NDArray[np.uint8]:
    """Draws one portrait; `seed` chooses everything that the attributes leave free.

    Returns:
        RGB pixels, shape (64, 64, 3).
    """
    rng = random.Random(seed)
    eyewear, detail = attributes["eyewear"], attributes["detail"]
    options = {
        "seed": str(seed),
        "hairVariant": [rng.choice(v.HAIR_STYLES[attributes["hair style"]])],
        "hairColor": [v.HAIR_COLOURS[attributes["hair colour"]]],
        "skinColor": [v.SKINS[attributes["skin"]]],
        "glassesVariant": [rng.choice(v.EYEWEAR.get(eyewear, ("variant01",)))],
        "glassesProbability": 100 * (eyewear in v.EYEWEAR),
        "mouthVariant": [rng.choice(v.MOUTHS[attributes["mouth"]])],
        "detailsVariant": [v.DETAILS.get(detail, "blush")],
        "detailsProbability": 100 * (detail in v.DETAILS),
        "eyesVariant": [rng.choice(v.EYES)],
        "eyebrowsVariant": [rng.choice(v.EYEBROWS)],
        "earringsProbability": 0,
        "backgroundColor": [v.BACKGROUNDS[attributes["background"]]],
        "scale": _SCALE,
        "size": IMAGE_SIZE,
    }
    side = IMAGE_SIZE * _SUPERSAMPLE
    png = resvg_py.svg_to_bytes(svg_string=Avatar(_style(), options).to_string(), width=side, height=side)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGB").reduce(_SUPERSAMPLE)
    return np.asarray(image)


def caption(attributes: v.Attributes, rng: random.Random | None = None, drop: float = 0.0) -> str:
    """Writes the tags of a portrait: "portrait, long hair, red hair, glasses, blue background".

    Args:
        attributes: slot name -> label.
        rng: shuffles and drops tags when given; without it the order is that of the slots.
        drop: chance that a tag of a slot without an absent label is left out (an optional slot's tag
            never is, so that leaving it out of a prompt means its absence).
    """
    tags = []
    for slot in v.SLOTS:
        label = attributes.get(slot.name)
        if label is None or label == slot.absent:
            continue
        if rng is None or slot.absent or rng.random() >= drop:
            tags.append(label)
    if rng is not None:
        rng.shuffle(tags)
    return ", ".join([v.SUBJECT, *tags])
