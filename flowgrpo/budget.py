"""What a run will take before it starts: memory by phase, network evaluations, operations.

Memory comes from the real modules under torch's fake tensors: every storage that a forward or a backward pass
makes is counted while it lives, and nothing is computed. Weights are counted apart. Fake tensors are typed as
the CPU's, whose attention kernel needs no score matrix, as a GPU's does not. Gradient checkpointing is not
counted in: with it the update takes less than what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowgrpo import lora
from flowgrpo.choices import AWM, DDPO, DPO, NFT, SFT, FlowGRPO
from flowgrpo.config import LoraConfig, RunConfig
from flowgrpo.live import counted, pretending
from flowgrpo.published import Architecture

GIB = 2**30
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
GPU_CONTEXT = int(0.8 * GIB)
"""What CUDA, its libraries and the allocator's gaps take on a GPU; an estimate."""


@dataclass(frozen=True)
class Pass:
    """One micro-batch through a module: bytes that live at its peak besides weights, and operations."""

    peak_bytes: int
    flops: int


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


@dataclass(frozen=True)
class Memory:
    """Bytes on the device. A phase's figure is its own peak; weights are there in all of them."""

    weights: int
    learner: int
    """Adapter, its average, copies, gradients and the optimiser's moments."""
    phases: dict[str, int]
    """rollout, decode, update, and words, when the text encoders visit the device."""
    overhead: int = 0

    @property
    def peak(self) -> int:
        """Bytes that the device must have."""
        return self.weights + self.learner + self.overhead + max(self.phases.values())


def work_of(config: RunConfig, *, guidance_costs: bool = True) -> Work:
    """Counts from the settings alone.

    guidance_costs: False for a network that takes guidance as an input (FLUX.1-dev).
    """
    guided = 2 if config.rollout.guidance_scale > 1 and guidance_costs else 1
    images, terms = _images(config), _terms(config)
    sampled = 0 if config.algorithm.name == "sft" else images * config.rollout.num_steps * guided
    learned, plain = _per_term(config, guided)
    passes = config.update.updates_per_rollout
    replayed = learned + plain if config.algorithm.name in _TRAJECTORY else 1
    if config.update.reference_guidance is not None:
        replayed = 2 if guidance_costs else 1
    reference = replayed if _needs_kl(config) else 0
    return Work(images, sampled + terms * (plain * passes + reference), terms * learned * passes)


_TRAJECTORY = ("flow_grpo", "ddpo")


def _needs_kl(config: RunConfig) -> bool:
    return config.update.kl_weight > 0 and config.algorithm.name != "dpo"  # DPO has its reference already


def _images(config: RunConfig) -> int:
    """Sampled, or shown from the folder."""
    if isinstance(config.algorithm, SFT):
        return config.num_updates * config.algorithm.batch_size
    rollouts = -(-config.num_updates // config.update.updates_per_rollout)
    return rollouts * config.rollout.group_size * config.rollout.groups_per_update


def _terms(config: RunConfig) -> int:
    """Samples times trained steps or noise levels."""
    images, rollout, algorithm = _images(config), config.rollout, config.algorithm
    if isinstance(algorithm, SFT):
        return images
    if isinstance(algorithm, FlowGRPO | DDPO):
        steps = rollout.num_steps - 1 if rollout.window == "all" else rollout.window_size
        return images * max(1, int(rollout.trained_share * steps + 1e-9))
    if isinstance(algorithm, DPO):
        return 2 * algorithm.levels * (images // rollout.group_size)
    return images * algorithm.levels


def _per_term(config: RunConfig, guided: int) -> tuple[int, int]:
    """(network calls with a gradient, without one) of one term, the reference's not counted."""
    algorithm = config.algorithm
    if isinstance(algorithm, FlowGRPO | DDPO):
        return (guided, 0) if algorithm.unconditional_gradient or guided == 1 else (1, 1)
    return (1, 1) if isinstance(algorithm, NFT | AWM | DPO) else (1, 0)


class Sizes:
    """The modules of a base under fake tensors, with the adapter that would learn.

    Args:
        dtype: of the base's weights.
    """

    def __init__(self, base: Architecture, adapter: LoraConfig, dtype: torch.dtype = torch.float32) -> None:
        self.base, self.dtype = base, dtype
        network, vae = base.build_network().to(dtype), base.build_vae().to(dtype)
        network.requires_grad_(False)
        targets = adapter.targets or base.default_targets
        lora.attach(network, adapter.model_copy(update={"targets": targets}), seed=0)
        self.adapter = lora.parameters(network)
        self._pretence = pretending()
        with self._pretence:
            self.network: nn.Module = network.to_empty(device="cpu")
            self.vae: nn.Module = vae.to_empty(device="cpu").eval()

    @property
    def weight_bytes(self) -> int:
        """Of the denoiser without its adapter, and the VAE."""
        held = sum(_bytes(p) for module in (self.network, self.vae) for p in module.parameters())
        return held - self.adapter_bytes

    @property
    def adapter_bytes(self) -> int:
        """Of the adapter, float32."""
        return sum(4 * parameter.numel() for parameter in self.adapter.values())

    def denoise(self, rows: int, width: int, height: int, *, learns: bool) -> Pass:
        """One call of the denoiser on so many images, and its backward pass where it learns."""
        with self._pretence:
            latents, words = self._inputs(rows, width, height)
            held = [*self.network.parameters(), *self.network.buffers(), latents, *_tensors(words)]
            with torch.set_grad_enabled(learns), counted(held) as (live, flops):
                said = self.network(latents, **words, return_dict=False)[0]
                if learns:
                    said.float().square().mean().backward()
                    self.network.zero_grad(set_to_none=True)
                del said
        return Pass(live.peak, flops.get_total_flops())

    def decode(self, rows: int, width: int, height: int) -> Pass:
        """One call of the VAE's decoder."""
        side = self.base.vae_factor
        with self._pretence, torch.no_grad():
            shape = (rows, self.base.vae["latent_channels"], height // side, width // side)
            latents = torch.empty(shape, dtype=self.dtype)
            with counted([*self.vae.parameters(), latents]) as (live, flops):
                self.vae.decode(latents, return_dict=False)  # type: ignore[operator]
        return Pass(live.peak, flops.get_total_flops())

    def _inputs(self, rows: int, width: int, height: int) -> tuple[Tensor, dict[str, object]]:
        """What the denoiser is called with: its latents, and the rest by name."""
        side, (tokens, wide, pooled) = self.base.vae_factor, self.base.words

        def empty(*shape: int) -> Tensor:
            return torch.empty(*shape, dtype=self.dtype)

        words, latents = empty(rows, tokens, wide), (height // side, width // side)
        channels = int(self.base.network["in_channels"])
        if self.base.family == "flux":
            number = (latents[0] // 2) * (latents[1] // 2)
            return empty(rows, number, channels), {
                "timestep": empty(rows), "guidance": empty(rows), "encoder_hidden_states": words,
                "pooled_projections": empty(rows, pooled), "txt_ids": empty(tokens, 3),
                "img_ids": empty(number, 3),
            }  # fmt: skip
        image = empty(rows, channels, *latents)
        if self.base.family == "sd3":
            return image, {
                "timestep": empty(rows), "encoder_hidden_states": words,
                "pooled_projections": empty(rows, pooled),
            }  # fmt: skip
        added = {"text_embeds": empty(rows, pooled), "time_ids": empty(rows, 6)} if pooled else None
        return image, {"timestep": empty(1), "encoder_hidden_states": words, "added_cond_kwargs": added}


def memory_of(sizes: Sizes, config: RunConfig, *, on_gpu: bool) -> Memory:
    """Peak bytes of each phase of a run on one device."""
    rollout, rows = config.rollout, config.update.micro_batch_size
    size = (rollout.width, rollout.height)
    takes_input = bool(sizes.base.network.get("guidance_embeds"))
    sampled = 2 * rows if rollout.guidance_scale > 1 and not takes_input else rows
    element = torch.finfo(sizes.dtype).bits // 8
    phases = {
        "rollout": sizes.denoise(sampled, *size, learns=False).peak_bytes,
        "decode": sizes.decode(rows, *size).peak_bytes,
        "update": sizes.denoise(rows, *size, learns=True).peak_bytes,
        "words": sizes.base.text_parameters * element,
    }
    copies = 6 if config.algorithm.name in ("nft", "awm", "dpo") else 5
    # The adapter itself, its gradient, two moments, the average, and an algorithm's own copy.
    learner = copies * sizes.adapter_bytes
    return Memory(sizes.weight_bytes, learner, phases, GPU_CONTEXT if on_gpu else 0)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(words: dict[str, object]) -> list[Tensor]:
    nested = [v for value in words.values() for v in (value.values() if isinstance(value, dict) else [value])]
    return [value for value in nested if isinstance(value, Tensor)]
