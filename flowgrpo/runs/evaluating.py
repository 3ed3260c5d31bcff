"""The job "evaluate": checkpoints x prompts x seeds, drawn once, measured once, told with intervals.

What is asked stands in `Request`; the result is a table as JSON (`flowgrpo/runs/evaluation_result.py`), and
files of it in the job's folder. What was drawn and measured before a cancel or a kill is found again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import Field, ValidationError

from flowgrpo.config import Prompt, SamplingConfig
from flowgrpo.metrics.distributions import Reference
from flowgrpo.metrics.table import Model, Table, tabulate
from flowgrpo.rewards.base import Reward
from flowgrpo.rewards.cache import image_hash
from flowgrpo.runs import layout, references
from flowgrpo.runs.evaluation_images import Drawer, Entry, Pictures
from flowgrpo.runs.evaluation_report import write_files
from flowgrpo.runs.evaluation_result import figures_of, result_of
from flowgrpo.runs.instruments import PREFERENCE, applied_head, load_instruments, load_judge, metric_of
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.measuring import Measuring
from flowgrpo.runs.references import References
from flowgrpo.runs.samples import STARTER
from flowgrpo.starter.features import FEATURES
from flowgrpo.starter.vocabulary import parse_prompt
from flowgrpo.strict import Config
from storage import checkpoints, lineage, prompts, snapshots
from storage.evaluations import record_figures

NO_REFERENCE: Final = "the base is not the starter, and no folder of references was named"
HeadOf = Callable[[Bench], Reward | None]
"""The preference head that is in use now; None where none is."""


class Request(Config):
    """What is asked; the payload of the job."""

    checkpoints: tuple[str, ...] = Field(min_length=1, max_length=16)
    """Ids; the others are held against the first."""
    prompts: tuple[Prompt, ...] = ()
    """Verbatim; none where a set is named."""
    prompt_set: str | None = None
    """Id of a prompt set, whose held-out prompts are taken."""
    seeds: tuple[int, ...] = Field(min_length=1, max_length=64)
    """The same for every prompt and checkpoint."""
    config: SamplingConfig = SamplingConfig()
    """How images are drawn."""
    steps: tuple[int, ...] = ()
    """A sweep: every checkpoint at each of these numbers of steps. What the others are held against is the
    first checkpoint at the config's own number where it is among them, else at the highest."""
    metrics: tuple[str, ...] | None = None
    """Names to show; None shows the usual ones."""
    allow_small_fid: bool = False
    """Whether FID, precision and recall are shown for fewer images than they are honest for, with a label."""
    references: str | None = None
    """A folder of images that all should look like; for the starter its own held-out renders by default."""
    num_references: int = Field(1024, ge=2, le=50_000)
    """Renders of the starter to compare with."""


def evaluate(bench: Bench, head_of: HeadOf = applied_head) -> dict[str, Any]:
    """Does the job; returns its result.

    Raises what `Bench.tick` raises, and ValueError or LookupError with a sentence for who asked.
    """
    return _Evaluation(bench, checked(bench.job.payload), head_of).run()


def checked(payload: dict[str, Any]) -> Request:
    """The payload as it is meant; ValueError with one sentence when it cannot be used."""
    try:
        request = Request.model_validate(payload)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the evaluation"
        raise ValueError(f"{where} cannot be used: {first['msg']}, got {str(first['input'])[:80]}") from error
    if bool(request.prompts) == bool(request.prompt_set):
        raise ValueError("an evaluation needs prompts or a prompt set, one of them: name one")
    if request.metrics is not None:
        metrics = tuple(dict.fromkeys(metric_of(name) for name in request.metrics))
        request = request.model_copy(update={"metrics": metrics})
    return request


@dataclass
class _Drawn:
    """Entries with their images; and those that could not be drawn, by name, with the reason."""

    entries: list[Entry]
    pictures: list[Pictures]
    failed: dict[str, str]


class _Evaluation:
    """One job."""

    def __init__(self, bench: Bench, request: Request, head_of: HeadOf) -> None:
        self.bench, self.request, self.head_of = bench, request, head_of
        self.rows = [checkpoints.get_checkpoint(bench.db, one) for one in request.checkpoints]
        self.base = checkpoints.base_of(bench.db, self.rows[0])
        self.prompts = _prompts_of(bench, request)
        self.absent: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        drawn = self._draw()
        table, measuring, refs = self._measure(drawn)
        result = result_of(
            (drawn.entries, drawn.pictures), table, self.prompts, self.request.seeds, base=self.base.name,
            absent=self._reasons(table, measuring), failed=drawn.failed, references=refs.words,
        )  # fmt: skip
        result["trained_on"] = self._trained_on(drawn, table)
        record_figures(self.bench.db, figures_of(result), self.bench.job.id)
        result["files"] = write_files(result, layout.evaluation_folder(self.bench.db.home, self.bench.job.id))
        return result

    def _draw(self) -> _Drawn:
        entries = _entries(self.rows, self.request)
        drawer = Drawer(self.bench, self.prompts, self.request.seeds, len(entries))
        drawn = _Drawn([], [], {})
        for entry in entries:
            try:
                drawn.pictures.append(drawer.pictures(entry))
                drawn.entries.append(entry)
            except (ValueError, LookupError) as error:
                if not drawn.entries:
                    raise  # there is nothing to hold the others against
                drawn.failed[entry.name] = str(error)
        return drawn

    def _measure(self, drawn: _Drawn) -> tuple[Table, Measuring, References]:
        measuring = self._instruments(sum(map(len, drawn.pictures)))
        refs = self._references()
        first = drawn.pictures[0]
        models: list[Model] = [
            measuring.model(one, None if one is first else first, refs.meant) for one in drawn.pictures
        ]
        measuring.done = measuring.total
        if not any(model.columns or model.features is not None for model in models):
            why = "; ".join(f"{name}: {reason}" for name, reason in self.absent.items())
            raise ValueError(f"none of the metrics can be had here ({why})")
        reference = None
        if refs.images is not None and any(model.features is not None for model in models):
            features = measuring.features([image_hash(one) for one in refs.images], _rows_of(refs.images))
            reference = Reference(features, FEATURES, self.request.allow_small_fid)
        self.bench.tick("drawing the prompts again", measuring.total, measuring.total)
        wanted = self.request.metrics
        return tabulate(models, reference, wanted, without_reference=refs.reason), measuring, refs

    def _references(self) -> References:
        """The folder that was named; else the starter's renders; else none."""
        config, tick = self.request.config, self.bench.tick
        size = (config.width, config.height)
        if self.request.references is not None:
            return references.of_folder(Path(self.request.references), self.prompts, size, tick)
        if self.base.name != STARTER:
            return References(None, reason=NO_REFERENCE)
        home = self.bench.db.home
        return references.of_starter(home, self.prompts, size, self.request.num_references, tick)

    def _instruments(self, num_images: int) -> Measuring:
        wanted = self.request.metrics
        loaded = load_instruments(self.bench, wanted, self.head_of)
        self.absent |= loaded.absent
        judge = None
        if self.base.name != STARTER or not any(map(parse_prompt, self.prompts)):
            self.absent["judge"] = "the judge knows prompts of the starter's words alone, drawn by its base"
        elif wanted is None or "judge" in wanted:
            judge = load_judge(self.bench, self.absent)
        return Measuring(
            self.bench, self.prompts, len(self.request.seeds), loaded.stack, judge,
            wanted=wanted, lpips=loaded.lpips, total=num_images,
        )  # fmt: skip

    def _trained_on(self, drawn: _Drawn, table: Table) -> dict[str, str]:
        """Which of the prompts taught a checkpoint, by its id; and which the head behind `preference`."""
        found = lineage.trained_on(self.bench.db, [one.checkpoint.id for one in drawn.entries], self.prompts)
        fit = snapshots.applied_fit(self.bench.db, "head")
        is_shown = any(PREFERENCE in row and row[PREFERENCE].num_images for row in table.rows)
        known = lineage.taught_by(self.bench.db, fit.snapshot_id, self.prompts) if fit and is_shown else 0
        if known:
            found[PREFERENCE] = (
                f"The preference head learned from ratings of {known} of {len(self.prompts)} prompts: there "
                "it knows what people said."
            )
        return found

    def _reasons(self, table: Table, measuring: Measuring) -> dict[str, str]:
        """Why metrics are not in the table, or have no number there."""
        absent = {**self.absent, **table.absent}
        for name, why in measuring.reasons.items():
            if not any(name in row and row[name].num_images for row in table.rows):
                absent[name] = why
        wanted = self.request.metrics
        return {name: why for name, why in absent.items() if wanted is None or name in wanted}


def _rows_of(images: torch.Tensor) -> Callable[[Sequence[int]], torch.Tensor]:
    return lambda indices: images[list(indices)]


def _entries(rows: Sequence[Any], request: Request) -> list[Entry]:
    """Every checkpoint at each number of steps, what the others are held against first."""
    own = request.config.num_steps
    steps = sorted(set(request.steps)) or [own]
    first = own if own in steps else steps[-1]
    configs = [request.config.model_copy(update={"num_steps": one}) for one in steps]
    entries = [Entry(row, config) for row in rows for config in configs]
    return sorted(entries, key=lambda one: (one.checkpoint.id != rows[0].id, one.config.num_steps != first))


def _prompts_of(bench: Bench, request: Request) -> list[str]:
    if request.prompt_set is None:
        return list(request.prompts)
    found = [row.text for row in prompts.prompts_of(bench.db, request.prompt_set, "held_out")]
    if not found:
        raise ValueError("the prompt set has no held-out prompts: add some, or name prompts one by one")
    return list(dict.fromkeys(found))
