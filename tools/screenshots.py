"""Takes the pictures of the guide: every page of a studio where people have worked, light and dark, on a desk
and on a phone.

    python -m tools.screenshots [--out docs/guide/pictures] [--home FOLDER]

A real studio on the starter: groups are drawn, a simulated person with a taste rates them, a run learns from
the ratings, another from rewards, checkpoints are compared and judged blind. Some eight minutes on two cores.
With --home the folder of an earlier call is shown again instead.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from PIL import Image
from playwright.sync_api import Browser

from benchmarks.browser import chromium
from benchmarks.common import studio
from benchmarks.ratings_to_win import people
from benchmarks.ratings_to_win.people import Meter, Person
from benchmarks.ratings_to_win.tastes import Judge, Taste, tastes
from flowgrpo.runs.worker import WEIGHTS
from storage import blind, checkpoints, groups, rating_rules, ratings, users
from storage.engine import Database, open_database
from storage.models import GroupKind
from storage.ratings import RatingInput
from storage.types import new_id
from ui import rate_prefs
from ui.defaults import taste_prompts

TASTE = "busy over plain"
GROUPS, RATED_UPDATES, REWARD_UPDATES = 16, 40, 6
SAME = 0.75
"""How often the colleagues choose the same image, chance aside."""
SHOWN = 6
"""Prompts in the picture of Compare."""
DESK, PHONE = (1440, 900), (390, 844)
SETTLE_MS = 2500
"""What load handlers, timers and images need."""
COUNT_MS = 20_000
"""What the engine needs to start and to count votes."""
PAGES = {
    "studio": "/?group={group}",
    "rate": "/rate?group={group}",
    "compare": "/compare?checkpoints={base},{tuned}&images=2&prompts={prompts}",
    "compare_blind": "/compare?tab=blind&test={test}",
    "compare_leaderboard": "/compare?tab=leaderboard",
    "compare_evaluations": "/compare?tab=evaluations&job={evaluation}",
    "train": "/train?run={run}",
    "train_ratings": "/train?run={learned}",
    "library": "/library?tab=images",
    "library_prompts": "/library?tab=prompts",
    "library_checkpoints": "/library?tab=checkpoints",
    "library_rewards": "/library?tab=rewards",
    "team": "/team",
    "team_quality": "/team?tab=quality",
}
STORY = "story.json"
"""Beside the data folder: the ids that the addresses name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/guide/pictures"))
    parser.add_argument("--home", type=Path, help="A folder that is kept, and shown again where it is full.")
    parser.add_argument("--only", nargs="*", default=list(PAGES), choices=list(PAGES))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder) / "home"
        with studio(home) as server:
            kept = home.with_name(STORY)
            ids = json.loads(kept.read_text()) if kept.exists() else lived(server.url, home)
            kept.write_text(json.dumps(ids))
            given.out.mkdir(parents=True, exist_ok=True)
            for path in take(server.url, ids, given.only, given.out):
                print(path)


def lived(url: str, home: Path) -> dict[str, str]:
    """Works in a new studio as people would; gives the ids of what came of it."""
    judge = Judge(WEIGHTS)
    (taste,) = [one for one in tastes(judge) if one.name == TASTE]
    person = Person(url, taste, Meter(str(home)), seed=0)
    db = open_database(home)
    for name, role in (("Aiko", "annotator"), ("Ben", "annotator"), ("Chiara", "trainer")):
        users.add_user(db, name, role)  # type: ignore[arg-type]
    train, held_out = taste_prompts()
    base = str(person.ask("list_checkpoints")[0]["id"])
    person.generate(list(train[:GROUPS]), base)
    person.rate_all()
    tuned = person.tune_from_ratings(base, "nft", RATED_UPDATES)
    rewarded = person.ask(
        "start_run",
        checkpoint=base,
        prompts=list(train),
        held_out=list(held_out[:8]),
        num_updates=REWARD_UPDATES,
    )["id"]
    person.wait(lambda: person.ask("get_run", run_id=rewarded)["state"] in ("completed", "paused", "failed"))
    ids = {"base": base, "tuned": tuned, "run": str(rewarded)} | _compared(
        person, taste, [base, tuned], held_out
    )
    _others_rate(db)
    rules = rating_rules.get_rules(db)
    users.prefer(db, users.LOCAL, guidelines_read=rate_prefs.digest(rules.guidelines))
    test = next(one for one in blind.list_tests(db) if one.revealed_at)
    learned = checkpoints.get_checkpoint(db, tuned).run_id
    db.close()
    return ids | {"test": test.id, "learned": str(learned)}


def _compared(person: Person, taste: Taste, both: list[str], held_out: tuple[str, ...]) -> dict[str, str]:
    """Looks at both checkpoints, judges them blind, and draws a last group with the tuned one."""
    drawn = [torch.cat(images) for images in person.side_by_side(both, list(held_out), 2)]
    person.spread = taste.score(drawn[0]).std().item()
    person.judge_blind(both, list(held_out), 2)
    fresh = person.ask(
        "generate_group", prompt="portrait, red hair, smile", checkpoint=both[1], group_size=8,
        num_steps=people.NUM_STEPS, guidance_scale=people.GUIDANCE,
    )["id"]  # fmt: skip
    person.wait(lambda: bool(person.ask("get_group", group_id=fresh)["state"] == "done"))
    measured = person.ask(
        "evaluate", checkpoint_ids=both, prompts=list(held_out), seeds="7-10",
        num_steps=people.NUM_STEPS, guidance_scale=people.GUIDANCE,
    )["id"]  # fmt: skip
    person.wait(lambda: person.ask("get_evaluation", job_id=measured)["state"] in ("done", "failed"))
    return {"group": str(fresh), "evaluation": str(measured)}


def _others_rate(db: Database) -> None:
    """Two colleagues judge most of the same groups, and mostly say the same."""
    rng = random.Random(0)
    kinds: tuple[GroupKind, ...] = ("studio",)
    views = groups.recent_groups(db, kinds=kinds, limit=GROUPS)
    for person in (one for one in users.list_users(db) if one.role == "annotator"):
        for view in views[: GROUPS - 2]:
            ours = ratings.current_ratings(db, view.group.id, users.LOCAL).best
            if ours is None:
                continue
            best = ours if rng.random() < SAME else rng.choice(view.images).image.id
            said = RatingInput(
                new_id(), person.id, view.group.id, "best", best, lead_ms=rng.randint(2500, 9000)
            )
            ratings.submit(db, person.id, view.group.id, [said])


def take(url: str, ids: dict[str, str], only: list[str], out: Path) -> list[Path]:
    """One picture a page, shade and size."""
    shown = quote("\n".join(taste_prompts()[1][:SHOWN]))
    addresses = {name: url + PAGES[name].format(**ids, prompts=shown) for name in only}
    with chromium() as browser:
        _counted(browser, list(addresses.values()))
        return [
            _picture(browser, addresses[name], name, shade, size, out)
            for name in only
            for shade in ("light", "dark")
            for size in (DESK, PHONE)
        ]


def _counted(browser: Browser, addresses: list[str]) -> None:
    """Looks at each page once: those that show counts ask the engine for them, and it is given the time."""
    page = browser.new_page()
    for address in addresses:
        page.goto(address)
        page.wait_for_timeout(SETTLE_MS)
    page.wait_for_timeout(COUNT_MS)
    page.close()


def _picture(browser: Browser, url: str, name: str, shade: Any, size: tuple[int, int], out: Path) -> Path:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=shade)
    page.goto(url)
    page.wait_for_selector(".topbar nav a[aria-current]")
    page.wait_for_timeout(SETTLE_MS)
    path = out / f"{name}_{shade}{'_phone' if size == PHONE else ''}.webp"
    Image.open(io.BytesIO(page.screenshot())).save(path, "WEBP", quality=82, method=6)
    page.close()
    return path


if __name__ == "__main__":
    main()
