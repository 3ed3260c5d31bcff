"""Drives Stable Diffusion 3 and 3.5: an MMDiT that predicts the velocity, with up to three encoders."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from flowgrpo import flow
from flowgrpo.policies.base import Policy, Words
from flowgrpo.policies.schedules import read_flow_levels

MMDIT_TARGETS = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
)  # fmt: skip
"""The eight projections of joint attention, as in Flow-GRPO's recipe for SD3.5 (arXiv 2505.05470).

Its recipe for FLUX.1 adds ff.net.0.proj, ff.net.2, ff_context.net.0.proj and ff_context.net.2. The second
attention of SD3.5-medium's first blocks, attn2, gets no adapter, as there.
"""


class SD3Policy(Policy):
    """An SD3 pipeline and its active adapter. The third encoder (T5) may be absent: zeros stand for it."""

    family = "sd3"
    default_targets = MMDIT_TARGETS

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        network = pipeline.transformer.to(device=device)
        encoders = (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3)
        super().__init__(pipeline, network, encoders, device)
        self.levels = read_flow_levels(pipeline.scheduler, own_ends=True)
        self.schedule = self.levels.schedule

    @property
    def size_step(self) -> int:
        """The VAE's factor times the transformer's patch."""
        return self.vae_factor * int(self.network.config.patch_size)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(channel, height, width) of one sample's latents.

        Raises ValueError for sizes in pixels that do not fit, or that the transformer has no positions for.
        """
        largest = self.size_step * int(self.network.config.pos_embed_max_size)
        for name, size in (("width", width), ("height", height)):
            if size > largest:
                raise ValueError(f"{name} must be at most {largest}, the largest of this model, got {size}")
        return super().latent_shape(width, height)

    def grid(self, num_steps: int, width: int, height: int) -> tuple[float, ...]:
        """The `num_steps + 1` decreasing times; larger images get more noise where the folder says so."""
        return self.levels.at((width // self.size_step) * (height // self.size_step)).grid(num_steps)

    def _read(self, text: str) -> Words:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            text, None, None, device=self.device, do_classifier_free_guidance=False
        )
        return {"embeds": embeds, "pooled": pooled}

    def _predict(self, latents: Tensor, t: flow.Time, words: Words) -> Tensor:
        prediction = self.network(
            hidden_states=latents.to(self.dtype),
            timestep=self.model_time(t).expand(len(latents)),
            encoder_hidden_states=words["embeds"],
            pooled_projections=words["pooled"],
            return_dict=False,
        )[0]
        return cast(Tensor, prediction).float()
