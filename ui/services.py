"""What pages and the API may do, as plain functions over rows: check, write an intent, read what came of
it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage import checkpoints, groups, quotas, run_wishes, runs, users, workers
from storage.engine import Database
from storage.errors import NotSavedError
from storage.groups import GroupView
from storage.masking import mask
from storage.models import Checkpoint, ImageGroup, Run, RunBeat, WorkerBeat
from ui import forms
from ui.components import span, strip
from ui.forms import GroupForm, GroupRequest, Refused
from ui.language import t

LOCAL_USER = users.LOCAL
"""Who does what no browser asked for."""
DEFAULT_FACTOR = 8
"""Pixels per latent cell of every SD-family VAE whose folder cannot be read from here."""
_USUAL_SIZES = {"sd15": 512}
"""Pixels that a family's models were trained at; 1024 for all others."""
RECENT = 12
_BEAT_IS_OLD = timedelta(seconds=20)
_DEATH_IS_OLD = timedelta(minutes=2)
"""Longer than the pause before a dead worker is started again: a death that is older was overcome."""
_HISTORY = 24
"""Finished groups that an estimate of time looks back on."""


@dataclass(frozen=True)
class BaseFacts:
    """What a form must know of a base.

    Attributes:
        name: the base's name.
        factor: pixels per latent cell; sizes are multiples of it.
        size: width and height that the base was trained at, pixels.
        is_starter: whether the starter's vocabulary describes it.
    """

    name: str
    factor: int
    size: int
    is_starter: bool


@dataclass(frozen=True)
class EngineStatus:
    """The engine for the top bar; `tone` is on, attention or empty, `trouble` a sentence or empty, `alerts`
    what waits for a person, each with the page where it is answered."""

    words: str
    tone: str
    link: str = "/"
    trouble: str = ""
    alerts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Services:
    """Everything a page may call. Holds the database and nothing that changes."""

    db: Database
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    # Checkpoints

    def choices(self) -> list[tuple[str, str]]:
        """(name, id) of every checkpoint that can be used, newest first."""
        return [
            (checkpoint.name, checkpoint.id) for checkpoint in reversed(checkpoints.list_checkpoints(self.db))
        ]

    def checkpoint(self, checkpoint_id: object) -> Checkpoint:
        """Raises `Refused` when there is no such checkpoint, or its files are damaged or gone."""
        if not isinstance(checkpoint_id, str) or not checkpoint_id:
            raise Refused("No checkpoint is chosen: choose one from the list.")
        try:
            found = checkpoints.get_checkpoint(self.db, checkpoint_id)
        except LookupError as error:
            raise Refused("That checkpoint is not known here: choose one from the list.") from error
        if found.state != "committed":
            raise Refused(f"The files of checkpoint “{found.name}” are {found.state}: choose another one.")
        return found

    def base_facts(self, checkpoint: Checkpoint) -> BaseFacts:
        """Reads size and VAE factor from the base's folder; the common ones where it is not a folder here."""
        base = checkpoints.base_of(self.db, checkpoint)
        is_starter = base.name == "starter"
        folder = Path(base.source)
        factor = _vae_factor(folder) or DEFAULT_FACTOR
        cells = _sample_cells(folder)
        size = cells * factor if cells else (64 if is_starter else _USUAL_SIZES.get(base.family, 1024))
        return BaseFacts(base.name, factor, size, is_starter)

    # Groups

    def check_group(self, checkpoint_id: object, form: GroupForm) -> GroupRequest:
        """Checks a request without queueing it; raises `Refused`."""
        facts = self.base_facts(self.checkpoint(checkpoint_id))
        return forms.check_group(form, factor=facts.factor, size=facts.size)

    def generate(self, checkpoint_id: object, form: GroupForm, by: str = LOCAL_USER) -> ImageGroup:
        """Queues a group.

        Raises:
            Refused: something typed is wrong.
            NotSavedError: the disk is full.
        """
        request = self.check_group(checkpoint_id, form)
        quotas.check_images(self.db, by, len(request.seeds))
        return groups.request_group(
            self.db,
            prompt=request.prompt,
            checkpoint_id=self.checkpoint(checkpoint_id).id,
            config=request.config.model_dump(),
            seeds=request.seeds,
            created_by=by,
        )

    def group(self, group_id: object) -> GroupView | None:
        """A group with images and scores; None when there is none with this id."""
        if not isinstance(group_id, str):
            return None
        try:
            return groups.get_group(self.db, group_id)
        except LookupError:
            return None

    def groups(self, group_ids: Sequence[str]) -> list[GroupView]:
        """Those of these groups that there are, in this order."""
        return groups.get_groups(self.db, group_ids)

    def recent(self) -> list[GroupView]:
        """The newest groups that people asked for, newest first."""
        return groups.recent_groups(self.db, kinds=("studio", "compare", "demo"), limit=RECENT)

    def cancel(self, group_id: str) -> bool:
        """Cancels a queued or running group; images that are ready stay."""
        return groups.cancel_group(self.db, group_id)

    def position(self, view: GroupView) -> int | None:
        """Groups ahead of this one in the queue; None when it is not queued."""
        return groups.queue_position(self.db, view.group.id) if view.group.state == "queued" else None

    def seconds_left(self, view: GroupView) -> float | None:
        """Seconds until a group is done, from what finished groups took; None when nothing is known."""
        each = self.seconds_per_evaluation()
        if each is None or view.group.state not in ("queued", "running"):
            return None
        work = each * evaluations(view.group)
        if view.group.state == "running" and view.group.started_at is not None:
            return max(0.0, work - (self.now() - view.group.started_at).total_seconds()) or None
        ahead = self.position(view) or 0
        return work * (1 + ahead)

    def seconds_per_evaluation(self) -> float | None:
        """Median seconds of one network evaluation on one image, over the newest finished groups."""
        known = groups.recent_groups(self.db, kinds=("studio", "compare", "demo"), limit=_HISTORY)
        rates = [
            took / evaluations(view.group)
            for view in known
            if (took := strip.took(view)) and view.group.state == "done"
        ]
        return statistics.median(rates) if rates else None

    # The engine

    def engine(self) -> EngineStatus:
        """What the engine does now, for the top bar."""
        known = runs.list_runs(self.db)
        paused = [one for one in known if one.state == "paused"]
        asking = [one for one in paused if not run_wishes.is_paused_on_request(self.db, one)]
        alerts = tuple((t("shell.run_asks", number=one.number), f"/train?run={one.id}") for one in asking[:1])
        return replace(self._engine(known), alerts=alerts)

    def _engine(self, known: Sequence[Run]) -> EngineStatus:
        waiting = groups.queued_count(self.db)
        queue = f" · {t('shell.waiting', n=waiting)}" if waiting else ""
        run = next((one for one in known if one.state in runs.ACTIVE), None)
        beats = workers.worker_status(self.db)
        trouble = self._last_words(beats)
        if run is not None:
            words = _run_words(run, runs.beat_of(self.db, run.id)) + queue
            tone = "on" if run.stalled_at is None else "attention"
            return EngineStatus(words, tone, f"/train?run={run.id}", trouble)
        alive = [beat for beat in beats if beat.state != "stopped" and self._age(beat) < _BEAT_IS_OLD]
        if alive:
            return EngineStatus(_beat_words(alive[0]) + queue, "on", trouble=trouble)
        if trouble:
            return EngineStatus(t("shell.engine_ended") + queue, "attention", trouble=trouble)
        words = t("shell.engine_off") + queue if waiting else t("shell.engine_asleep")
        return EngineStatus(words, "attention" if waiting else "")

    def _age(self, beat: WorkerBeat) -> timedelta:
        return self.now() - beat.beat_at

    def _last_words(self, beats: Sequence[WorkerBeat]) -> str:
        """What the newest dead worker left behind; its successor on the device writes over it."""
        dead = (beat for beat in beats if beat.state == "stopped" and self._age(beat) < _DEATH_IS_OLD)
        said = next((beat.detail for beat in dead if beat.detail), "")
        return shown(said) if said else ""


def _run_words(run: Run, beat: RunBeat | None) -> str:
    if beat is None or not beat.update:
        named = t("train.run", number=run.number)
        return f"{named} · {beat.phase if beat else t(f'train.is_{run.state}')}"
    words = t("shell.run_at", number=run.number, update=beat.update, total=beat.num_updates)
    if run.stalled_at is not None:
        return f"{words} · {t('shell.stalled')}"
    if not beat.seconds_per_update:
        return words
    left = span(beat.seconds_per_update * (beat.num_updates - beat.update))
    return f"{words} · {t('train.left', span=left)}"


def evaluations(group: ImageGroup) -> int:
    """Network evaluations of a group: images x steps, twice with guidance."""
    passes = 2 if float(group.config["guidance_scale"]) > 1 else 1
    return max(1, len(group.seeds) * int(group.config["num_steps"]) * passes)


def _beat_words(beat: WorkerBeat) -> str:
    detail = f" · {beat.detail}" if beat.detail else ""
    return t(f"shell.engine_{beat.state}") + detail


def _vae_factor(folder: Path) -> int | None:
    channels = _config(folder / "vae" / "config.json").get("block_out_channels")
    return 2 ** (len(channels) - 1) if isinstance(channels, Sequence) and channels else None


def _sample_cells(folder: Path) -> int | None:
    cells = _config(folder / "unet" / "config.json").get("sample_size")
    return cells if isinstance(cells, int) and cells > 0 else None


def _config(path: Path) -> dict[str, object]:
    """A config file of a diffusers folder; empty when there is none to read."""
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


SHOWN_ERRORS = (Refused, LookupError, ValueError, NotSavedError)
"""What a page shows as a sentence; anything else is a bug and goes to the log."""


def shown(error: Exception | str) -> str:
    """The sentence of an error or a reason, from its capital letter to its full stop."""
    text = mask(str(error)).strip("'\" ") or "Something went wrong"
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")
