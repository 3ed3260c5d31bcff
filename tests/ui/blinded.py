"""Two checkpoints whose names nobody judging may learn, and their images of the same prompts and seeds: dark
ones by the base, bright ones by the tuned checkpoint."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import select

from flowgrpo.config import SamplingConfig
from storage import blind, blobs, checkpoints, groups, runs, users
from storage.engine import Database
from storage.models import Checkpoint, Image, ImageGroup, User
from storage.models_judging import BlindTest

PROMPTS = ("portrait, red hair", "portrait, glasses", "portrait, buns")
SEEDS = (3141592653, 2718281828)
DARK, BRIGHT = 20, 220
CONFIG: dict[str, Any] = SamplingConfig(num_steps=8, guidance_scale=1.0, width=64, height=64).model_dump()


@dataclass(frozen=True)
class Blinded:
    """A data folder with everything that a blind test needs. Ann and Bea are annotators."""

    db: Database
    base: Checkpoint
    tuned: Checkpoint
    ann: User
    bea: User

    def start(self, prompts: Sequence[str] = PROMPTS) -> BlindTest:
        """A blind test of both."""
        ids = [self.base.id, self.tuned.id]
        return blind.create_blind_test(
            self.db,
            checkpoint_ids=ids,
            prompts=prompts,
            seeds=SEEDS,
            config=CONFIG,
            name="base vs secret tuned",
        )

    def secrets(self) -> set[str]:
        """What tells whose an image is, as it would stand in a text."""
        with self.db.read() as session:
            images = session.scalars(select(Image)).all()
            made = session.scalars(select(ImageGroup.id)).all()
            known = session.scalars(select(Checkpoint)).all()
            found = {one for row in images for one in (row.id, row.sha256, str(row.seed))}
            found |= set(made) | {one for row in known for one in (row.id, row.name, row.run_id) if one}
        return {*found, "hush hush run", "secret"}


def blinded(db: Database, prompts: Sequence[str] = PROMPTS) -> Blinded:
    """Fills a data folder."""
    base = checkpoints.register_base(
        db, name="Secret base 9", source="nowhere", family="StableDiffusionXLPipeline"
    )
    tuned = tuned_of(db, base)
    for checkpoint, shade in ((base, DARK), (tuned, BRIGHT)):
        for prompt in prompts:
            draw(db, checkpoint, prompt, SEEDS, shade)
    people = [users.add_user(db, name, "annotator") for name in ("Ann", "Bea")]
    return Blinded(db, base, tuned, *people)


def tuned_of(db: Database, base: Checkpoint) -> Checkpoint:
    """A checkpoint that a run made, with the steps that the run learned with."""
    config = {"num_updates": 12, "prompts": ["portrait"], "rollout": {"num_steps": 8, "guidance_scale": 1.0}}
    run = runs.create_run(
        db, name="hush hush run", owner_id="local", parent_checkpoint_id=base.id, config=config
    )
    runs.claim_run(db, host="h", boot_id="b")
    return checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=12, name="Secret tuned 12", path="p", sha256="0" * 64
    )


def draw(db: Database, checkpoint: Checkpoint, prompt: str, seeds: Sequence[int], shade: int) -> None:
    """A finished group in one colour, each PNG with the name of its model in it."""
    group = groups.request_group(
        db, prompt=prompt, checkpoint_id=checkpoint.id, config=CONFIG, seeds=seeds, kind="compare",
        worker_id="w",
    )  # fmt: skip
    for index, seed in enumerate(seeds):
        info, buffer = PngInfo(), io.BytesIO()
        info.add_itxt("parameters", f"Model: {checkpoint.name}, Seed: {seed}")
        colour = (shade, (7 * index) % 256, len(prompt))
        Picture.new("RGB", (64, 64), colour).save(buffer, "PNG", pnginfo=info)
        sha = blobs.put_png(db.home, buffer.getvalue())
        groups.add_image(db, group_id=group.id, index=index, seed=seed, sha256=sha, width=64, height=64)
    groups.finish_group(db, group.id)


def is_tuned(db: Database, image_id: str) -> bool:
    """Whether an image is by the tuned checkpoint."""
    with db.read() as session:
        row = session.get(Image, image_id)
        group = session.get(ImageGroup, row.group_id) if row else None
        made = session.get(Checkpoint, group.checkpoint_id) if group else None
        return bool(made and made.run_id)


def judge_all(db: Database, test: BlindTest, person: User, favour_tuned: bool = True) -> int:
    """Prefers one checkpoint throughout; how many pairs there were."""
    count = 0
    while (pair := blind.next_pair(db, test.id, person.id)) is not None:
        answer: blind.Answer = "left" if is_tuned(db, pair.left) == favour_tuned else "right"
        key = f"{person.name} says {count}"
        blind.vote(
            db, client_key=key, pair_id=pair.pair_id, annotator_id=person.id, answer=answer, lead_ms=900
        )
        count += 1
    return count
