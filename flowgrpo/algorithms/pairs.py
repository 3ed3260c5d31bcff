"""DPO: of two images for one prompt, the better one becomes likelier than under the reference.

Online, a pair is the best and the worst of a group. Offline, a group is a pair that people have judged: two
rows, the better one first, with the advantages that `preferred` gives. The reference is the base, or the
policy of some rollouts ago.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flowgrpo import lora, objectives
from flowgrpo.advantages import Advantages
from flowgrpo.algorithms.base import Piece, Tally
from flowgrpo.algorithms.forward import Forward
from flowgrpo.flow import Latents
from flowgrpo.policies.base import Conditioning
from flowgrpo.rollout import Rollout


class Pair(NamedTuple):
    """Two images of a rollout."""

    rollout: Rollout
    better: int
    """Its row."""
    worse: int
    """And its."""


class DPO(Forward):
    """Diffusion-DPO."""

    def pieces(self, rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[Piece]:
        """One per noise level of as many pairs of one size as a micro-batch holds; the better images first.

        Both images of a pair have one noise and one level: what differs is the image alone.
        """
        for pairs in _batches(_pairs(rollouts, advantages)):
            rows = [(pair.rollout, pair.better) for pair in pairs]
            rows += [(pair.rollout, pair.worse) for pair in pairs]
            x0 = torch.stack([rollout.latents[row].float() for rollout, row in rows])
            words = _joined([rollout.conditioning.rows(slice(row, row + 1)) for rollout, row in rows])
            keys = [pair.rollout.seeds[pair.better] for pair in pairs] * 2
            everyone = torch.ones(len(keys), dtype=torch.bool, device=x0.device)
            scale = self.scale_of(pairs[0].rollout)
            for level in range(self.num_levels):
                t = self.times(pairs[0].rollout, keys, level)
                yield self.noised(x0, t, words, scale, keys, level, everyone.float(), everyone)

    def prepare(self, piece: Piece) -> None:
        """The reference's velocity."""
        self._before(piece)

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """arXiv 2311.12908, eq. 14; both rows of a pair have its loss, so the mean over rows is that over
        pairs.
        """
        gain = self.native_error(piece, velocity) - self.native_error(piece, self._before(piece))
        better, worse = gain.chunk(2)
        margin = objectives.preference_margin(better, worse, self.settings.beta)
        # A pair that the policy holds for equal is half right.
        is_right = (margin > 0).double() + 0.5 * (margin == 0)
        tally.add("accuracy", is_right.repeat(2))
        tally.add("margin", margin.repeat(2))
        return objectives.dpo_loss(margin).repeat(2)

    def _before(self, piece: Piece) -> Latents:
        """What the reference says: the base until the first refresh, then the copy."""
        every = self.settings.refresh_every
        if every and self.learner.rollouts >= every:
            return self.velocity_of("reference", piece)
        return self.reference_velocity(piece)

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


def _pairs(rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[Pair]:
    for rollout, values, counted in zip(rollouts, advantages.values, advantages.is_counted, strict=True):
        rows = best_and_worst(values, counted & rollout.is_finite.to(counted.device))
        if rows is not None:
            yield Pair(rollout, *rows)


def _batches(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    """Pairs that can go through the network together: one size, grid and guidance; half a micro-batch."""
    shelves: dict[object, list[Pair]] = {}
    for pair in pairs:
        rollout = pair.rollout
        shapes = tuple(sorted((name, row.shape[1:]) for name, row in rollout.conditioning.positive.items()))
        kind = (rollout.latents.shape[1:], rollout.times, rollout.guidance_scale, shapes)
        shelves.setdefault(kind, []).append(pair)
    for shelf in shelves.values():
        size = max(1, shelf[0].rollout.micro_batch_size // 2)
        yield from (shelf[start : start + size] for start in range(0, len(shelf), size))


def _joined(parts: Sequence[Conditioning]) -> Conditioning:
    return Conditioning(
        {name: torch.cat([part.positive[name] for part in parts]) for name in parts[0].positive}
    )
