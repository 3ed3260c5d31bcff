"""Fifty annotators, thirty votes a second: the round trip from a vote to the next card, and what is lost.

Each votes as the Rate page does: by the event of its card, with the state of a browser of their own, for the
group that the card before has brought. `crowd` measures any other number of them, for `benchmarks.web`.

With DATABASE_URL the rows are those of that PostgreSQL server, and a database that is there for this alone.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from PIL import Image
from sqlalchemy import select

from benchmarks.common import Line, publish, studio
from flowgrpo.config import SamplingConfig
from storage import blobs, groups, users
from storage.checkpoints import list_checkpoints
from storage.engine import Database, open_database
from storage.models import RatingEvent
from storage.workers import worker_status
from ui.people import COOKIE

SECONDS = 20
IMAGES = 4
OPENING_SECONDS = 10
"""In which everybody opens the page."""
ENGINE_SECONDS = 120
Vote = tuple[str, str]
"""Group id and the id of the image that is best."""


@dataclass(frozen=True)
class Crowd:
    """Some annotators and how often they vote, all of them together."""

    annotators: int
    votes_per_second: float
    seconds: int = SECONDS


@dataclass(frozen=True)
class Day:
    """What came of it: votes that were acknowledged, errors, seconds of each round trip in order of size."""

    acknowledged: list[Vote]
    errors: int
    seconds: list[float]

    def share(self, part: float) -> float:
        """The round trip in milliseconds that this part of the votes keeps below."""
        return 1000 * self.seconds[int(part * len(self.seconds))]


FIFTY = Crowd(50, 30)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures fifty annotators at thirty votes a second.")
    parser.add_argument("--seconds", type=int, default=SECONDS)
    who = replace(FIFTY, seconds=parser.parse_args().seconds)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with studio(home) as server:
            day = crowd(home, server.url, who)
        db = open_database(home)
        kept = sum(_is_kept(db, vote) for vote in day.acknowledged)
        driver = db.driver.name
        db.close()
    publish(
        "rating-postgresql" if driver == "PostgreSQL" else "rating",
        [
            Line("votes acknowledged", len(day.acknowledged), ""),
            Line("vote to next card, median", day.share(0.5), "ms"),
            Line("vote to next card, p95", day.share(0.95), "ms", 150.0),
            Line("vote to next card, p99", day.share(0.99), "ms"),
            Line("votes refused or failed", day.errors, "", 0.0),
            Line("acknowledged votes that were lost", len(day.acknowledged) - kept, "", 0.0),
        ],
    )


def _is_kept(db: Database, vote: Vote) -> bool:
    """Whether somebody said this of the group."""
    with db.read() as session:
        said = select(RatingEvent.id).where(RatingEvent.group_id == vote[0], RatingEvent.image_id == vote[1])
        return session.scalar(said.limit(1)) is not None


def crowd(home: Path, url: str, who: Crowd) -> Day:
    """Lets annotators rate new groups of a served studio, each under a name of their own."""
    _finished_groups(home, int(1.3 * who.votes_per_second * who.seconds) + who.annotators)
    people = new_people(home, who.annotators)
    wait_for_engine(home)
    return asyncio.run(_day(url, people, who))


def new_people(home: Path, count: int) -> list[str]:
    """Ids of new annotators."""
    db = open_database(home)
    made = [users.add_user(db, f"annotator {uuid.uuid4().hex[:8]}", "annotator").id for _ in range(count)]
    db.close()
    return made


def _finished_groups(home: Path, count: int) -> None:
    """Groups that can be rated."""
    db = open_database(home)
    base = list_checkpoints(db)[0].id
    file = io.BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(file, "PNG")
    sha256 = blobs.put_png(home, file.getvalue())
    for n in range(count):
        group = groups.request_group(
            db,
            prompt=f"portrait, red hair, {n}",
            checkpoint_id=base,
            config=SamplingConfig().model_dump(),
            seeds=list(range(IMAGES)),
            worker_id="bench",
        )
        for i in range(IMAGES):
            groups.add_image(db, group_id=group.id, index=i, seed=i, sha256=sha256, width=64, height=64)
        groups.finish_group(db, group.id)
    db.close()


def wait_for_engine(home: Path) -> None:
    """Returns when the engine worker has loaded everything: its start takes both cores for some seconds."""
    db = open_database(home)
    end = time.monotonic() + ENGINE_SECONDS
    while not any(beat.state == "idle" for beat in worker_status(db)):
        if time.monotonic() > end:
            sys.exit(f"the engine was not warm after {ENGINE_SECONDS} s")
        time.sleep(0.2)
    db.close()


async def _day(url: str, people: list[str], who: Crowd) -> Day:
    """Every annotator votes at random moments."""
    acknowledged, seconds, errors = list[Vote](), list[float](), 0
    end = time.monotonic() + OPENING_SECONDS + who.seconds
    each = who.annotators / who.votes_per_second

    async def annotate(client: httpx.AsyncClient, event: int, person: str, rng: random.Random) -> None:
        nonlocal errors
        browser = Browser(client, event, person)
        await browser.act("go")
        await asyncio.sleep(end - who.seconds - time.monotonic() + rng.random() * each)
        while browser.group and time.monotonic() < end:
            vote, began = (browser.group, rng.choice(browser.images)), time.perf_counter()
            if await browser.act("submit", vote[1]):
                acknowledged.append(vote)
            else:
                errors += 1
            seconds.append(time.perf_counter() - began)
            if not browser.group:
                await browser.act("go")  # twenty are done
            await asyncio.sleep(max(0.0, rng.expovariate(1 / each) - seconds[-1]))

    limits = httpx.Limits(max_connections=2 * len(people))
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        event = await _event(client)
        await asyncio.gather(
            *(annotate(client, event, person, random.Random(n)) for n, person in enumerate(people))
        )
    return Day(acknowledged, errors, sorted(seconds))


async def _event(client: httpx.AsyncClient) -> int:
    """The number under which Gradio knows the event of the card."""
    page = (await client.get("/rate")).text
    found = re.search(r"window.gradio_config = (.*?);</script>", page, re.DOTALL)
    assert found is not None, "the Rate page carries no configuration"
    config = json.loads(found[1])
    card = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == "card")
    return next(int(one["id"]) for one in config["dependencies"] if [card, "answer"] in one["targets"])


@dataclass
class Browser:
    """What the Rate page in one browser knows.

    Attributes:
        event: of the card.
        group: on the card; empty where it says something else.
        images: ids of its images.
    """

    client: httpx.AsyncClient
    event: int
    person: str
    group: str = ""
    images: Sequence[str] = ()

    async def act(self, act: str, best: str = "") -> bool:
        """One act at the card; whether it was kept."""
        said = {
            "act": act,
            "group": self.group,
            "key": uuid.uuid4().hex,
            "best": best,
            "stars": {},
            "lead_ms": 1,
        }
        call = {"fn_index": self.event, "data": [None], "event_data": said, "session_hash": self.person}
        headers = {"Cookie": f"{COOKIE}={self.person}"}
        answer = await self.client.post("/gradio_api/run/predict", json=call, headers=headers)
        if answer.status_code != httpx.codes.OK:
            return False
        card = str(answer.json()["data"][1])
        group = re.search(r'data-task="([^"]+)"', card)
        self.group = group[1] if group else ""
        self.images = re.findall(r'class="choice" data-id="([^"]+)"', card)
        return ">saved<" in card


if __name__ == "__main__":
    main()
