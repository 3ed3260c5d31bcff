"""A data folder with a base, and groups with real PNGs in it; no engine, no network."""

from __future__ import annotations

import gc
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from PIL import Image as Picture

from flowgrpo.config import SamplingConfig
from storage import blobs, checkpoints, engine, groups
from storage.engine import Database, open_database
from storage.groups import GroupView, ScoreInput
from storage.locks import FileLock
from storage.models import Checkpoint
from tests.storage.ready import ready
from ui.services import Services


@pytest.fixture(scope="session", autouse=True)
def _loops_of_gradio() -> Iterator[None]:
    """Gradio never closes the event loops that it makes at build time; they are let go of quietly here."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


MakeGroup = Callable[..., GroupView]
Lock = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(ready(tmp_path / "home"))
    yield opened
    opened.close()


@pytest.fixture
def services(db: Database) -> Services:
    return Services(db)


@pytest.fixture
def base(db: Database) -> Checkpoint:
    return checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")


@pytest.fixture
def locked(db: Database, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """While it is entered another process writes and does not end: every write here is refused."""
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 200)

    @contextmanager
    def hold() -> Iterator[None]:
        gate = FileLock(db.home / "locks" / "write.lock")
        gate.acquire()
        yield
        gate.release()

    return hold


def png(shade: int) -> bytes:
    """A PNG of one grey."""
    file = io.BytesIO()
    Picture.new("RGB", (8, 8), (shade % 256, shade % 256, shade % 256)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def make_group(db: Database, base: Checkpoint) -> MakeGroup:
    """Makes a finished group of the base."""
    return partial(finished_group, db, checkpoint=base)


def finished_group(
    db: Database,
    values: Sequence[float | None] = (0.2, 0.8),
    *,
    checkpoint: Checkpoint,
    prompt: str = "portrait, red hair",
    config: Mapping[str, object] | None = None,
    seeds: Sequence[int] | None = None,
    **more: object,
) -> GroupView:
    """A group with its images; `values` are the verifier's scores, one an image."""
    settings = dict(config or SamplingConfig().model_dump())
    wanted = list(seeds or range(7, 7 + len(values)))
    group = groups.request_group(
        db,
        prompt=prompt,
        checkpoint_id=checkpoint.id,
        config=settings,
        seeds=wanted,
        worker_id="w",
        **more,  # type: ignore[arg-type]
    )
    for index, (seed, value) in enumerate(zip(wanted, values, strict=True)):
        sha = blobs.put_png(db.home, png(seed))
        image = groups.add_image(db, group_id=group.id, index=index, seed=seed, sha256=sha, width=8, height=8)
        reason = None if value is not None else "no known attribute"
        groups.add_scores(db, [ScoreInput(image.id, "verifier", "1", value, reason)])
    groups.finish_group(db, group.id)
    return groups.get_group(db, group.id)
