"""A simulated person at the public API: asks for groups, rates them, starts runs, judges blind pairs."""

from __future__ import annotations

import io
import random
import time
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import torch
from gradio_client import Client
from PIL import Image
from torch import Tensor

from benchmarks.ratings_to_win.tastes import TIE, Taste

POLL_SECONDS = 1.0
GROUP_SIZE, NUM_STEPS, GUIDANCE = 8, 8, 1.0
"""How images are made throughout: by the fast sampler, as the runs learn and as the result is used."""
PER_COMPARE = 24
"""Prompts that one call of `compare` takes."""
Json = dict[str, Any]


class Meter:
    """Processor seconds of the processes that work in a data folder.

    Looked at often: a process that has ended tells no more.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self._seen: dict[tuple[int, float], float] = {}

    def look(self) -> float:
        """Seconds so far, all processes together."""
        for process in psutil.process_iter(["pid", "create_time", "cmdline", "cpu_times"]):
            facts = process.info
            line, times = " ".join(facts["cmdline"] or []), facts["cpu_times"]
            is_engine = "flowgrpo.runs" in line and self.home in line
            if is_engine and times is not None:
                self._seen[facts["pid"], facts["create_time"]] = times.user + times.system
        return sum(self._seen.values())


class Person:
    """Someone with a taste, before a studio.

    Attributes:
        groups: rated or skipped so far.
        comparisons: implied by the choices made.
    """

    def __init__(self, url: str, taste: Taste, meter: Meter, seed: int, spread: float | None = None) -> None:
        self.url, self.taste, self.meter = url, taste, meter
        self.client = Client(url, verbose=False)
        self.rng = random.Random(f"{taste.name} {seed}")
        self.spread = spread
        self.groups = self.skipped = self.comparisons = 0

    def ask(self, name: str, **fields: Any) -> Any:
        """One call of the public API."""
        return self.client.predict(api_name=f"/{name}", **fields)

    def wait(self, state: Callable[[], bool]) -> None:
        """Until something is so, with an eye on the meter."""
        while not state():
            self.meter.look()
            time.sleep(POLL_SECONDS)
        self.meter.look()

    def picture(self, url: str) -> Tensor:
        """An image as the page shows it."""
        with urllib.request.urlopen(self.url + url, timeout=60) as answer:
            pixels = np.array(Image.open(io.BytesIO(answer.read())).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def pictures(self, urls: list[str]) -> Tensor:
        """Several of one size."""
        with ThreadPoolExecutor(4) as pool:
            return torch.stack(list(pool.map(self.picture, urls)))

    def generate(self, prompts: list[str], checkpoint: str) -> None:
        """Has a group drawn for each prompt."""
        asked = [
            self.ask(
                "generate_group", prompt=prompt, checkpoint=checkpoint, group_size=GROUP_SIZE,
                num_steps=NUM_STEPS, guidance_scale=GUIDANCE,
            )["id"]
            for prompt in prompts
        ]  # fmt: skip
        self.wait(lambda: all(self._is_done(group) for group in asked))

    def _is_done(self, group: str) -> bool:
        found = self.ask("get_group", group_id=group)
        if found["state"] in ("failed", "canceled"):
            raise RuntimeError(f"a group could not be drawn: {found['reason']}")
        return bool(found["state"] == "done")

    def rate_all(self) -> None:
        """Rates every group that the studio offers: the best one, or a skip."""
        task = self.ask("next_task")
        while task:
            answer: Json = {"group_id": task["id"], "client_key": uuid.uuid4().hex}
            self.groups += 1
            if self.rng.random() < self.taste.skips:
                self.skipped += 1
                task = self.ask("rate", skip=True, **answer)
                continue
            liked = self.taste.score(self.pictures([image["url"] for image in task["images"]]))
            best = int(liked.argmax())
            if self.rng.random() < self.taste.noise:
                best = self.rng.randrange(len(liked))
            self.comparisons += len(liked) - 1
            task = self.ask("rate", best=task["images"][best]["id"], **answer)

    def tune(self, checkpoint: str, prompts: list[str], held_out: list[str], num_updates: int) -> str:
        """A run of the preset "your taste"; returns its checkpoint."""
        return self._learned(self.ask(
            "start_run", checkpoint=checkpoint, prompts=prompts, held_out=held_out, preset="your taste",
            num_updates=num_updates,
        )["id"])  # fmt: skip

    def tune_from_ratings(self, checkpoint: str, algorithm: str, num_updates: int) -> str:
        """A run from the rated groups alone; returns its checkpoint."""
        return self._learned(self.ask(
            "learn_from_ratings", checkpoint=checkpoint, algorithm=algorithm, num_updates=num_updates
        )["id"])  # fmt: skip

    def _learned(self, run: str) -> str:
        self.wait(
            lambda: self.ask("get_run", run_id=run)["state"] in ("completed", "failed", "paused", "lost")
        )
        found = self.ask("get_run", run_id=run)
        if found["state"] != "completed":
            raise RuntimeError(f"the run ended as {found['state']}: {found['reason']}")
        return str(found["checkpoints"][-1]["id"])

    def side_by_side(self, checkpoints: list[str], prompts: list[str], images: int) -> list[list[Tensor]]:
        """Has both checkpoints drawn at the same prompts and seeds; their images by checkpoint and prompt."""
        drawn: list[list[Tensor]] = [[] for _ in checkpoints]
        for start in range(0, len(prompts), PER_COMPARE):
            fields: Json = {
                "checkpoint_ids": checkpoints, "prompts": prompts[start : start + PER_COMPARE],
                "images": images, "num_steps": NUM_STEPS, "guidance_scale": GUIDANCE,
            }  # fmt: skip
            self.ask("compare", generate=True, **fields)
            self.wait(lambda fields=fields: _is_drawn(self.ask("compare", **fields)))  # type: ignore[misc]
            for block in self.ask("compare", **fields)["groups"]:
                for place, group in enumerate(block):
                    drawn[place].append(self.pictures([image["url"] for image in group["images"]]))
        return drawn

    def judge_blind(self, checkpoints: list[str], prompts: list[str], images: int) -> Json:
        """A blind test of two checkpoints, every pair judged by the taste; the second one's win rate."""
        made = self.ask(
            "start_blind_test", checkpoint_ids=checkpoints, prompts=prompts, images=images,
            num_steps=NUM_STEPS, guidance_scale=GUIDANCE,
        )["id"]  # fmt: skip
        pair, ties, total = self.ask("next_pair", test_id=made), 0, 0
        while pair:
            left, right = self.taste.score(self.pictures([pair["left"], pair["right"]])).tolist()
            assert self.spread is not None
            is_tie = abs(left - right) < TIE * self.spread
            answer = "tie" if is_tie else "left" if left > right else "right"
            ties, total = ties + is_tie, total + 1
            pair = self.ask("vote_pair", pair_id=pair["pair"], client_key=uuid.uuid4().hex, answer=answer)
        self.ask("blind_results", test_id=made, reveal=True)
        self.wait(lambda: self.ask("blind_results", test_id=made)["job"]["state"] in ("done", "failed"))
        board = self.ask("blind_results", test_id=made)["job"]["result"]
        (ours,) = [one for one in board["entries"] if one["checkpoint"] == checkpoints[1]]
        return {"win": ours["win_rate"], "ties": ties / total, "votes": total}


def _is_drawn(grid: Json) -> bool:
    groups = [group for block in grid["groups"] for group in block]
    return grid["missing"] == 0 and all(group and group["state"] == "done" for group in groups)
