"""What is asked of the tuned policy: the tasks of the race, each a sampler that the base falls short with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Sampler = tuple[int, float]
"""(steps, guidance)."""
GOAL: Sampler = (16, 3.0)
"""What the base needs to draw its best."""


@dataclass(frozen=True)
class Task:
    """A sampler that is to draw as well as `GOAL` does; prompts are of held-out combinations in any task.

    Attributes:
        name: on the command line and of the folder of its races.
        words: the sampler, as a claim says it.
        sampler: of the rollouts and of the measurements.
        updates: of a race, unless told otherwise.
        entrants: methods that race.
        variants: those of them that a quick race leaves out.
        measured: samplers that a tuned policy is measured in; the base is in all.
    """

    name: str
    words: str
    sampler: Sampler
    updates: int
    entrants: tuple[str, ...]
    variants: tuple[str, ...] = ()
    measured: tuple[str, ...] = ("fast", "guided")

    @property
    def folder(self) -> str:
        """Of its races, below the results of all benchmarks."""
        return "learning" if self is FAST else f"learning/{self.name}"

    @property
    def samplers(self) -> Mapping[str, Sampler]:
        """What the final measurement draws with, by its name in the stored races."""
        return {"fast": self.sampler, "guided": GOAL}


FAST = Task(
    "fast_and_faithful", "8 steps without guidance", (8, 1.0), updates=40,
    entrants=(
        "sft", "ddpo", "published", "ours", "ours_thorough", "guided_kl", "first_steps",
        "first_guided", "first_plain", "nft", "awm",
    ),
    variants=("ours_thorough", "guided_kl", "first_steps", "first_guided", "first_plain"),
)  # fmt: skip
"""No guidance: the base gets attributes wrong, hair colour above all."""
FINE = Task(
    "fine_and_rare", "4 steps without guidance", (4, 1.0), updates=20,
    entrants=("sft", "ddpo", "published", "ours_fine", "nft", "awm"), measured=("fast",),
)  # fmt: skip
"""An eighth of the network evaluations: the base draws badly what is fine, lines and faces, and gets hair
colours wrong too.
"""
TASKS: Mapping[str, Task] = {task.name: task for task in (FAST, FINE)}
