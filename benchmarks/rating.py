"""Fifty annotators, thirty votes a second: the round trip from a vote to the next card, and what is lost."""

from __future__ import annotations

import asyncio
import io
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.common import Line, publish, studio
from flowgrpo.config import SamplingConfig
from storage import blobs, groups
from storage.checkpoints import list_checkpoints
from storage.engine import open_database
from storage.ratings import current_ratings
from storage.workers import worker_status

ANNOTATORS, VOTES_PER_SECOND, SECONDS = 50, 30, 20
GROUPS = int(1.3 * VOTES_PER_SECOND * SECONDS)
IMAGES = 4
OPENING_SECONDS = 10
"""In which everybody opens the page."""
ENGINE_SECONDS = 120
Vote = tuple[str, str]
"""Group id and the id of the image that is best."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with studio(home) as server:
            todo = _finished_groups(home)
            _wait_for_engine(home)
            acknowledged, errors, seconds = asyncio.run(_day(server.url, todo))
        db = open_database(home)
        kept = sum(current_ratings(db, group).best == image for group, image in acknowledged)
        db.close()
    seconds.sort()
    publish(
        "rating",
        [
            Line("votes acknowledged", len(acknowledged), ""),
            Line("vote to next card, median", 1000 * seconds[len(seconds) // 2], "ms"),
            Line("vote to next card, p95", 1000 * seconds[int(0.95 * len(seconds))], "ms", 150.0),
            Line("vote to next card, p99", 1000 * seconds[int(0.99 * len(seconds))], "ms"),
            Line("votes refused or failed", errors, "", 0.0),
            Line("acknowledged votes that were lost", len(acknowledged) - kept, "", 0.0),
        ],
    )


def _finished_groups(home: Path) -> list[Vote]:
    """Groups that can be rated, each with the image that will be called its best."""
    db, todo = open_database(home), []
    base = list_checkpoints(db)[0].id
    file = io.BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(file, "PNG")
    sha256 = blobs.put_png(home, file.getvalue())
    for n in range(GROUPS):
        group = groups.request_group(
            db,
            prompt=f"portrait, red hair, {n}",
            checkpoint_id=base,
            config=SamplingConfig().model_dump(),
            seeds=list(range(IMAGES)),
            worker_id="bench",
        )
        made = [
            groups.add_image(db, group_id=group.id, index=i, seed=i, sha256=sha256, width=64, height=64)
            for i in range(IMAGES)
        ]
        groups.finish_group(db, group.id)
        todo.append((group.id, made[n % IMAGES].id))
    db.close()
    return todo


def _wait_for_engine(home: Path) -> None:
    """Returns when the engine worker has loaded everything: its start takes both cores for some seconds."""
    db = open_database(home)
    end = time.monotonic() + ENGINE_SECONDS
    while not any(beat.state == "idle" for beat in worker_status(db)):
        if time.monotonic() > end:
            sys.exit(f"the engine was not warm after {ENGINE_SECONDS} s")
        time.sleep(0.2)
    db.close()


async def _day(url: str, todo: list[Vote]) -> tuple[list[Vote], int, list[float]]:
    """Every annotator votes at random moments. Returns what was acknowledged, the errors, the seconds."""
    acknowledged, seconds, errors = list[Vote](), list[float](), 0
    end = time.monotonic() + OPENING_SECONDS + SECONDS

    async def annotate(client: httpx.AsyncClient, session: str, rng: random.Random) -> None:
        nonlocal errors
        await _call(client, session, "next_task")  # opens the session, as the page does when it is loaded
        await asyncio.sleep(end - SECONDS - time.monotonic() + rng.random() * ANNOTATORS / VOTES_PER_SECOND)
        while todo and time.monotonic() < end:
            vote, began = todo.pop(), time.perf_counter()
            if await _voted(client, session, vote):
                acknowledged.append(vote)
            else:
                errors += 1
            seconds.append(time.perf_counter() - began)
            pause = rng.expovariate(VOTES_PER_SECOND / ANNOTATORS)
            await asyncio.sleep(max(0.0, pause - seconds[-1]))

    limits = httpx.Limits(max_connections=2 * ANNOTATORS)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await asyncio.gather(
            *(annotate(client, f"annotator-{n}", random.Random(n)) for n in range(ANNOTATORS))
        )
    return acknowledged, errors, seconds


async def _voted(client: httpx.AsyncClient, session: str, vote: Vote) -> bool:
    """One call of the API's `rate`, which answers with the next card: whether it was kept."""
    group, image = vote
    answer = await _call(client, session, "rate", group, uuid.uuid4().hex, image, {}, False, None, None, None)
    return answer.status_code == httpx.codes.OK and isinstance(answer.json()["data"][0], dict)


async def _call(client: httpx.AsyncClient, session: str, name: str, *values: object) -> httpx.Response:
    call = {"data": values, "session_hash": session}
    return await client.post(f"/gradio_api/run/{name}", json=call)


if __name__ == "__main__":
    main()
