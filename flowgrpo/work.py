"""What a run calls for, counted from its settings alone: images, and evaluations of the network.

Free of tensors, so that a page can tell it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowgrpo.choices import AWM, DPO, NFT, SFT, Trajectory
from flowgrpo.config import RunConfig


@dataclass(frozen=True)
class Work:
    """What a run calls for, all updates together.

    plain, learned: images through the denoiser without and with a gradient.
    """

    images: int
    plain: int
    learned: int

    @property
    def evaluations(self) -> int:
        """Network evaluations; a backward pass costs as much as two."""
        return self.plain + 3 * self.learned


def work_of(config: RunConfig, *, guidance_costs: bool = True) -> Work:
    """Counts from the settings alone.

    guidance_costs: False for a network that takes guidance as an input (FLUX.1-dev).
    """
    guided = 2 if config.rollout.guidance_scale > 1 and guidance_costs else 1
    images, terms = images_of(config), terms_of(config)
    sampled = 0 if config.algorithm.name == "sft" else images * config.rollout.num_steps * guided
    learned, plain = per_term(config, guided)
    passes = config.update.updates_per_rollout
    replayed = guided if isinstance(config.algorithm, Trajectory) else 1
    if config.update.reference_guidance is not None:
        replayed = 2 if guidance_costs else 1
    reference = replayed if _needs_kl(config) else 0
    terms += images * held_steps(config)
    return Work(images, sampled + terms * (plain * passes + reference), terms * learned * passes)


def _needs_kl(config: RunConfig) -> bool:
    return config.update.kl_weight > 0 and config.algorithm.name != "dpo"  # DPO has its reference already


def images_of(config: RunConfig) -> int:
    """Sampled, or shown from the folder."""
    if isinstance(config.algorithm, SFT):
        return config.num_updates * config.algorithm.batch_size
    rollouts = -(-config.num_updates // config.update.updates_per_rollout)
    return rollouts * config.rollout.group_size * config.rollout.groups_per_update


def terms_of(config: RunConfig) -> int:
    """Samples times trained steps or noise levels."""
    images, rollout, algorithm = images_of(config), config.rollout, config.algorithm
    if isinstance(algorithm, SFT):
        return images
    if isinstance(algorithm, Trajectory):
        steps = rollout.num_steps - 1 if rollout.window == "all" else rollout.window_size
        return images * max(1, int(rollout.trained_share * steps + 1e-9))
    if isinstance(algorithm, DPO):
        return 2 * algorithm.levels * (images // rollout.group_size)
    return images * algorithm.levels


def held_steps(config: RunConfig) -> int:
    """Steps of each image at which the KL alone is measured, at the price of a replay."""
    if not config.update.kl_steps:
        return 0
    return min(config.update.kl_steps, config.rollout.num_steps - terms_of(config) // images_of(config))


def per_term(config: RunConfig, guided: int) -> tuple[int, int]:
    """(network calls with a gradient, without one) of one term, the reference's not counted."""
    algorithm = config.algorithm
    if isinstance(algorithm, Trajectory):
        return (guided if algorithm.unconditional_gradient else 1, 0)
    return (1, 1) if isinstance(algorithm, NFT | AWM | DPO) else (1, 0)


def rows_of(config: RunConfig) -> tuple[int, int]:
    """Images that go through the network together: (when they are sampled, when they are learned from)."""
    rows, rollout = config.update.micro_batch_size, config.rollout
    if isinstance(config.algorithm, SFT):
        rows = min(rows, config.algorithm.batch_size)
        return rows, rows
    sampled = min(rows, rollout.group_size)
    if config.algorithm.name == "dpo":  # pairs of several groups
        return sampled, 2 * min(max(1, rows // 2), rollout.groups_per_update)
    return sampled, sampled
