"""Costs of the web process: pages of the Library, searches and votes, by what it holds and who is there."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from urllib.parse import urlencode

from benchmarks import rows
from benchmarks.common import seconds_of
from benchmarks.growth.axis import Axis, Cost
from benchmarks.rating import new_people
from benchmarks.web import SEARCH
from flowgrpo.runs.worker import WEIGHTS
from storage import checkpoints, search
from storage.engine import Database, open_database
from ui.library import frame
from ui.pages import rate
from ui.services import Services

NOT_THERE = "unicorn"
"""A word of no prompt: every group is looked at."""
PAGES = 5
VOTES = 9
"""The median of so many is one turn's; the first card after twenty is another one."""
GROUPS_EACH = 40
"""Open groups of the studio for each of the most annotators."""
BEFORE = 5
"""Votes of each annotator that are there before any is measured."""


@dataclass
class Voter:
    """Somebody at the Rate page of this process, without a browser between."""

    services: Services
    person: str
    seen: rate.Seen = field(default_factory=rate.Seen)

    def vote(self) -> None:
        """Likes the first image of the group on the card best; a new card stands when it returns."""
        group, before = self.services.group(self.seen.group_id), self.seen.turn
        assert group is not None, "nothing is left to rate"
        said = {"group": group.group.id, "best": group.images[0].image.id, "stars": {}, "lead_ms": 1}
        self._act("submit", **said)
        assert self.seen.turn == before + 1, "the vote was refused"

    def open(self) -> None:
        """Brings a group to a card that has none: at first, and after each twenty."""
        if self.seen.group_id is None:
            self._act("go", group="", best="", stars={}, lead_ms=None)

    def _act(self, act: str, **said: object) -> None:
        event = SimpleNamespace(key=uuid.uuid4().hex, **said)
        self.seen, _ = rate.answered(self.services, self.person, self.seen, act, event)


def _new_home(home: Path) -> None:
    """A studio with the starter and nothing else."""
    db = open_database(home)
    source = str(WEIGHTS / "pipeline")
    checkpoints.register_base(db, name="starter", source=source, family="sdxl")
    db.close()


def _filled(home: Path, num_images: int, first: int = 0) -> None:
    db = open_database(home)
    rows.fill(db, num_images, first=first)
    db.close()


def _libraries(folder: Path, sizes: Sequence[int]) -> dict[int, Path]:
    """Size to a data folder of so many images, each made from the one before it."""
    homes: dict[int, Path] = {}
    before, filled = folder / "empty", 0
    _new_home(before)
    for size in sorted(sizes):
        homes[size] = shutil.copytree(before, folder / str(size))
        _filled(homes[size], size, first=filled)
        before, filled = homes[size], size
    return homes


@contextmanager
def _opened(homes: Mapping[int, Path]) -> Iterator[dict[int, Database]]:
    with ExitStack() as stack:
        opened = {}
        for size, home in homes.items():
            opened[size] = open_database(home)
            stack.callback(opened[size].close)
        yield opened


def _page(db: Database, **asked: str) -> float:
    """Seconds to the HTML of a page of the Library."""
    query = urlencode({"tab": "images", **asked})
    return median(seconds_of(lambda: frame.html(Services(db), query, 0)) for _ in range(PAGES))


def _votes(voters: Sequence[Voter]) -> float:
    """Seconds of a vote, by one annotator after the other."""
    taken = []
    for number in range(VOTES):
        voter = voters[number % len(voters)]
        voter.open()
        taken.append(seconds_of(voter.vote))
    return median(taken)


def _at_once(voters: Sequence[Voter], threads: ThreadPoolExecutor) -> float:
    """Seconds until all have an answer who vote at the same moment; the page takes them one at a time."""
    for voter in voters:
        voter.open()
    one_at_a_time, start = threading.Lock(), threading.Barrier(len(voters) + 1)

    def vote(voter: Voter) -> None:
        start.wait()
        with rate.a_turn(one_at_a_time):
            voter.vote()

    asked = [threads.submit(vote, voter) for voter in voters]

    def answers() -> None:
        start.wait()
        for one in asked:
            one.result()

    return seconds_of(answers)


@contextmanager
def _by_library(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    with tempfile.TemporaryDirectory() as folder:
        homes = _libraries(Path(folder), sizes)
        with _opened(homes) as dbs:
            second = {size: search.search_images(db, search.Filters()).next for size, db in dbs.items()}
            voters = {size: [Voter(Services(dbs[size]), new_people(homes[size], 1)[0])] for size in sizes}
            yield {
                "a page of the Library": lambda size: _page(dbs[size], before=str(second[size])),
                "a search by two words": lambda size: _page(dbs[size], q=SEARCH),
                "a search that finds nothing": lambda size: _page(dbs[size], q=NOT_THERE),
                "a vote to the next card": lambda size: _votes(voters[size]),
            }


@contextmanager
def _by_annotators(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        _new_home(first)
        _filled(first, rows.GROUP * GROUPS_EACH * max(sizes))
        homes = {size: shutil.copytree(first, Path(folder) / str(size)) for size in sizes}
        with _opened(homes) as dbs, ThreadPoolExecutor(max(sizes)) as threads:
            people = {size: new_people(homes[size], size) for size in sizes}
            voters = {size: [Voter(Services(dbs[size]), who) for who in people[size]] for size in sizes}
            for voter in (one for some in voters.values() for one in some):
                for _ in range(BEFORE):
                    voter.open()
                    voter.vote()
            yield {
                "a vote to the next card, one after the other": lambda size: _votes(voters[size]),
                "all vote at once, until the last has a card": lambda size: _at_once(voters[size], threads),
            }


AXES = (
    Axis(
        "library", f"images, {rows.GROUP} of each open group", (1_000, 3_000, 10_000, 30_000, 100_000),
        (480, 960, 1920), _by_library,
    ),
    Axis("annotators", "annotators", (1, 2, 5, 10, 20, 50), (1, 2, 3), _by_annotators),
)  # fmt: skip
