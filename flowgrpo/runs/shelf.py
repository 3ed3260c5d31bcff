"""The policies that a worker keeps loaded: one network per base, with a checkpoint's adapter merged in."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import torch

from flowgrpo.checkpoint import DamagedCheckpointError, verify
from flowgrpo.policies import Policy, load_policy
from storage import checkpoints
from storage.engine import Database
from storage.models import BaseModel, Checkpoint

MAX_BASES = 2
"""Networks kept in memory; adapters cost little, so they are merged when they are needed."""


class PolicyShelf:
    """Policies by checkpoint; loading a base takes seconds to minutes, changing its adapter milliseconds."""

    def __init__(self, db: Database, device: torch.device) -> None:
        self.db = db
        self.device = device
        self._bases: OrderedDict[str, Policy] = OrderedDict()
        self._merged: dict[str, str] = {}

    def is_loaded(self, checkpoint: Checkpoint) -> bool:
        """Whether `get` will answer at once."""
        return _key(checkpoints.base_of(self.db, checkpoint)) in self._bases

    def get(self, checkpoint: Checkpoint) -> Policy:
        """The policy of a checkpoint, ready to sample.

        Raises:
            LookupError: nothing is where the base or the checkpoint should be.
            ValueError: the base is of a family that we cannot drive, or the checkpoint's files are damaged.
        """
        base = checkpoints.base_of(self.db, checkpoint)
        key = _key(base)
        if key not in self._bases:
            self._bases[key] = load_policy(base.source, device=self.device, **(base.options or {}))
            while len(self._bases) > MAX_BASES:
                oldest, _ = self._bases.popitem(last=False)
                self._merged.pop(oldest, None)
        self._bases.move_to_end(key)
        policy = self._bases[key]
        if self._merged.get(key, "") != (checkpoint.path or ""):
            self._change_adapter(policy, key, checkpoint)
        return policy

    def _change_adapter(self, policy: Policy, key: str, checkpoint: Checkpoint) -> None:
        self._merged[key] = ""
        policy.unload_adapter()
        if checkpoint.path is None:
            return
        policy.load_adapter(checked_folder(self.db, checkpoint))
        self._merged[key] = checkpoint.path


def _key(base: BaseModel) -> str:
    """A file that is read in two ways is two networks."""
    return json.dumps([base.source, base.options or {}], sort_keys=True)


def checked_folder(db: Database, checkpoint: Checkpoint) -> Path:
    """The folder of a checkpoint whose files are what was written; a damaged one is marked so.

    Raises:
        DamagedCheckpointError: the files are missing or changed.
    """
    if checkpoint.path is None:
        raise ValueError(f"{checkpoint.name} is a base and has no files of its own")
    folder = db.home / checkpoint.path
    try:
        verify(folder)
    except DamagedCheckpointError as error:
        checkpoints.mark_checkpoint(db, checkpoint.id, "bad")
        raise DamagedCheckpointError(
            f"The files of checkpoint {checkpoint.name} are damaged ({error}): choose another checkpoint."
        ) from error
    return folder
