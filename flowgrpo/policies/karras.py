"""The noise levels of Karras et al. (arXiv 2206.00364, eq. 5), for folders whose scheduler asks for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowgrpo.flow import Time, VPSchedule, like, numbers

RHO = 7.0
"""How much closer together the steps are near the image; the paper's value and diffusers'."""


@dataclass(frozen=True)
class KarrasSchedule(VPSchedule):
    """Walks between the first and last noise ratio of the plain grid in equal steps of their RHO-th root.

    The network is asked between its training timesteps, where the logarithm of sigma / alpha is linear, as in
    diffusers' EulerDiscrete.
    """

    def grid(self, num_steps: int) -> tuple[float, ...]:
        """`num_steps + 1` decreasing RF times; the last is 0."""
        plain = VPSchedule.timesteps(self, num_steps)
        first, last = ((t / (1 - t)) ** (1 / RHO) for t in map(self.time, (plain[0], plain[-1])))
        ratios = (first + np.linspace(0, 1, num_steps) * (last - first)) ** RHO
        return (*(ratio / (1 + ratio) for ratio in ratios.tolist()), 0.0)

    def timesteps(self, num_steps: int) -> list[float]:
        """Decreasing timesteps, not whole numbers, of a `num_steps` sampler."""
        return [float(self.timestep(t)) for t in self.grid(num_steps)[:-1]]

    def timestep(self, t: Time) -> Time:
        """The timestep that the network is given at RF time t."""
        levels = np.log(self.noise_ratios)
        times = numbers(t)
        return like(np.interp(np.log(times / (1 - times)), levels, np.arange(len(levels))), t)
