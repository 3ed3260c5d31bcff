"""What the Train page does: check a run, start it, show it, stop it. Plain functions over rows."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flowgrpo.config import DEFAULT_WEIGHTS, RolloutConfig, RunConfig, UpdateConfig
from storage import checkpoints, groups, runs
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, GroupKind, Image, Run, RunBeat, RunEvent
from ui import forms, weights
from ui.asking import Question, question_of
from ui.cards import reward_cards
from ui.components import render, span
from ui.components.curves import curves_of
from ui.components.strip import settings_line
from ui.forms import Refused, RunForm
from ui.preflight import Check, Facts, checks
from ui.services import LOCAL_USER, Services, shown

REWARDS = (*DEFAULT_WEIGHTS, "diversity", "human")
"""Rewards that the form offers, in its order."""
MAX_NAME = 120
LOG_LINES = 40
_LOG_BYTES = 64 * 1024
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SAMPLE_COLUMNS = 10
_SAMPLES: tuple[GroupKind, ...] = ("sample",)
_SHOWN_RUNS = 8
_WARNINGS = ("warning", "alarm")
"""Kinds of run events that the page shows as sentences."""
_BROKEN = ("failed", "lost")
"""States that show the end of the log."""
_LOG_BELOW = "\n\nEnd of the log:"
"""Where the part of a reason that is no sentence begins."""


@dataclass(frozen=True)
class Sample:
    """The sample grid of one update: images with their prompts."""

    update: int
    images: Sequence[tuple[Image, str]]


def preset_form(name: str, db: Database | None = None) -> RunForm:
    """The numbers of a preset; raises `Refused` for a name that is none.

    Args:
        db: where weights that were fitted to votes may be in use; they go before the preset's.
    """
    config = forms.preset_of(name)(("portrait",))
    assert config.lora is not None
    found = None if db is None or "human" in config.reward_weights else weights.fitted(db)
    return RunForm(
        preset=name,
        weights=config.reward_weights if found is None else found.weights,
        num_updates=config.num_updates,
        group_size=config.rollout.group_size,
        groups_per_update=config.rollout.groups_per_update,
        num_steps=config.rollout.num_steps,
        guidance_scale=config.rollout.guidance_scale,
        learning_rate=config.update.learning_rate,
        kl_weight=config.update.kl_weight,
        rank=config.lora.rank,
    )


def is_pooled(preset: str) -> bool:
    """Whether a preset weighs rewards by pooled stds; raises `Refused` for a name that is none."""
    return forms.preset_of(preset)(("portrait",)).advantages.std == "pooled"


def check(services: Services, checkpoint_id: object, form: RunForm) -> tuple[RunConfig, list[Check]]:
    """The config of a run and its preflight list; raises `Refused` when the form itself is wrong."""
    checkpoint = services.checkpoint(checkpoint_id)
    facts = services.base_facts(checkpoint)
    config = forms.check_run(form, width=facts.size, height=facts.size)
    home = services.db.home
    return config, checks(
        config,
        Facts(
            base=checkpoint.name,
            is_starter=facts.is_starter,
            free_bytes=shutil.disk_usage(home).free,
            seconds_per_evaluation=services.seconds_per_evaluation(),
            ahead=[
                title(run)
                for run in reversed(runs.list_runs(services.db))
                if run.state in (*runs.ACTIVE, "queued")
            ],
            checkpoint_is_there=checkpoint.path is None or (home / checkpoint.path).exists(),
            cards=reward_cards(services.db),
        ),
    )


def start(services: Services, checkpoint_id: object, form: RunForm) -> Run:
    """Queues a run; raises `Refused` when the form or a preflight check stands against it."""
    config, found = check(services, checkpoint_id, form)
    against = next((line for line in found if line.level == "bad"), None)
    if against:
        raise Refused(against.text)
    name = form.name.strip() or f"{_main_reward(config)}, {config.num_updates} updates"
    if len(name) > MAX_NAME:
        raise Refused(f"The name has {len(name)} characters; at most {MAX_NAME} are kept, so shorten it.")
    return runs.create_run(
        services.db,
        name=name,
        owner_id=LOCAL_USER,
        parent_checkpoint_id=str(checkpoint_id),
        config=weights.named(services.db, config).model_dump(mode="json"),
    )


def _main_reward(config: RunConfig) -> str:
    return max(config.reward_weights, key=lambda name: abs(config.reward_weights[name]))


def title(run: Run) -> str:
    """ "Run 4 · verifier, 60 updates"."""
    return f"Run {run.number} · {run.name}"


def saved_update(usable: Sequence[Checkpoint], run_id: str) -> int:
    """The newest update of a run among the checkpoints that can be used; 0 when none is there."""
    return max((one.update or 0 for one in usable if one.run_id == run_id), default=0)


def state_words(run: Run, beat: RunBeat | None, saved: int) -> str:
    """Where a run stands, in words; "saved" only of an update that has its checkpoint."""
    if run.state in runs.ACTIVE and run.stop_requested_at is not None:
        return "stopping, saves first"
    if run.state == "queued":
        return "waits for its turn"
    if run.state in ("starting", "running", "stopping") and beat is not None:
        words = beat.phase or run.state
        return f"{words} · update {beat.update} of {beat.num_updates}" if beat.update else words
    if run.state == "lost":
        return "ended without a word"
    if run.state in ("stopped", "paused"):
        return f"{run.state}, saved at update {saved}" if saved else f"{run.state}, nothing saved yet"
    return run.state


def ending(run: Run, beat: RunBeat | None, saved: int) -> str:
    """Why a run is not running, what of it is kept and what to do; empty where nothing needs saying."""
    reason = (run.reason or "").split(_LOG_BELOW)[0].strip()
    if not reason:
        return ""
    said = shown(reason)
    if run.state not in runs.RESUMABLE:
        return said
    update = beat.update if beat else 0
    if not saved:
        return f"{said} No update was saved yet: Resume begins again."
    if saved < update:
        return f"{said} Saved up to update {saved} of the {update} that were made: Resume goes on from there."
    return f"{said} Update {saved} is saved: Resume goes on from there."


def seconds_left(run: Run, beat: RunBeat | None) -> float | None:
    """Seconds until a run is done, by its own pace; None when it is not running or the pace is not known."""
    if run.state != "running" or beat is None or not beat.seconds_per_update:
        return None
    return beat.seconds_per_update * max(0, beat.num_updates - beat.update)


def list_html(services: Services, shown: str | None) -> str:
    """The newest runs, each with its progress."""
    rows, usable = [], checkpoints.list_checkpoints(services.db)
    for run in runs.list_runs(services.db)[:_SHOWN_RUNS]:
        beat = runs.beat_of(services.db, run.id)
        left = seconds_left(run, beat)
        words = state_words(run, beat, saved_update(usable, run.id))
        words += f" · {span(left)} left" if left else ""
        rows.append({"id": run.id, "title": title(run), "words": words, "percent": _percent(run, beat)})
    return render("runs.html", runs=rows, shown=shown)


def _percent(run: Run, beat: RunBeat | None) -> float:
    if run.state == "completed":
        return 100.0
    return round(100 * beat.update / max(1, beat.num_updates), 1) if beat else 0.0


def run_html(services: Services, run_id: str | None) -> str:
    """One run in full, or the empty state."""
    run = find(services, run_id)
    if run is None:
        return render("run.html", run=None)
    db = services.db
    beat = runs.beat_of(db, run.id)
    made = [checkpoint for checkpoint in checkpoints.list_checkpoints(db) if checkpoint.run_id == run.id]
    saved = saved_update(made, run.id)
    parent = checkpoints.get_checkpoint(db, run.parent_checkpoint_id)
    metrics = runs.metrics_since(db, run.id, -1)
    question = question_of(db, run)
    told = _told(runs.events(db, run.id), question)
    return render(
        "run.html",
        run=run,
        title=title(run),
        note=_note(run, beat, parent, saved),
        can_stop=run.state in ("queued", "starting", "running", "paused") and run.stop_requested_at is None,
        can_resume=run.state in runs.RESUMABLE,
        update=beat.update if beat else 0,
        total=run.config.get("num_updates", 0),
        percent=_percent(run, beat),
        question=question,
        pictures=question.rows(db) if question else [],
        reason="" if question else ending(run, beat, saved),
        recovery=next((event.detail for event in reversed(told) if event.kind == "recovery"), ""),
        warnings=_newest(event.detail for event in told if event.kind in _WARNINGS),
        log=log_tail(services, run.id) if run.state in _BROKEN else "",
        curves=curves_of(
            metrics,
            run.config.get("reward_weights", {}),
            has_held_out=bool(run.config.get("held_out_prompts")),
            is_guided=bool(run.config.get("update", {}).get("reference_guidance")),
            gates=run.config.get("gates", ()),
            monitors=run.config.get("monitors", ()),
        ),
        samples=samples_of(services, run.id),
        checkpoints=made,
        parent=parent.name,
        setup=_setup(run.config),
    )


def _newest(sentences: Iterable[str]) -> list[str]:
    """The last three, each once: an alarm that comes and goes says the same every time."""
    return list(dict.fromkeys(reversed(list(sentences))))[:3][::-1]


def _told(history: Sequence[RunEvent], question: Question | None) -> list[RunEvent]:
    """What happened, without what the question says anyway."""
    return [event for event in history if not question or event.detail not in question.sentence]


def find(services: Services, run_id: object) -> Run | None:
    """A run by id; the newest one when there is no id; None when there is none."""
    if isinstance(run_id, str) and run_id:
        try:
            return runs.get_run(services.db, run_id)
        except LookupError:
            return None
    return next(iter(runs.list_runs(services.db)), None)


def _note(run: Run, beat: RunBeat | None, parent: Checkpoint, saved: int) -> str:
    parts = [f"from {parent.name}", state_words(run, beat, saved)]
    if beat is not None and beat.seconds_per_update:
        parts.append(f"{span(beat.seconds_per_update)} an update")
    left = seconds_left(run, beat)
    return " · ".join([*parts, *([f"{span(left)} left"] if left else [])])


def samples_of(services: Services, run_id: str) -> list[Sample]:
    """The sample grids of a run by update, oldest first, at most ten of them spread over the run."""
    views = groups.recent_groups(services.db, kinds=_SAMPLES, limit=1000, run_id=run_id)
    by_update: dict[int, list[GroupView]] = {}
    for view in reversed(views):
        if view.group.update is not None and view.images:
            by_update.setdefault(view.group.update, []).append(view)
    samples = [
        Sample(update, [(image.image, view.group.prompt) for view in found for image in view.images])
        for update, found in sorted(by_update.items())
    ]
    return thinned(samples)


def thinned(samples: list[Sample]) -> list[Sample]:
    """First and last always, the others evenly."""
    if len(samples) <= _SAMPLE_COLUMNS:
        return samples
    step = (len(samples) - 1) / (_SAMPLE_COLUMNS - 1)
    return [samples[round(index * step)] for index in range(_SAMPLE_COLUMNS)]


def log_tail(services: Services, run_id: str) -> str:
    """The last lines of a run's log as plain text; empty when there is none."""
    path = services.db.home / "runs" / run_id / "log.txt"
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    written = _ANSI.sub("", text).replace("\r\n", "\n").rstrip("\n").split("\n")[-LOG_LINES:]
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in written]
    return "\n".join("".join(char for char in line if char.isprintable() or char == "\t") for line in lines)


def _setup(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """What a run does, for people who want to know exactly."""
    read = RunConfig.model_validate(config)
    rollout = read.rollout
    size = f"{rollout.groups_per_update} groups of {rollout.group_size}"
    return [
        ("rewards", ", ".join(f"{name} {weight:g}" for name, weight in read.reward_weights.items())),
        *([("judges", ", ".join(read.judges))] if read.judges else []),
        *([("wanted images", read.references)] if read.references else []),
        ("prompts", f"{len(read.prompts)}, and {len(read.held_out_prompts)} held out"),
        ("rollout", f"{size} · {settings_line(rollout.model_dump())}"),
        ("algorithm", read.algorithm.name),
        ("trained steps", _trained(rollout)),
        ("learning rate", f"{read.update.learning_rate:g}{_pace(read.update)}"),
        ("KL weight", f"{read.update.kl_weight:g}{_held(read.update)}"),
        *([("sample it", "without guidance, which it learns")] if read.update.reference_guidance else []),
        ("learns", f"LoRA of rank {read.lora.rank}" if read.lora else "all weights"),
        ("seed", str(read.seed)),
    ]


_WINDOWS = {
    "early_random": "drawn from the first half",
    "first": "the first ones",
    "random": "drawn from all",
    "progressive": "moving on as the run goes",
}


def _trained(rollout: RolloutConfig) -> str:
    if rollout.window in ("all", "none"):
        return {"all": f"all {rollout.num_steps} but the last", "none": "none: final images"}[rollout.window]
    return f"{rollout.window_size} of {rollout.num_steps}, {_WINDOWS[rollout.window]}"


def _pace(update: UpdateConfig) -> str:
    falling = ", falling to 0" if update.decay == "linear" else ""
    return falling + (f", in {update.minibatches} minibatches" if update.minibatches > 1 else "")


def _held(update: UpdateConfig) -> str:
    guided = f", to the base at guidance {update.reference_guidance:g}" if update.reference_guidance else ""
    return guided + (f", at {update.kl_steps} of the other steps too" if update.kl_steps else "")
