"""A run on the page, in parts that are drawn apart: where it stands, its curves, its log, and the list of all
runs. Plain functions over rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from storage import checkpoints, following, run_queue, run_wishes, runs
from storage.engine import Database
from storage.models import Checkpoint, Run, RunBeat, RunEvent
from ui import run_words
from ui.asking import Question, question_of
from ui.components import render, span
from ui.components.curves import curves_of, lines_of
from ui.components.phases import phases_of
from ui.components.plans import Roles
from ui.language import t
from ui.run_log import log_tail
from ui.run_words import saved_update, state_words, title
from ui.services import Services

MAX_BESIDE = 3
"""Runs whose curves are drawn beside those of the one that is looked at."""
_SHOWN_RUNS = 12
_WARNINGS = ("warning", "alarm")
"""Kinds of run events that the page shows as sentences."""
_NOTED = ("save_done", "sample_done", "extended", "reproduces", "follows")
"""Kinds of run events of which the newest is shown as a note."""
BROKEN = ("failed", "lost")
"""States that show the end of the log."""


@dataclass(frozen=True)
class Looking:
    """What one browser looks at: a run, others beside it, and whether its log is open. Only its own clicks
    change it."""

    run_id: str | None = None
    beside: tuple[str, ...] = ()
    has_log: bool = False

    def with_run(self, run_id: str | None) -> Looking:
        """Another run, alone."""
        return self if run_id == self.run_id else Looking(run_id)

    def toggled(self, other: str) -> Looking:
        """With another run beside, or without it; the newest stay where there are too many."""
        if other in self.beside or other == self.run_id:
            return replace(self, beside=tuple(one for one in self.beside if one != other))
        return replace(self, beside=(*self.beside, other)[-MAX_BESIDE:])


def head_html(services: Services, run: Run | None) -> str:
    """Where a run stands and what can be done, or the empty state."""
    if run is None:
        return render("run.html", run=None)
    db = services.db
    beat = runs.beat_of(db, run.id)
    made = _made(db, run)
    saved = saved_update(made, run.id)
    question = question_of(db, run)
    told = _told(runs.events(db, run.id), question)
    attempts = runs.attempts_of(db, run.id)
    return render(
        "run.html",
        run=run,
        title=title(run),
        note=run_words.note(run, beat, checkpoints.get_checkpoint(db, run.parent_checkpoint_id), saved),
        steps=chain_of(db, run),
        place=run_queue.place_of(db, run.id),
        still=_still(services, run, beat),
        waits=following.why_waiting(db, run.id) or "",
        wishes=run_wishes.wishes_of(db, run.id),
        can_ask=run.state in ("starting", "running") and run.stop_requested_at is None,
        can_stop=run.state in ("queued", "starting", "running", "paused") and run.stop_requested_at is None,
        can_resume=run.state in runs.RESUMABLE,
        has_samples=run.config.get("samples") != 0,
        update=beat.update if beat else 0,
        total=run.config.get("num_updates", 0),
        percent=run_words.percent(run, beat),
        question=question,
        pictures=question.rows(db) if question else [],
        reason="" if question else run_words.ending(run, beat, saved),
        code="" if question else run_words.code_of(run, attempts[-1] if attempts else None),
        recovery=_last(told, ("recovery",)),
        noted=_last(told, _NOTED),
        warnings=_newest(event.detail for event in told if event.kind in _WARNINGS),
        last=made[-1] if made else None,
        more=20,
    )


def _still(services: Services, run: Run, beat: RunBeat | None) -> str:
    """How long a run has made no progress, where that is long; else empty."""
    if run.stalled_at is None or run.state not in runs.ACTIVE:
        return ""
    since = beat.progress_at if beat is not None and beat.progress_at else run.stalled_at
    return span((services.now() - since).total_seconds())


def curves_html(services: Services, run: Run | None, beside: Sequence[str] = ()) -> str:
    """Its curves, and those of other runs over them."""
    if run is None:
        return ""
    lines = lines_of(runs.metrics_since(services.db, run.id, -1))
    others = [found for one in beside if (found := _run(services.db, one))]
    curves = curves_of(
        lines,
        roles_of(run),
        [lines_of(runs.metrics_since(services.db, other.id, -1)) for other in others],
    )
    named = [{"id": other.id, "title": title(other)} for other in others]
    return render(
        "curves.html",
        run=run.id,
        title=title(run),
        **{"with": named},
        names="\n".join([title(run), *(title(other) for other in others)]),
        curves=curves,
        phases=phases_of(lines),
        is_early=not run.reason,
    )


def roles_of(run: Run) -> Roles:
    """What of its settings decides its curves."""
    config = run.config
    return Roles(
        config.get("reward_weights", {}),
        has_held_out=bool(config.get("held_out_prompts")),
        is_guided=bool(config.get("update", {}).get("reference_guidance")),
        gates=config.get("gates", ()),
        monitors=config.get("monitors", ()),
    )


def log_html(services: Services, run: Run | None, *, is_open: bool) -> str:
    """The end of the log where it is open, as it always is once a run broke; else how to open it."""
    if run is None:
        return ""
    is_broken = run.state in BROKEN
    text = log_tail(services.db, run.id) if is_open or is_broken else ""
    return render("log.html", run=run, is_open=is_open, is_broken=is_broken, log=text)


def list_html(services: Services, looking: Looking, shown: str | None = None) -> str:
    """The newest runs, each with its progress; those beside are marked."""
    rows, usable = [], checkpoints.list_checkpoints(services.db)
    for run in runs.list_runs(services.db)[:_SHOWN_RUNS]:
        beat = runs.beat_of(services.db, run.id)
        left = run_words.seconds_left(run, beat)
        words = state_words(run, beat, saved_update(usable, run.id))
        words += f" · {t('train.left', span=span(left))}" if left else ""
        rows.append(
            {
                "id": run.id,
                "title": title(run),
                "words": words,
                "percent": run_words.percent(run, beat),
                "is_beside": run.id in looking.beside,
            }
        )
    return render("runs.html", runs=rows, shown=shown or looking.run_id)


def chain_of(db: Database, run: Run) -> list[dict[str, Any]]:
    """The steps of the recipe that a run belongs to, in their order; empty for a run that stands alone."""
    first, seen = run, {run.id}
    while first.follows_id is not None and first.follows_id not in seen:
        first = runs.get_run(db, first.follows_id)
        seen.add(first.id)
    steps = [first]
    while (after := following.followers_of(db, steps[-1].id)) and after[-1] not in steps:
        wanted = [one for one in after if one.id in seen]
        steps.append(wanted[0] if wanted else after[-1])
    if len(steps) < 2:
        return []
    return [{"run": one, "is_here": one.id == run.id, "name": stage_of(one)} for one in steps]


def stage_of(run: Run) -> str:
    """What a run learns from, as a step of a recipe."""
    if (run.config.get("algorithm") or {}).get("name") == "sft":
        return t("train.stage_images")
    return t("train.stage_ratings") if run.config.get("ratings") else t("train.stage_rewards")


def _made(db: Database, run: Run) -> list[Checkpoint]:
    return [one for one in checkpoints.list_checkpoints(db) if one.run_id == run.id]


def _run(db: Database, run_id: str) -> Run | None:
    try:
        return runs.get_run(db, run_id)
    except LookupError:
        return None


def _last(told: Sequence[RunEvent], kinds: Sequence[str]) -> str:
    return next((event.detail for event in reversed(told) if event.kind in kinds), "")


def _newest(sentences: Iterable[str]) -> list[str]:
    """The last three, each once: an alarm that comes and goes says the same every time."""
    return list(dict.fromkeys(reversed(list(sentences))))[:3][::-1]


def _told(history: Sequence[RunEvent], question: Question | None) -> list[RunEvent]:
    """What happened, without what the question says anyway."""
    return [event for event in history if not question or event.detail not in question.sentence]
