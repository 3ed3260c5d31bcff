"""What a run begins with when its parent is no base."""

from __future__ import annotations

from flowgrpo import lora, whole
from flowgrpo.learner import Learner
from flowgrpo.runs.shelf import checked_folder
from storage.engine import Database
from storage.models import Checkpoint


def start_from(db: Database, learner: Learner, parent: Checkpoint) -> None:
    """Begins with the parent's adapter when the parent is no base."""
    if parent.path is None:
        return
    folder, ours = checked_folder(db, parent), learner.policy.lora_config
    if ours is None or whole.is_whole(folder):
        raise ValueError(
            f"{parent.name} is made for a run with an adapter: start one, or start from the base"
            if ours is None
            else f"{parent.name} is a whole network and no adapter: start from the base"
        )
    theirs, tensors = lora.load(folder, "ema")
    if theirs != ours:
        raise ValueError(
            f"{parent.name} has an adapter of rank {theirs.rank} and this run one of rank {ours.rank} "
            "or with other targets: use the same LoRA settings, or start from the base"
        )
    learner.start_from(tensors)
