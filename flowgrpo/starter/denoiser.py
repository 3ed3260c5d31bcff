"""Stage 2 of the build: supervised fine-tuning of the denoiser and its text encoders on captioned renders."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from torch import Generator, Tensor, nn

from flowgrpo.objectives import sft_loss, sft_weight
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.portraits import caption
from flowgrpo.starter.training import Plan, Progress, fit

BATCH = 32
CAPTION_DROPOUT = 0.1
"""Share of samples without a caption: what guidance extrapolates from."""
TAG_DROPOUT = 0.1
"""Chance that a tag of a slot which may be free is left out."""
NOISE_WORDS = 0.05
"""Share of captions with a few letters thrown in, so that an unknown word in a prompt does no harm."""


def _noisy(text: str, rng: random.Random) -> str:
    if rng.random() >= NOISE_WORDS:
        return text
    tags = text.split(", ")
    word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8)))
    tags.insert(rng.randint(0, len(tags)), word)
    return ", ".join(tags)


class Conditioner(nn.Module):
    """The two text encoders, as `StableDiffusionXLPipeline.encode_prompt` uses them, with gradients."""

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        super().__init__()
        self.first, self.second = pipeline.text_encoder, pipeline.text_encoder_2

    def forward(self, ids: Tensor, dropped: Tensor) -> tuple[Tensor, Tensor]:
        """ids `(sample, token)`; `dropped` samples get zeros, the pipeline's empty prompt."""
        a = self.first(ids, output_hidden_states=True)
        b = self.second(ids, output_hidden_states=True)
        kept = (~dropped).float()
        tokens = torch.cat([a.hidden_states[-2], b.hidden_states[-2]], -1)
        return tokens * kept[:, None, None], b.text_embeds * kept[:, None]


def train(
    pipeline: StableDiffusionXLPipeline,
    latents: tuple[Tensor, Tensor],
    attributes: list[v.Attributes],
    plan: Plan,
    state_path: Path,
) -> Iterator[Progress]:
    """Minimises the weighted epsilon error at a uniform timestep, some captions dropped.

    Args:
        latents: posterior means and stds of the training images, `(sample, 8, 16, 16)` each, already scaled.
        attributes: what the images show; captions are written anew for every batch.
    """
    noising = DDPMScheduler.from_config(pipeline.scheduler.config)
    unet, conditioner = pipeline.unet, Conditioner(pipeline)
    means, stds = latents
    side = 4 * means.shape[-1]
    weight = sft_weight(noising.alphas_cumprod)
    time_ids = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32).expand(BATCH, 6)

    def batch(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        index = torch.randint(len(means), (BATCH,), generator=generator)
        rng = random.Random(int(index[0]) * 1_000_003 + int(index[1]))
        captions = [_noisy(caption(attributes[i], rng, TAG_DROPOUT), rng) for i in index.tolist()]
        tokens = pipeline.tokenizer(
            captions,
            padding="max_length",
            truncation=True,
            max_length=pipeline.tokenizer.model_max_length,
            return_tensors="pt",
        )
        x0 = means[index] + stds[index] * torch.randn(means[index].shape, generator=generator)
        return x0, tokens.input_ids, torch.rand(BATCH, generator=generator) < CAPTION_DROPOUT

    def loss(step: int, generator: Generator) -> dict[str, Tensor]:
        x0, ids, dropped = batch(generator)
        noise = torch.randn(x0.shape, generator=generator)
        timesteps = torch.randint(noising.config.num_train_timesteps, (BATCH,), generator=generator)
        x = noising.add_noise(x0, noise, timesteps).contiguous(memory_format=torch.channels_last)
        tokens, pooled = conditioner(ids, dropped)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        prediction = unet(x, timesteps, tokens, added_cond_kwargs=added).sample
        return {"sft": sft_loss(prediction, noise, weight[timesteps]).mean()}

    modules = nn.ModuleDict({"unet": unet, "text": conditioner})
    yield from fit("denoiser", modules, loss, plan, state_path)
