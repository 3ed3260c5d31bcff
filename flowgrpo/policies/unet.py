"""Drives UNet pipelines as rectified flows: SDXL, SSD-1B and the starter; Stable Diffusion 1.5.

The pipeline supplies weights, tokenizers and configuration; the loop, the guidance and the latents'
coordinates are ours, and tests hold them against the pipeline's own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowgrpo import flow
from flowgrpo.policies.base import Policy, Words, memory_format
from flowgrpo.policies.schedules import read_schedule


class UNetPolicy(Policy):
    """What SDXL and SD 1.5 share: a network in VP coordinates."""

    lora_prefix = "unet."
    default_targets = (
        "to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "proj_out",
        "ff.net.0.proj", "ff.net.2",
    )  # fmt: skip

    def __init__(
        self, pipeline: Any, text_encoders: Sequence[nn.Module | None], device: torch.device
    ) -> None:
        unet = pipeline.unet.to(device=device, memory_format=memory_format(device))
        super().__init__(pipeline, unet, text_encoders, device)
        if unet.config.time_cond_proj_dim is not None:
            raise ValueError(
                "the UNet takes guidance as an input (LCM); FlowGRPO needs one with plain guidance"
            )
        if unet.config.in_channels != self.vae.config.latent_channels:
            raise ValueError(
                f"the UNet takes {unet.config.in_channels} channels and the VAE gives "
                f"{self.vae.config.latent_channels}: this is an inpainting or editing model, choose its "
                "text-to-image sibling"
            )
        self.prediction, self.schedule = read_schedule(pipeline.scheduler)

    def _predict(self, latents: Tensor, t: flow.Time, words: Words) -> Tensor:
        network_input = flow.to_vp(latents.float(), t).to(
            self.dtype, memory_format=memory_format(self.device)
        )
        prediction = self.network(
            network_input,
            self.model_time(t),
            encoder_hidden_states=words["embeds"],
            added_cond_kwargs=self._added(words),
            return_dict=False,
        )[0]
        return cast(Tensor, prediction).float()

    @abstractmethod
    def _added(self, words: Words) -> Words | None:
        """What the UNet is told besides the words."""


class SDXLPolicy(UNetPolicy):
    """An SDXL pipeline and its active adapter."""

    family = "sdxl"

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        super().__init__(pipeline, (pipeline.text_encoder, pipeline.text_encoder_2), device)

    def _read(self, text: str) -> Words:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            text, device=self.device, do_classifier_free_guidance=False
        )
        return {"embeds": embeds, "pooled": pooled}

    def _unconditional(self, negative_prompt: str, encoded: Words) -> Words:
        """Zeros where the pipeline's configuration says `force_zeros_for_empty_prompt`, else the encoding."""
        if negative_prompt == "" and self.pipeline.config.force_zeros_for_empty_prompt:
            return {name: torch.zeros_like(tensor) for name, tensor in encoded.items()}
        return encoded

    def _extras(self, num_samples: int, width: int, height: int, words: Words) -> Words:
        """SDXL's sizes: original (height, width), crop's top left, target (height, width)."""
        sizes = torch.tensor([[height, width, 0, 0, height, width]]).to(words["embeds"])
        return {"time_ids": sizes.expand(num_samples, -1)}

    def _added(self, words: Words) -> Words | None:
        return {"text_embeds": words["pooled"], "time_ids": words["time_ids"]}


class SD15Policy(UNetPolicy):
    """A Stable Diffusion 1.5 pipeline and its active adapter; epsilon or v prediction."""

    family = "sd15"

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        super().__init__(pipeline, (pipeline.text_encoder,), device)

    def _read(self, text: str) -> Words:
        embeds, _ = self.pipeline.encode_prompt(text, self.device, 1, do_classifier_free_guidance=False)
        return {"embeds": embeds}

    def _added(self, words: Words) -> Words | None:
        return None
