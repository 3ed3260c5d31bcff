"""Removes the files of checkpoints that the rules let go: rows first, files after, never the last whole."""

from __future__ import annotations

import logging
from pathlib import Path

from flowgrpo.failpoints import failpoint
from flowgrpo.manifest import DamagedCheckpointError, remove, verify
from flowgrpo.runs.patience import attempt_write
from storage import checkpoints, retention
from storage.engine import Database
from storage.models import Checkpoint, Run

_log = logging.getLogger(__name__)


def prune(db: Database, run: Run) -> list[int]:
    """Prunes the run's checkpoints, and clears what an earlier process marked and left; the updates removed.

    Whatever goes wrong costs room on the disk, and no training.
    """
    try:
        if attempt_write("prune", lambda: retention.prunable(db, run.id)) and _newest_is_whole(db, run):
            attempt_write("prune", lambda: retention.prune(db, run.id, run.attempt))
            failpoint("prune.rows")
        return _remove_marked(db, run)
    except OSError as error:
        _log.warning("checkpoints could not be pruned now: %s", error)
        return []


def _newest_is_whole(db: Database, run: Run) -> bool:
    """Whether the checkpoint that a run would go on from is what was written: else the older ones stay."""
    usable = [one for one in checkpoints.checkpoints_of_run(db, run.id) if one.state == "committed"]
    try:
        verify(_folder(db, usable[-1]))
    except DamagedCheckpointError as error:
        _log.warning("nothing is pruned: %s", error)
        return False
    return True


def _remove_marked(db: Database, run: Run) -> list[int]:
    rows = attempt_write("prune", lambda: checkpoints.checkpoints_of_run(db, run.id)) or []
    left = [row for row in rows if row.state == "pruned" and row.path and _folder(db, row).is_dir()]
    for row in left:
        remove(_folder(db, row))
        failpoint("prune.files")
    return [row.update for row in left]


def _folder(db: Database, row: Checkpoint) -> Path:
    assert row.path is not None
    return db.home / row.path
