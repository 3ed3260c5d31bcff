"""Drives a UNet pipeline of the SDXL architecture (SDXL, SSD-1B, the starter) as a rectified flow.

The pipeline supplies weights, tokenizers and configuration; the loop, the guidance and the latents'
coordinates are ours, and tests hold them against the pipeline's own. Nothing here draws noise or knows about
rewards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from diffusers import StableDiffusionXLPipeline
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from flowgrpo import flow, lora
from flowgrpo.config import LoraConfig
from flowgrpo.policies.karras import KarrasSchedule

MAX_CACHED_PROMPTS = 4096
PREDICTIONS = ("epsilon", "v_prediction", "sample")
OTHER_LEVELS = {
    "use_exponential_sigmas": False, "use_beta_sigmas": False, "use_lu_lambdas": False,
    "interpolation_type": "linear", "final_sigmas_type": "zero", "timestep_type": "discrete",
    "sigma_min": None, "sigma_max": None,
}  # fmt: skip
"""Options of diffusers' schedulers that choose other noise levels than ours, with the value that does not."""


@dataclass(frozen=True)
class Conditioning:
    """What the network is told about each sample; the negative half is None where there is no guidance."""

    embeds: Float[Tensor, "sample token embed"]
    pooled: Float[Tensor, "sample pooled"]
    time_ids: Float[Tensor, "sample 6"]
    negative_embeds: Float[Tensor, "sample token embed"] | None = None
    negative_pooled: Float[Tensor, "sample pooled"] | None = None

    def rows(self, rows: slice) -> Conditioning:
        """The conditioning of some of the samples."""
        negative_embeds = None if self.negative_embeds is None else self.negative_embeds[rows]
        negative_pooled = None if self.negative_pooled is None else self.negative_pooled[rows]
        return Conditioning(
            self.embeds[rows], self.pooled[rows], self.time_ids[rows], negative_embeds, negative_pooled
        )

    def guided(self) -> tuple[Tensor, Tensor, Tensor]:
        """(embeds, pooled, time_ids) with the negative half first, in the order of diffusers' pipelines."""
        if self.negative_embeds is None or self.negative_pooled is None:
            raise ValueError("guidance needs a conditioning that was encoded with guided=True")
        return (
            torch.cat([self.negative_embeds, self.embeds]),
            torch.cat([self.negative_pooled, self.pooled]),
            torch.cat([self.time_ids, self.time_ids]),
        )


class UNetPolicy:
    """A pipeline and its active adapter: velocity in, images out.

    Weights are frozen and in eval mode, and stay so: rollout and update must run the same network.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline, device: torch.device) -> None:
        self.pipeline = pipeline
        self.device = device
        self.dtype: torch.dtype = pipeline.unet.dtype
        self.unet = pipeline.unet.to(device=device, memory_format=torch.channels_last)
        self.vae = pipeline.vae.to(device=device)
        if self.dtype == torch.float16 and self.vae.config.force_upcast:
            self.vae.to(dtype=torch.float32)  # SDXL's VAE overflows float16 and gives black images
        for module in (self.unet, self.vae, pipeline.text_encoder, pipeline.text_encoder_2):
            if module is not None:
                module.to(device=device).eval().requires_grad_(False)
        if self.unet.config.time_cond_proj_dim is not None:
            raise ValueError(
                "the UNet takes guidance as an input (LCM); FlowGRPO needs one with plain guidance"
            )
        self.prediction, self.schedule = read_schedule(pipeline.scheduler)
        self.lora_config: LoraConfig | None = None
        self._layers: list[BaseTunerLayer] = []
        self._live: dict[str, torch.nn.Parameter] = {}
        self._merged: dict[str, Tensor] = {}
        self._encoded: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    @classmethod
    def load(cls, source: str | Path, *, device: torch.device, dtype: torch.dtype) -> UNetPolicy:
        """From a diffusers folder or a hub id; safetensors only."""
        pipeline = StableDiffusionXLPipeline.from_pretrained(source, dtype=dtype, use_safetensors=True)
        return cls(pipeline, device)

    # Shapes

    @property
    def vae_factor(self) -> int:
        """Pixels per latent element along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(channel, height, width) of one sample's latents."""
        for name, size in (("width", width), ("height", height)):
            if size < 1 or size % self.vae_factor:
                nearest = max(1, round(size / self.vae_factor)) * self.vae_factor
                raise ValueError(f"{name} must be a multiple of {self.vae_factor}, got {size}: try {nearest}")
        return int(self.unet.config.in_channels), height // self.vae_factor, width // self.vae_factor

    # Words

    def encode(
        self,
        prompts: Sequence[str],
        negative_prompt: str = "",
        *,
        guided: bool,
        width: int,
        height: int,
    ) -> Conditioning:
        """Conditioning of one sample per prompt. Each text is encoded once, alone, and remembered.

        An empty negative prompt means the unconditional embedding: zeros where the pipeline's configuration
        says `force_zeros_for_empty_prompt`, else the encoding of "", as for diffusers'
        `negative_prompt=None`.
        """
        embeds, pooled = self._stack([self._encode(prompt) for prompt in prompts])
        time_ids = torch.tensor(
            [[height, width, 0, 0, height, width]], dtype=embeds.dtype, device=self.device
        )
        time_ids = time_ids.expand(len(prompts), -1)
        if not guided:
            return Conditioning(embeds, pooled, time_ids)
        if negative_prompt == "" and self.pipeline.config.force_zeros_for_empty_prompt:
            return Conditioning(embeds, pooled, time_ids, torch.zeros_like(embeds), torch.zeros_like(pooled))
        return Conditioning(
            embeds, pooled, time_ids, *self._stack([self._encode(negative_prompt)] * len(prompts))
        )

    def _encode(self, text: str) -> tuple[Tensor, Tensor]:
        if text not in self._encoded:
            with torch.no_grad():
                embeds, _, pooled, _ = self.pipeline.encode_prompt(
                    text, device=self.device, do_classifier_free_guidance=False
                )
            self._encoded[text] = embeds[0], pooled[0]
        self._encoded.move_to_end(text)
        while len(self._encoded) > MAX_CACHED_PROMPTS:
            self._encoded.popitem(last=False)
        return self._encoded[text]

    @staticmethod
    def _stack(encoded: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        embeds, pooled = zip(*encoded, strict=True)
        return torch.stack(embeds), torch.stack(pooled)

    # The network

    def velocity(
        self, latents: flow.Latents, t: float, conditioning: Conditioning, guidance_scale: float = 1.0
    ) -> flow.Latents:
        """The velocity eps_hat - x0_hat at RF latents of time t, after guidance; float32.

        Guidance is v = v_uncond + guidance_scale (v_cond - v_uncond) on what the network predicts, both
        halves in one batch; at scale 1 only the conditional half is computed.
        """
        if guidance_scale <= 1:
            prediction = self._predict(
                latents, t, conditioning.embeds, conditioning.pooled, conditioning.time_ids
            )
        else:
            both = self._predict(torch.cat([latents, latents]), t, *conditioning.guided())
            unconditional, conditional = both.chunk(2)
            prediction = unconditional + guidance_scale * (conditional - unconditional)
        return flow.velocity_from(prediction, latents.float(), t, self.prediction)

    def _predict(self, latents: Tensor, t: float, embeds: Tensor, pooled: Tensor, time_ids: Tensor) -> Tensor:
        network_input = flow.to_vp(latents.float(), t).to(self.dtype, memory_format=torch.channels_last)
        prediction = self.unet(
            network_input,
            torch.tensor(self.schedule.timestep(t), dtype=torch.float32, device=self.device),
            encoder_hidden_states=embeds,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return cast(Tensor, prediction).float()

    @torch.no_grad()
    def decode(self, latents: flow.Latents) -> Float[Tensor, "sample 3 height width"]:
        """Images in [0, 1], float32, of clean latents (time 0, where RF and VP coordinates agree)."""
        config = self.vae.config
        scaled = latents.to(self.vae.dtype) / config.scaling_factor
        if (
            getattr(config, "latents_mean", None) is not None
            and getattr(config, "latents_std", None) is not None
        ):
            mean, std = (
                torch.tensor(x).to(scaled).view(1, -1, 1, 1)
                for x in (config.latents_mean, config.latents_std)
            )
            scaled = scaled * std + mean
        images: Tensor = self.vae.decode(scaled, return_dict=False)[0].float()
        return (images / 2 + 0.5).clamp(0, 1)

    # Adapters

    def attach_lora(self, config: LoraConfig, seed: int = 0) -> None:
        """Adds a fresh adapter that changes nothing yet and is all that learns; `seed` fixes its start."""
        if self.lora_config is not None:
            raise ValueError("this policy has an adapter already: load the policy again to attach another")
        lora.attach(self.unet, config, seed)
        self.unet.to(memory_format=torch.channels_last)
        self._layers, self._live = lora.layers(self.unet), lora.parameters(self.unet)
        self.lora_config = config

    def trainable_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Name (`<module>.lora_A.weight`) to parameter, in the network's order; float32."""
        return self._live

    def load_adapter(self, checkpoint: Path, which: str = "ema") -> None:
        """Adds a checkpoint's adapter to the weights, for sampling at the base's own speed; replaces an
        earlier one.
        """
        if self.lora_config is not None:
            raise ValueError(
                "a policy that is being tuned cannot load a second adapter: load the policy again"
            )
        config, tensors = lora.load(checkpoint, which)
        self.unload_adapter()
        self._merged = lora.merge(self.unet, config, tensors)

    def unload_adapter(self) -> None:
        """Back to the base, bit for bit."""
        lora.unmerge(self.unet, self._merged)
        self._merged = {}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the adapter is off: the policy that KL is measured against."""
        with lora.disabled(self._layers, self._live):
            yield

    @contextmanager
    def weights(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the adapter holds `tensors` (the EMA, to evaluate it); afterwards what it held before, bit
        for bit.
        """
        with lora.swapped(self._live, tensors):
            yield


def read_schedule(scheduler: object) -> tuple[flow.Prediction, flow.VPSchedule]:
    """What the network predicts, and the noise levels it knows, from a VP scheduler of diffusers.

    Raises ValueError for a scheduler of another kind, or one that asks for noise levels that we do not draw.
    """
    config = getattr(scheduler, "config", {})
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS or not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"{type(scheduler).__name__} with prediction_type {prediction!r} is no variance-preserving "
            f"schedule; expected one that predicts {', '.join(PREDICTIONS)}"
        )
    for option, usual in OTHER_LEVELS.items():
        if config.get(option, usual) != usual:
            raise ValueError(
                f"the scheduler asks for noise levels by {option}={config[option]!r}, which FlowGRPO "
                f"does not draw: set it to {usual!r} in scheduler_config.json or choose another model"
            )
    spacing = config.get("timestep_spacing", "leading")
    starts_at_sigma = type(scheduler).__name__ == "EulerDiscreteScheduler" and spacing != "leading"
    family = KarrasSchedule if config.get("use_karras_sigmas") else flow.VPSchedule
    schedule = family.from_alphas_cumprod(
        scheduler.alphas_cumprod.tolist(),
        spacing,
        int(config.get("steps_offset", 0)),
        unit_start=not starts_at_sigma,
    )
    return cast(flow.Prediction, prediction), schedule
