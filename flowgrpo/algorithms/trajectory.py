"""Policy gradients along the sampler's own steps: FlowGRPO and DDPO.

The first optimiser step of a rollout takes its own log_probs as the old ones, so its ratio is 1 by
construction and later passes over the same rollout are measured against the training graph, not against the
sampler's rounding. A later minibatch of the first pass has nothing but the sampler's own. How far the replay
was from what the sampler recorded is measured and reported as `ratio_error`; in float32 it is 0.

The two differ in their advantages (the group's, or the prompt's running statistics) and in the settings that
their papers give; the loss is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from flowgrpo import kernels, objectives
from flowgrpo.advantages import Advantages
from flowgrpo.algorithms.base import Method, Piece, Tally, counted_rows
from flowgrpo.flow import Latents
from flowgrpo.rollout import Rollout, StoredTransition, rescore, rows_of


class Trajectory(Method):
    """`flow_grpo` and `ddpo`."""

    def pieces(self, rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[Piece]:
        """One per trained step of a micro-batch, and one per step at which the KL alone is measured."""
        for rollout, rows, values, counted in counted_rows(rollouts, advantages):
            weights = step_weights(rollout.transitions, self.settings.step_weight)
            for stored, weight in zip(rollout.transitions, weights, strict=True):
                taken = rows_of(stored, rows)
                yield Piece(
                    taken.latents, stored.t, rollout.conditioning.rows(rows), rollout.guidance_scale,
                    values, counted, stored=taken, unconditional=taken.unconditional, weight=weight,
                )  # fmt: skip
            for visit in rollout.visits:
                half = visit.unconditional
                yield Piece(
                    visit.latents[rows], visit.t, rollout.conditioning.rows(rows), rollout.guidance_scale,
                    values, counted, unconditional=half if half is None else half[rows], is_taught=False,
                )  # fmt: skip

    def current_velocity(self, piece: Piece) -> Latents:
        """With guidance, the unconditional half learns where the settings say so; else it is what it was when
        the rollout was drawn, and is not computed again.
        """
        known = None if self.settings.unconditional_gradient else piece.unconditional
        return self.policy.velocity(
            piece.latents, piece.t, piece.conditioning, piece.guidance_scale, unconditional=known
        )

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """GRPO's clipped surrogate of the replayed transition."""
        stored = piece.stored
        assert stored is not None
        now = rescore(stored, velocity)
        assert now.log_prob is not None
        if self.has_moved:
            piece.memory.setdefault("log_prob", stored.log_prob)
        elif "log_prob" not in piece.memory:
            piece.memory["log_prob"], piece.memory["mean"] = now.log_prob.detach(), now.mean.detach()
            error = (now.log_prob.detach() - stored.log_prob).exp() - 1
            tally.peak("ratio_error", error[piece.counted].abs())
        clip_range = objectives.clip_range(self.learner.config.clip_nats, velocity[0].numel())
        terms = self.surrogate(self._ratio(piece, now), piece.advantages, clip_range)
        tally.add("ratio", terms.ratio[piece.counted])
        tally.add("clip_fraction", terms.is_clipped[piece.counted].float())
        return terms.loss

    def surrogate(self, ratio: Tensor, advantages: Tensor, clip_range: float) -> objectives.PolicyLoss:
        """The loss of each sample, of its ratio: what another algorithm of this kind has of its own."""
        return objectives.clipped(ratio, advantages, clip_range)

    def _ratio(self, piece: Piece, now: kernels.Transition) -> Tensor:
        if self.settings.ratio == "guard":
            return objectives.guard_ratio(now.next_latents, now.mean, piece.memory["mean"], now.std)
        assert now.log_prob is not None
        return (now.log_prob - piece.memory["log_prob"]).exp()


def step_weights(transitions: Sequence[StoredTransition], kind: str) -> list[float]:
    """Weights of the trained steps of a rollout, their mean 1.

    tau weighs a step by its noise (TempFlow-GRPO, arXiv 2508.04324), inv_kappa by the inverse of how strongly
    its log_prob pulls at the velocity, so that every step has the same influence.
    """
    if kind == "tau":
        raw = [stored.std for stored in transitions]
    elif kind == "inv_kappa":
        raw = [1 / kernels.gradient_scale(x.t, x.s, x.std, x.form) for x in transitions]
    else:
        raw = [1.0 for _ in transitions]
    return [weight * len(raw) / sum(raw) for weight in raw]
