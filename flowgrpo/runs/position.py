"""Where a run stands: what a checkpoint keeps beside the weights, so that a resume goes on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from flowgrpo.running import Buffers
from flowgrpo.spikes import UsualNorm


@dataclass
class Position:
    """All of it goes into every checkpoint; nothing in it depends on the clock."""

    update: int = 0
    """Optimiser updates done. It only ever rises: a run that goes back to earlier weights counts on."""
    rollout: int = 0
    """Rollouts done; noise and prompts follow from it."""
    unscored_in_a_row: int = 0
    calibrated_stds: dict[str, float] | None = None
    """Each reward's usual std within a group of the base; one that has scored nothing yet is absent."""
    ceilings: dict[str, float] = field(default_factory=dict)
    """Each reward's 99th percentile over the base's images; empty in checkpoints older than caps."""
    running: Buffers = field(default_factory=dict)
    """The prompts' last rewards, where advantages come from running statistics."""
    usual_norm: UsualNorm = field(default_factory=UsualNorm)
    """Of the gradients since the run began or last went back."""
    rate: float = 1.0
    """Share of the configured learning rate that is in force."""
    returns: int = 0
    """How often the run went back to a checkpoint by itself."""
    micro_batch: int | None = None
    """Samples per forward since memory ran out; None while the configured number stands."""
    shortages: int = 0
    """Times in a row that memory ran out."""
    processes: int = 1
    """How many share the run."""
    cuts: int = 0
    """How often micro-batches were made smaller."""
    allowed: dict[str, list[float]] = field(default_factory=dict)
    """Topic of each alarm that a person let pass -> its size then, and the update that had it last."""
    head: dict[str, Any] | None = None
    """Of the preference head in use: the snapshot of votes it saw, and the update at which they were new."""
    heard: list[int] = field(default_factory=list)
    """Numbers of the votes on the run's own groups that these weights have learned from, ascending."""
    followed: dict[str, Any] | None = None
    """The preference head that these weights learned from last, and its votes, as a checkpoint names them."""
    decided: int = 0
    """The last event of the run's history whose decision was carried out."""

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)

    def take_votes_of(self, kept: Mapping[str, Any]) -> None:
        """Goes back to the votes behind the weights of a checkpoint, which kept this; {} for the start."""
        self.heard, self.followed = list(kept.get("heard", [])), kept.get("followed")

    def restore(self, document: Mapping[str, Any]) -> None:
        """The inverse of `to_json`, in place; what an older version kept and we do not know is left out."""
        for name in {one.name for one in fields(self)} & document.keys():
            value = document[name]
            setattr(self, name, UsualNorm(**value) if name == "usual_norm" else value)
