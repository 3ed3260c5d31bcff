"""What people ask of a run between two updates: a checkpoint now, a sample grid now, a pause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from flowgrpo.runs.beats import Beats, PauseRequestedError
from flowgrpo.runs.patience import attempt_write
from storage import run_wishes
from storage.run_wishes import Wish


def obey(beats: Beats, save: Callable[[], None], sample: Callable[[], None]) -> None:
    """Does what is asked after the update where the run stands; one read where nothing is.

    Before the first update there is nothing to save: the wish stands until there is.

    Args:
        save: commits a checkpoint.
        sample: draws a sample grid, unless this update has one.

    Raises:
        PauseRequestedError: somebody asked for a pause. And whatever the work itself raises.
    """
    asked, update = beats.asked(), beats.position.update
    if "save" in asked and update:
        save()
        _done(beats, "save", asked["save"], f"Saved after update {update}, as asked.")
    if "sample" in asked:
        sample()
        _done(beats, "sample", asked["sample"], f"Drew samples after update {update}, as asked.")
    if "pause" in asked:
        raise PauseRequestedError


def _done(beats: Beats, wish: Wish, asked_at: datetime, sentence: str) -> None:
    """What cannot be written now is done, and written, after the next update once more."""
    run = beats.run
    write = partial(run_wishes.fulfil, beats.db, run.id, run.attempt, wish, asked_at, sentence)
    attempt_write(wish, write)
