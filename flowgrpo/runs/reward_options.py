"""What rewards may use while they load, as a data folder has it: one answer for all that load any."""

from __future__ import annotations

from pathlib import Path

from flowgrpo.rewards.fetch import Options
from flowgrpo.runs import layout
from flowgrpo.runs.heads import head_in_use
from storage.engine import Database


def options_for(db: Database, weights: Path, device: str = "cpu") -> Options:
    """The folder's fetched weights and the preference head that is in use.

    Args:
        weights: The starter's folder.
        device: Where encoders run.
    """
    return Options(weights, device, cache=layout.rewards_folder(db.home), head=head_in_use(db))
