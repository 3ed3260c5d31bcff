"""A library of any size as rows: groups of eight with scores, some ratings, a few blobs that they share."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image as Picture
from sqlalchemy import insert

from flowgrpo.config import SamplingConfig
from storage import blobs
from storage.checkpoints import list_checkpoints
from storage.engine import Database
from storage.lookup import prompt_hash
from storage.models import Image, ImageGroup, RatingEvent, Score
from storage.types import new_id

GROUP = 8
REWARDS = ("verifier", "clip", "quality")
WORDS = ("red hair", "blue background", "smile", "glasses", "freckles", "long hair", "dark skin", "earrings")
_BLOBS = 12
_AT_ONCE = 500
"""Groups of one transaction."""


def fill(db: Database, num_images: int, first: int = 0) -> None:
    """Adds finished groups until there are `num_images` images in all, from the `first`th on; every tenth
    group is rated."""
    shas = _shared_blobs(db.home)
    base = list_checkpoints(db)[0].id
    rng = random.Random(first)
    for begin in range(first // GROUP, num_images // GROUP, _AT_ONCE):
        rows = _rows(range(begin, min(begin + _AT_ONCE, num_images // GROUP)), base, shas, rng)
        with db.write() as session:
            for kind, made in zip((ImageGroup, Image, Score, RatingEvent), rows, strict=True):
                if made:
                    session.execute(insert(kind), made)


def _shared_blobs(home: Path) -> list[str]:
    found = []
    for n in range(_BLOBS):
        file = io.BytesIO()
        Picture.effect_noise((64, 64), 20 + 5 * n).convert("RGB").save(file, "PNG")
        found.append(blobs.put_png(home, file.getvalue()))
    return found


def _rows(
    numbers: range, base: str, shas: list[str], rng: random.Random
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    groups, images, scores, votes = [], [], [], []
    config = SamplingConfig().model_dump()
    for n in numbers:
        prompt = ", ".join(["portrait", *rng.sample(WORDS, 3)])
        made = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n)
        group: dict[str, Any] = {
            "id": new_id(), "seq": 1_000_000 + n, "prompt": prompt, "prompt_hash": prompt_hash(prompt),
            "checkpoint_id": base, "config": config, "seeds": list(range(GROUP)), "kind": "studio",
            "state": "done", "created_by": "local", "created_at": made, "started_at": made,
            "finished_at": made + timedelta(seconds=3), "claims": 1,
        }  # fmt: skip
        groups.append(group)
        for index in range(GROUP):
            image: dict[str, Any] = {
                "id": new_id(), "group_id": group["id"], "index": index, "seed": index, "width": 64,
                "height": 64, "sha256": rng.choice(shas), "created_at": made,
            }  # fmt: skip
            images.append(image)
            scores += [
                {"image_id": image["id"], "reward": name, "version": "1", "value": rng.random()}
                for name in REWARDS
            ]
        if n % 10 == 0:
            votes.append(_vote(n, group["id"], images[-1]["id"], made))
    return groups, images, scores, votes


def _vote(number: int, group: str, best: str, at: datetime) -> dict[str, Any]:
    return {
        "id": new_id(), "seq": 1_000_000 + number, "client_key": new_id(), "act_id": new_id(),
        "annotator_id": "local", "group_id": group, "kind": "best", "image_id": best, "payload": {},
        "created_at": at,
    }  # fmt: skip
