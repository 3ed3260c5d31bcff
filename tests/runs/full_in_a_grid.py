"""The trainer's process, where memory runs out in the main one's first network call for a sample grid.

python -m tests.runs.full_in_a_grid --home H RUN_ID ATTEMPT
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from torch import nn

from flowgrpo.runs import train
from flowgrpo.runs.samples import Grids
from flowgrpo.world import leave


def full(*_: object) -> None:
    """As an allocator says it."""
    raise MemoryError("no room")


def draw(self: Grids, *given: Any) -> dict[str, float]:
    """Draws, where the network's first layer finds no room."""
    first: nn.Module = self.policy.network.conv_in
    first.register_forward_hook(full)
    return drawn(self, *given)


if __name__ == "__main__":
    drawn = Grids.draw
    with mock.patch.object(Grids, "draw", draw):
        leave(train.main())
