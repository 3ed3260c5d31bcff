"""Drives a UNet pipeline of the SDXL architecture (SDXL, SSD-1B, the starter) as a rectified flow.

The pipeline supplies weights, tokenizers and configuration; the loop, the guidance and the latents'
coordinates are ours, and tests hold them against the pipeline's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from flowgrpo import flow
from flowgrpo.policies.base import Policy, Words
from flowgrpo.policies.schedules import read_schedule


class UNetPolicy(Policy):
    """An SDXL pipeline and its active adapter."""

    family = "sdxl"

    def __init__(self, pipeline: StableDiffusionXLPipeline, device: torch.device) -> None:
        unet = pipeline.unet.to(device=device, memory_format=torch.channels_last)
        super().__init__(pipeline, unet, (pipeline.text_encoder, pipeline.text_encoder_2), device)
        if unet.config.time_cond_proj_dim is not None:
            raise ValueError(
                "the UNet takes guidance as an input (LCM); FlowGRPO needs one with plain guidance"
            )
        self.prediction, self.schedule = read_schedule(pipeline.scheduler)

    @classmethod
    def load(cls, source: str | Path, *, device: torch.device, dtype: torch.dtype) -> UNetPolicy:
        """From a diffusers folder or a hub id; safetensors only."""
        pipeline = StableDiffusionXLPipeline.from_pretrained(source, dtype=dtype, use_safetensors=True)
        return cls(pipeline, device)

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

    def _predict(self, latents: Tensor, t: flow.Time, words: Words) -> Tensor:
        network_input = flow.to_vp(latents.float(), t).to(self.dtype, memory_format=torch.channels_last)
        prediction = self.network(
            network_input,
            self.model_time(t),
            encoder_hidden_states=words["embeds"],
            added_cond_kwargs={"text_embeds": words["pooled"], "time_ids": words["time_ids"]},
            return_dict=False,
        )[0]
        return cast(Tensor, prediction).float()
