"""Checkpoints of a run: room first, folder second, row last; and which one a new attempt goes on from."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flowgrpo.checkpoint import (
    DamagedCheckpointError,
    load_checkpoint,
    newest_valid,
    remove_leftovers,
    save_checkpoint,
)  # fmt: skip
from flowgrpo.config import RunConfig
from flowgrpo.failpoints import failpoint
from flowgrpo.learner import Learner
from flowgrpo.manifest import MANIFEST, sha256_of
from flowgrpo.runs import exits, layout
from flowgrpo.runs.patience import attempt_write, insist
from flowgrpo.runs.pruning import prune
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Run

RESERVE_VARIABLE = "FLOWGRPO_DISK_RESERVE"
RESERVE_BYTES = 64 * 2**20
"""Room that a checkpoint leaves free for the database and the ratings, unless the variable says otherwise."""
_log = logging.getLogger(__name__)


class NotFiniteError(ValueError):
    """Weights that no checkpoint may hold; the sentence names one."""


def is_due(config: RunConfig, update: int) -> bool:
    """Whether the run's settings want a checkpoint after this update; stops and pauses make others."""
    before, every = update - config.update.updates_per_rollout, config.checkpoint_every
    return update // every > max(before, 0) // every or update >= config.num_updates


@dataclass
class Saver:
    """Commits and finds the checkpoints of one attempt."""

    db: Database
    run: Run
    learner: Learner
    votes: Callable[[Mapping[str, Any]], dict[str, Any] | None] = lambda progress: None
    """What a checkpoint of this progress has learned from people: snapshot of votes and hash."""
    _rows: dict[int, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Update to manifest hash and progress of folders whose row could not be written yet."""

    @property
    def folder(self) -> Path:
        """Parent of the run's checkpoint folders."""
        return layout.checkpoints_folder(self.db.home, self.run.id)

    def resume(self) -> tuple[int, dict[str, Any]] | None:
        """Puts the learner back to the newest intact checkpoint: (update, progress); None without one."""
        remove_leftovers(self.folder)
        newest, warnings = newest_valid(self.folder)
        rows = {row.update: row for row in checkpoints.checkpoints_of_run(self.db, self.run.id)}
        for folder, row in ((self.folder / f"{update:06d}", row) for update, row in rows.items()):
            if row.state == "committed" and (newest is None or int(folder.name) > int(newest.name)):
                checkpoints.mark_checkpoint(self.db, row.id, "bad")
        for warning in warnings:
            _log.warning("%s", warning)
            insist(
                "warning",
                partial(runs.record_event, self.db, self.run.id, self.run.attempt, "warning", warning),
            )
        if newest is None:
            return None
        progress = load_checkpoint(newest, self.learner)
        update = int(newest.name)
        if update not in rows:
            self._rows[update] = sha256_of(newest / MANIFEST), progress
            self.write_rows()
        return update, progress

    def updates(self) -> list[int]:
        """The updates of which there is a checkpoint folder, newest first."""
        folders = self.folder.iterdir() if self.folder.is_dir() else []
        return sorted((int(folder.name) for folder in folders if folder.name.isdigit()), reverse=True)

    def restore(self, update: int) -> dict[str, Any] | None:
        """Puts weights, their average and the optimiser back to a checkpoint and returns the progress that it
        kept; None, and nothing is touched, where it is damaged.
        """
        try:
            return load_checkpoint(self.folder / f"{update:06d}", self.learner)
        except DamagedCheckpointError as error:
            _log.warning("%s", error)
            return None

    def commit(self, update: int, progress: Mapping[str, Any]) -> None:
        """Saves the learner as the run's checkpoint of this update. Where the disk is full, files that nobody
        needs go first, and it is tried once more.

        Raises:
            EndedError: the disk is too full; the last checkpoint is intact.
            NotFiniteError: a weight is not finite; nothing was written.
        """
        try:
            sha256 = self._saved(update, progress)
        except ValueError as error:
            raise NotFiniteError(str(error)) from error
        failpoint("checkpoint.row")
        self._rows[update] = sha256, progress
        self.write_rows()
        failpoint("checkpoint.done")
        if not self._rows:
            prune(self.db, self.run)

    def _saved(self, update: int, progress: Mapping[str, Any], *, may_prune: bool = True) -> str:
        """The hash of the manifest of a folder that is there now. Raises EndedError where it does not fit."""
        try:
            return self._save(update, progress)
        except OSError as error:
            if not exits.is_full_disk(error):
                raise
            if not (may_prune and self._made_room(update)):
                raise exits.EndedError(exits.DISK_FULL, self._no_room()) from error
        return self._saved(update, progress, may_prune=False)

    def _save(self, update: int, progress: Mapping[str, Any]) -> str:
        self._check_room()
        failpoint("checkpoint.save")
        return save_checkpoint(
            self.folder / f"{update:06d}",
            self.learner,
            progress,
            config_hash=self.run.config_hash,
            parent=self.run.parent_checkpoint_id,
            attempt=self.run.attempt,
        )

    def _made_room(self, update: int) -> bool:
        """Whether files have gone that no rule keeps: the same disk need not be asked again where none have.

        The rules were last kept to after the commit before. Since then somebody may have set others or let a
        checkpoint go, samples may have shown another to be the best, and then it may have failed.
        """
        self.write_rows()
        leftovers, pruned = remove_leftovers(self.folder), prune(self.db, self.run)
        if leftovers or pruned:
            which = ", ".join(map(str, sorted(pruned)))
            gone = (
                f"the files of the checkpoints of updates {which}" if pruned else "what a broken commit left"
            )
            _log.warning(
                "The disk is too full for the checkpoint of update %d: %s, which no rule keeps, went to make "
                "room, and it is tried once more.", update, gone,
            )  # fmt: skip
        return bool(leftovers or pruned)

    def write_rows(self, *, must: bool = False) -> None:
        """Writes the rows of committed folders; what cannot be written now is kept for the next time."""
        for update in sorted(self._rows):
            write = partial(self._write_row, update, *self._rows[update])
            if (insist("checkpoint", write) if must else attempt_write("checkpoint", write)) is None:
                return
            del self._rows[update]

    def _write_row(self, update: int, sha256: str, progress: Mapping[str, Any]) -> str:
        target = self.folder / f"{update:06d}"
        return checkpoints.commit_checkpoint(
            self.db,
            run_id=self.run.id,
            attempt=self.run.attempt,
            update=update,
            name=f"Run {self.run.number} · update {update}",
            path=str(target.relative_to(self.db.home)),
            sha256=sha256,
            votes=self.votes(progress),
        ).id

    def _needed(self) -> int:
        """Bytes: four copies of the adapter (raw, average, moments), half as much again, and the reserve."""
        weights = sum(p.numel() * p.element_size() for p in self.learner.parameters.values())
        return 6 * weights + int(os.environ.get(RESERVE_VARIABLE, RESERVE_BYTES))

    def _check_room(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < self._needed():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _no_room(self) -> str:
        free = shutil.disk_usage(self.db.home).free
        kept = newest_valid(self.folder)[0]
        last = (
            f"the checkpoint of update {int(kept.name)} is intact" if kept else "there is no checkpoint yet"
        )
        return (
            f"The disk is too full for a checkpoint: it needs {_mega(self._needed())} MB and "
            f"{_mega(free)} MB are free; {last}. Free some space, then resume the run."
        )


def _mega(size: int) -> str:
    return f"{size / 2**20:,.0f}"
