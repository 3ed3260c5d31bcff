"""Every algorithm behind one interface: `make_method` gives the one that a learner was made for."""

from __future__ import annotations

from flowgrpo.algorithms.base import Method, Piece, Tally, Terms
from flowgrpo.algorithms.forward import AWM, NFT, RWR, SFT
from flowgrpo.algorithms.pairs import DPO
from flowgrpo.algorithms.trajectory import Trajectory
from flowgrpo.learner import Learner

__all__ = ["METHODS", "Method", "Piece", "Tally", "Terms", "make_method"]

METHODS: dict[str, type[Method]] = {
    "flow_grpo": Trajectory,
    "ddpo": Trajectory,
    "nft": NFT,
    "awm": AWM,
    "rwr": RWR,
    "dpo": DPO,
    "sft": SFT,
}
"""Name of a configuration's algorithm to what does it."""


def make_method(learner: Learner) -> Method:
    """The algorithm that the learner was made for."""
    return METHODS[learner.algorithm.name](learner, learner.algorithm)
