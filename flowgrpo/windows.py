"""Which steps of a group's sampler are stochastic, and which of those the update trains.

The last step ends at time 0, where no noise is left, and is never stochastic. All choices follow from
counters.
"""

from __future__ import annotations

import math

from flowgrpo.config import RolloutConfig
from flowgrpo.seeds import derive_seed

Steps = tuple[int, ...]
_TRAINED = 11
"""Sets these counters apart from those of the window's place."""
_HELD = 12
"""And these from both."""


def window_of(config: RolloutConfig, run_seed: int, rollout: int, group: int) -> tuple[Steps, Steps]:
    """(stochastic steps, those of them that are trained) of one group, both ascending.

    early_random starts in the first half, where noise decides the most, first at step 0; random anywhere;
    progressive is the same for all groups and moves one step on every `window_every` rollouts, back to the
    start after the end (MixGRPO, arXiv 2507.21802); all is every step but the last, none is no step.
    """
    if config.window == "none":
        return (), ()
    if config.window == "all":
        steps = tuple(range(config.num_steps - 1))
    else:
        start = _start(config, run_seed, rollout, group)
        steps = tuple(range(start, start + config.window_size))
    return steps, _some(steps, config.trained_share, run_seed, rollout, group)


def held_of(config: RolloutConfig, count: int, run_seed: int, rollout: int, group: int) -> Steps:
    """Steps of one group, ascending, at which the KL is measured though the update does not train them."""
    _, trained = window_of(config, run_seed, rollout, group)
    others = [step for step in range(config.num_steps) if step not in trained]
    order = sorted(others, key=lambda step: derive_seed(_HELD, run_seed, rollout, group, step))
    return tuple(sorted(order[:count]))


def _start(config: RolloutConfig, *counters: int) -> int:
    places = config.num_steps - config.window_size
    if config.window == "first":
        return 0
    if config.window == "progressive":
        _, rollout, _ = counters
        return (max(rollout - 1, 0) // config.window_every) % places
    if config.window == "early_random":
        places = min((config.num_steps + 1) // 2, places)
    return derive_seed(*counters) % places


def _some(steps: Steps, share: float, *counters: int) -> Steps:
    """A share of the steps, at least one, without repetition; DanceGRPO (arXiv 2505.07818) takes 0.6."""
    count = max(1, math.floor(share * len(steps) + 1e-9))
    order = sorted(steps, key=lambda step: derive_seed(_TRAINED, *counters, step))
    return tuple(sorted(order[:count]))
