"""What a run will take before it starts: memory by phase, disk, operations."""

from __future__ import annotations

from dataclasses import dataclass

from flowgrpo.choices import SFT, Trajectory
from flowgrpo.config import RunConfig
from flowgrpo.learner import copies_of
from flowgrpo.sizes import Sizes
from flowgrpo.work import held_steps, images_of, per_term, rows_of, terms_of

GIB = 2**30
GPU_CONTEXT = int(0.8 * GIB)
"""What CUDA, its libraries and the allocator's gaps take on a GPU; an estimate."""
PNG_BYTES = 2
"""Of a pixel, about: less for flat drawings, more for photographs."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the device: what stays there, and what each phase takes besides at its own peak.

    Attributes:
        resident: network, vae, text encoders, adapter, gradients, optimiser, rollouts, rewards, process.
        phases: rollout, decode, reward, update; words, where the text encoders visit the device.
        adds_up: a CPU's allocator keeps what a phase has freed and seldom finds it fit for the next one,
            so that phases add up; a GPU's hands it on.
    """

    resident: dict[str, int]
    phases: dict[str, int]
    adds_up: bool = False

    @property
    def during(self) -> dict[str, int]:
        """Phase to all that is taken in it, the resident included."""
        held, taken = sum(self.resident.values()), dict[str, int]()
        for phase, needed in self.phases.items():
            taken[phase] = held + needed
            held += needed if self.adds_up else 0
        return taken

    @property
    def peak(self) -> int:
        """Bytes that the device must have."""
        return max(self.during.values())


@dataclass(frozen=True)
class Beside:
    """What is there besides the base: measured, or estimated where nothing can be.

    process: on a CPU what the program takes before it loads anything, on a GPU what its libraries take.
    rewards, scoring: bytes of the rewards' networks, and of one scoring at its peak.
    """

    process: int = 0
    rewards: int = 0
    scoring: int = 0


def memory_of(sizes: Sizes, config: RunConfig, beside: Beside = Beside(), *, on_gpu: bool) -> Memory:
    """Peak bytes of each phase of a run on one device."""
    rollout, kind = config.rollout, config.algorithm.name
    size = (rollout.width, rollout.height)
    rows, taught = rows_of(config)
    guided = 2 if rollout.guidance_scale > 1 and not sizes.has_guidance_input else 1
    if kind == "sft":
        phases = {"encode": sizes.encode(rows, *size).peak_bytes}
    else:
        phases = {
            "rollout": sizes.denoise(guided * rows, *size, learns=False).peak_bytes,
            "decode": sizes.decode(rows, *size).peak_bytes,
            "reward": beside.scoring,
        }
    halves = per_term(config, guided)[0]
    phases["update"] = sizes.denoise(halves * taught, *size, learns=True).peak_bytes
    learns = sizes.adapter_bytes
    resident = {
        "network": sizes.network_bytes,
        "vae": sizes.vae_bytes,
        "adapter": learns,
        "its average and copies": learns * (1 + len(copies_of(config.algorithm, config.update))),
        "gradients": learns,
        "optimiser": learns // 2 if config.update.optimizer == "adamw_8bit" else 2 * learns,
        "rollouts": kept_bytes(sizes, config),
        "rewards": beside.rewards,
    }
    if on_gpu:  # text encoders visit a GPU while they read
        resident["context"] = beside.process or GPU_CONTEXT
        return Memory(resident, {"words": sizes.text_bytes, **phases})
    resident |= {"text encoders": sizes.text_bytes, "process": beside.process}
    return Memory(resident, phases, adds_up=True)


def kept_bytes(sizes: Sizes, config: RunConfig) -> int:
    """What the rollouts of an update hold until it is done: images, latents, transitions, words."""
    rollout, side = config.rollout, sizes.base.vae_factor
    if isinstance(config.algorithm, SFT):
        images, transitions, words = config.algorithm.batch_size, 0, 2
    else:
        images = rollout.group_size * rollout.groups_per_update
        is_replayed = isinstance(config.algorithm, Trajectory)
        transitions = terms_of(config) // images_of(config) if is_replayed else 0
        words = 2 if rollout.guidance_scale > 1 or config.update.reference_guidance else 1
    latent = int(sizes.base.vae["latent_channels"]) * (rollout.width // side) * (rollout.height // side)
    steps = transitions + held_steps(config)
    halves = steps if rollout.guidance_scale > 1 and not sizes.has_guidance_input else 0
    a_latent = latent * (4 + (transitions + steps) * sizes.dtype.itemsize + 4 * halves)
    return images * (12 * rollout.width * rollout.height + a_latent + words * sizes.word_bytes)


@dataclass(frozen=True)
class Disk:
    """Bytes in the data folder when the run is done."""

    num_checkpoints: int
    checkpoint: int
    num_pictures: int
    picture: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.num_checkpoints * self.checkpoint + self.num_pictures * self.picture


def disk_of(config: RunConfig, learned_bytes: int) -> Disk:
    """What a run writes, where what learns takes `learned_bytes` in float32."""
    copies = 2 + len(copies_of(config.algorithm, config.update))
    moments = 0.5 if config.update.optimizer == "adamw_8bit" else 2
    checkpoints = _times(config.num_updates, config.checkpoint_every)
    grids = 1 + _times(config.num_updates, config.sample_every) if config.samples else 0
    picture = PNG_BYTES * config.rollout.width * config.rollout.height
    return Disk(checkpoints, int((copies + moments) * learned_bytes), grids * config.samples, picture)


def _times(updates: int, every: int) -> int:
    """Once after so many updates, and at the end."""
    return -(-updates // every)
