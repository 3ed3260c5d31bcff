"""Drives FLUX.1: latents stay images here and are packed two by two where the transformer is called.

FLUX.1-dev was distilled with guidance as an input: a guidance scale costs nothing and there is no negative
prompt. FLUX.1-schnell has no such input; a guidance scale above 1 is then plain guidance, in two halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowgrpo import flow
from flowgrpo.policies.base import Conditioning, Policy, Words
from flowgrpo.policies.schedules import read_flow_levels
from flowgrpo.policies.sd3 import MMDIT_TARGETS


class FluxPolicy(Policy):
    """A FLUX.1 pipeline and its active adapter."""

    family = "flux"
    default_targets = MMDIT_TARGETS

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        network = pipeline.transformer.to(device=device)
        super().__init__(pipeline, network, (pipeline.text_encoder, pipeline.text_encoder_2), device)
        self.levels = read_flow_levels(pipeline.scheduler, own_ends=False)
        self.schedule = self.levels.schedule
        self.has_guidance_input = bool(network.config.guidance_embeds)
        self._asked: tuple[Tensor, ...] = ()
        network.time_text_embed.register_forward_pre_hook(self._exactly)

    @property
    def latent_channels(self) -> int:
        """The transformer sees four latent elements as one token."""
        return int(self.network.config.in_channels) // 4

    @property
    def size_step(self) -> int:
        """Two latent elements."""
        return 2 * self.vae_factor

    def grid(self, num_steps: int, width: int, height: int) -> tuple[float, ...]:
        """The `num_steps + 1` decreasing times; larger images get more noise where the folder says so."""
        return self.levels.at((width // self.size_step) * (height // self.size_step)).grid(num_steps)

    def velocity_and_half(
        self, latents: flow.Latents, t: flow.Time, conditioning: Conditioning, guidance_scale: float
    ) -> tuple[flow.Latents, Tensor | None]:
        """The velocity; where the network takes the guidance scale, no negative half is read or computed."""
        if not self.has_guidance_input:
            return super().velocity_and_half(latents, t, conditioning, guidance_scale)
        scales = torch.full((len(latents),), guidance_scale, device=self.device)
        return self._predict(latents, t, conditioning.positive | {"guidance": scales}), None

    def _read(self, text: str) -> Words:
        embeds, pooled, _ = self.pipeline.encode_prompt(text, None, device=self.device)
        return {"embeds": embeds, "pooled": pooled}

    def _predict(self, latents: Tensor, t: flow.Time, words: Words) -> Tensor:
        _, _, height, width = latents.shape
        times, guidance = self.model_time(t).expand(len(latents)), words.get("guidance")
        with self._asking(times, guidance):
            prediction = self.network(
                hidden_states=pack(latents.to(self.dtype)),
                timestep=times / 1000,
                guidance=guidance,
                encoder_hidden_states=words["embeds"],
                pooled_projections=words["pooled"],
                txt_ids=torch.zeros(words["embeds"].shape[1], 3, device=self.device),
                img_ids=positions(height // 2, width // 2, self.device),
                return_dict=False,
            )[0]
        return unpack(cast(Tensor, prediction), height, width).float()

    @contextmanager
    def _asking(self, times: Tensor, guidance: Tensor | None) -> Iterator[None]:
        """Inside, the embedding of the time gets these very numbers."""
        self._asked = (times,) if guidance is None else (times, 1000 * guidance)
        try:
            yield
        finally:
            self._asked = ()

    def _exactly(self, _: nn.Module, told: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """diffusers rounds both to the network's dtype, and bfloat16 knows only every fourth timestep."""
        return (*self._asked, told[-1]) if self._asked else told


def pack(latents: Tensor) -> Tensor:
    """(sample, channel, height, width) to (sample, token, 4 channels): squares of 2 by 2 become tokens."""
    squares = latents.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))
    packed: Tensor = squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return packed


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`; height and width in latent elements."""
    squares = tokens.unflatten(2, (-1, 2, 2)).unflatten(1, (height // 2, width // 2))
    latents: Tensor = squares.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
    return latents


def positions(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """(token, 3): 0, row and column of each token; float32, which every size is exact in."""
    row, column = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).flatten(0, 1).float()
