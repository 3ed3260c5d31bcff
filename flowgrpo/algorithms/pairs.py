"""DPO: of two images for one prompt, the better one becomes likelier than under the reference.

Online, a pair is the best and the worst of a group. Offline, a group is a pair that people have judged: two
rows with advantages of different sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from flowgrpo import lora, objectives, seeds
from flowgrpo.advantages import Advantages
from flowgrpo.algorithms.base import Piece, Tally
from flowgrpo.algorithms.forward import Forward, native_error
from flowgrpo.flow import Latents, noised
from flowgrpo.rollout import Rollout

_NOISE = 8


class DPO(Forward):
    """Diffusion-DPO. The reference is the base, or the policy of some rollouts ago."""

    def pieces(self, rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[Piece]:
        """One per noise level of a pair: the better image first, both with the same noise."""
        for rollout, values, is_counted in zip(
            rollouts, advantages.values, advantages.is_counted, strict=True
        ):
            pair = best_and_worst(values, is_counted & rollout.is_finite.cpu())
            if pair is None:
                continue
            for level, t in enumerate(self.levels(rollout)):
                yield self._pair(rollout, list(pair), t, level)

    def _pair(self, rollout: Rollout, rows: list[int], t: float, level: int) -> Piece:
        x0 = rollout.latents[rows].float()
        counters = (rollout.seeds[rows[0]], self.learner.rollouts, level)
        eps = seeds.noise(x0.shape[1:], _NOISE, *counters).to(x0).expand_as(x0)
        conditioning = rollout.conditioning.rows(torch.tensor(rows, device=x0.device))
        both = torch.ones(2, dtype=torch.bool, device=x0.device)
        latents = noised(x0, eps, t).to(self.policy.dtype)
        return Piece(latents, t, conditioning, 1.0, both.float(), both, x0=x0, eps=eps)

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """arXiv 2311.12908, eq. 14; the pair's loss is shared between its two rows."""
        prediction = self.policy.prediction
        before = native_error(prediction, piece, piece.memory["reference"])
        gain = native_error(prediction, piece, velocity) - before
        loss, is_right = objectives.dpo_loss(gain[:1], gain[1:], self.settings.beta)
        tally.add("accuracy", is_right.float().expand(2))
        return loss.expand(2) / 2

    def prepare(self, piece: Piece) -> None:
        """The reference's velocity: the base's until the first refresh, then the copy's."""
        every = self.settings.refresh_every
        if every and self.learner.rollouts >= every:
            self.velocity_of("reference", piece)
        else:
            self.reference_velocity(piece)

    def after_rollout(self) -> None:
        """Every so many rollouts the reference becomes the current policy."""
        every = self.settings.refresh_every
        if every and self.learner.rollouts % every == 0:
            lora.copy_into(self.learner.copies["reference"], self.learner.parameters)


def best_and_worst(values: Tensor, counted: Tensor) -> tuple[int, int] | None:
    """Rows of the highest and the lowest advantage among those that count; None where none is better."""
    if int(counted.sum()) < 2:
        return None
    best = int(values.masked_fill(~counted, -torch.inf).argmax())
    worst = int(values.masked_fill(~counted, torch.inf).argmin())
    return (best, worst) if values[best] > values[worst] else None
