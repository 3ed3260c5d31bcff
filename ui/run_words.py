"""What is said of a run: where it stands, how long it takes, why it ended, what it does. Pure functions of
rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowgrpo.config import RolloutConfig, RunConfig, UpdateConfig
from storage import runs
from storage.models import Checkpoint, Run, RunAttempt, RunBeat
from ui.components import span
from ui.components.strip import settings_line
from ui.language import t
from ui.services import shown

_LOG_BELOW = "\n\nEnd of the log:"
"""Where the part of a reason that is no sentence begins."""
_CODES: Mapping[int, str] = {
    64: "E-SETTINGS",
    65: "E-DATABASE-VERSION",
    69: "E-NO-DEVICE",
    74: "E-DISK-FULL",
    76: "E-NOT-FINITE",
    77: "E-GPU-OOM",
    78: "E-REWARDS",
}
"""Exit code of a trainer (flowgrpo/runs/exits.py) to the code that a person can look for."""


def title(run: Run) -> str:
    """ "Run 4 · verifier, 60 updates"."""
    return f"{t('train.run', number=run.number)} · {run.name}"


def saved_update(usable: Sequence[Checkpoint], run_id: str) -> int:
    """The newest update of a run among the checkpoints that can be used; 0 when none is there."""
    return max((one.update or 0 for one in usable if one.run_id == run_id), default=0)


def state_words(run: Run, beat: RunBeat | None, saved: int) -> str:
    """Where a run stands, in words; "saved" only of an update that has its checkpoint."""
    if run.state in runs.ACTIVE and run.stop_requested_at is not None:
        return t("train.is_stopping")
    if run.state == "queued":
        return t("train.is_queued")
    if run.state in ("starting", "running", "stopping") and beat is not None:
        words = beat.phase or t(f"train.is_{run.state}")
        done = t("train.update_of", update=beat.update, total=beat.num_updates)
        return f"{words} · {done}" if beat.update else words
    if run.state in ("stopped", "paused"):
        kept = t("train.saved_at", update=saved) if saved else t("train.nothing_saved")
        return f"{t(f'train.is_{run.state}')}, {kept}"
    return t(f"train.is_{run.state}")


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
        return f"{said} {t('train.kept_nothing')}"
    if saved < update:
        return f"{said} {t('train.kept_some', saved=saved, update=update)}"
    return f"{said} {t('train.kept_all', saved=saved)}"


def code_of(run: Run, attempt: RunAttempt | None) -> str:
    """The stable code of what ended the last start of a run; empty where nothing went wrong."""
    if run.state == "lost":
        return "E-INTERRUPTED"
    if run.state not in ("failed", "paused") or attempt is None:
        return ""
    if attempt.signal is not None:
        return "E-KILLED"
    return _CODES.get(attempt.exit_code or 0, "")


def seconds_left(run: Run, beat: RunBeat | None) -> float | None:
    """Seconds until a run is done, by its own pace; None when it is not running, stands still, or the pace is
    not known."""
    if run.state != "running" or run.stalled_at is not None or beat is None or not beat.seconds_per_update:
        return None
    return beat.seconds_per_update * max(0, beat.num_updates - beat.update)


def percent(run: Run, beat: RunBeat | None) -> float:
    """How much of a run is done."""
    if run.state == "completed":
        return 100.0
    return round(100 * beat.update / max(1, beat.num_updates), 1) if beat else 0.0


def note(run: Run, beat: RunBeat | None, parent: Checkpoint, saved: int) -> str:
    """The line beside the title: from where, its state, its pace and the time left."""
    parts = [t("train.from", name=parent.name), state_words(run, beat, saved)]
    if beat is not None and beat.seconds_per_update:
        parts.append(t("train.pace", span=span(beat.seconds_per_update)))
    left = seconds_left(run, beat)
    return " · ".join([*parts, *([t("train.left", span=span(left))] if left else [])])


def setup(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """What a run does, for people who want to know exactly."""
    read = RunConfig.model_validate(config)
    folder = getattr(read.algorithm, "folder", "")
    if folder:
        return [("images", folder), ("algorithm", read.algorithm.name), *_update_lines(read)]
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
        *_update_lines(read),
    ]


def _update_lines(read: RunConfig) -> list[tuple[str, str]]:
    return [
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
