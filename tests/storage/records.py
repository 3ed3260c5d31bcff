"""What the tests of storage share: a sampling config, a finished group of two images, a PNG of any size."""

from __future__ import annotations

import io
import os

from PIL import Image as Picture

from storage import groups
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, GroupKind

CONFIG = {"num_steps": 8, "guidance_scale": 1.0, "width": 64, "height": 64, "negative_prompt": ""}


def finished_group(
    db: Database,
    base: Checkpoint,
    prompt: str = "portrait, red hair",
    kind: GroupKind = "studio",
    num_images: int = 2,
) -> GroupView:
    """A group whose images are rows without blobs; nothing here looks at pixels."""
    group = groups.request_group(
        db,
        prompt=prompt,
        checkpoint_id=base.id,
        config=CONFIG,
        seeds=range(num_images),
        kind=kind,
        worker_id="host:cpu",
    )
    for index, seed in enumerate(group.seeds):
        sha256 = f"{seed:064x}"
        groups.add_image(db, group_id=group.id, index=index, seed=seed, sha256=sha256, width=64, height=64)
    assert groups.finish_group(db, group.id)
    return groups.get_group(db, group.id)


def noise_png(size: int) -> bytes:
    """A square PNG that does not compress: 3 * size^2 bytes and a little."""
    buffer = io.BytesIO()
    Picture.frombytes("RGB", (size, size), os.urandom(3 * size * size)).save(buffer, "PNG")
    return buffer.getvalue()
