"""An SDXL pipeline behind the interface that TRL's DDPO speaks to, which is Stable Diffusion 1.5's.

The trainer hands the UNet latents, times and one tensor of words. SDXL's UNet wants two encoders' words, a
pooled vector and sizes as well: the pooled vector travels as one more row of the words, padded with zeros,
and is taken out again before the UNet. Arithmetic, sampler and log-probabilities are TRL's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn.functional import pad
from trl.models import DDPOPipelineOutput, DDPOStableDiffusionPipeline
from trl.models.modeling_sd_base import scheduler_step


class _UNet(nn.Module):
    """Takes the pooled vector out of the words."""

    def __init__(self, unet: nn.Module, width: int, side: int) -> None:
        super().__init__()
        self.inner, self.width, self.side = unet, width, side

    def forward(self, latents: Tensor, timesteps: Tensor, words: Tensor) -> Any:
        sizes = torch.tensor([[self.side, self.side, 0, 0, self.side, self.side]]).to(words)
        added = {"text_embeds": words[:, -1, : self.width], "time_ids": sizes.expand(len(words), -1)}
        return self.inner(latents, timesteps, words[:, :-1], added_cond_kwargs=added)


class _Encoder(nn.Module):
    """Both encoders, called with the tokens of the first."""

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        super().__init__()
        self.first, self.second, self.pipeline = pipeline.text_encoder, pipeline.text_encoder_2, [pipeline]

    @torch.no_grad()
    def forward(self, ids: Tensor) -> tuple[Tensor]:
        (pipeline,) = self.pipeline
        texts = pipeline.tokenizer.batch_decode(ids, skip_special_tokens=True)
        words, _, pooled, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False)
        row = pad(pooled, (0, words.shape[-1] - pooled.shape[-1]))
        packed = torch.cat([words, row[:, None]], 1)
        if pipeline.config.force_zeros_for_empty_prompt:  # its empty prompt is no encoding
            packed = packed * torch.tensor([float(bool(text)) for text in texts])[:, None, None]
        return (packed,)


class SDXLForTRL(DDPOStableDiffusionPipeline):  # type: ignore[misc]
    """What `DefaultDDPOStableDiffusionPipeline` is to SD 1.5."""

    use_lora = True

    def __init__(self, folder: str, rank: int = 4) -> None:
        self.sd_pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
        self.sd_pipeline.scheduler = DDIMScheduler.from_config(self.sd_pipeline.scheduler.config)
        for part in (self.vae, self.sd_pipeline.unet, self.sd_pipeline.text_encoder):
            part.requires_grad_(False)
        self.sd_pipeline.text_encoder_2.requires_grad_(False)
        self.rank, self.side = (
            rank,
            self.sd_pipeline.unet.config.sample_size * self.sd_pipeline.vae_scale_factor,
        )
        width = self.sd_pipeline.text_encoder_2.config.projection_dim
        self._unet, self._encoder = _UNet(self.sd_pipeline.unet, width, self.side), _Encoder(self.sd_pipeline)

    @torch.no_grad()
    def __call__(
        self, *, prompt_embeds: Tensor, negative_prompt_embeds: Tensor, num_inference_steps: int,
        guidance_scale: float, eta: float, output_type: str,
    ) -> DDPOPipelineOutput:  # fmt: skip
        """As TRL's `pipeline_step`, whose loop this is."""
        pipeline, words = self.sd_pipeline, prompt_embeds
        if guidance_scale > 1:
            words = torch.cat([negative_prompt_embeds, prompt_embeds])
        self.scheduler.set_timesteps(num_inference_steps)
        shape = (len(prompt_embeds), self.sd_pipeline.unet.config.in_channels)
        side = self.side // pipeline.vae_scale_factor
        latents = torch.randn(*shape, side, side) * self.scheduler.init_noise_sigma
        all_latents, log_probs = [latents], []
        for t in self.scheduler.timesteps:
            said = self._said(latents, t, words, guidance_scale)
            step = scheduler_step(self.scheduler, said, t, latents, eta)
            latents = step.latents
            all_latents.append(latents)
            log_probs.append(step.log_probs)
        images = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
        return DDPOPipelineOutput(
            pipeline.image_processor.postprocess(images, output_type), all_latents, log_probs
        )

    def _said(self, latents: Tensor, t: Tensor, words: Tensor, guidance_scale: float) -> Tensor:
        if guidance_scale <= 1:
            return self._unet(latents, t, words).sample  # type: ignore[no-any-return]
        negative, positive = self._unet(torch.cat([latents] * 2), t, words).sample.chunk(2)
        return negative + guidance_scale * (positive - negative)  # type: ignore[no-any-return]

    def scheduler_step(self, *args: Any, **keywords: Any) -> Any:
        return scheduler_step(self.scheduler, *args, **keywords)

    @property
    def unet(self) -> nn.Module:
        return self._unet

    @property
    def vae(self) -> Any:
        return self.sd_pipeline.vae

    @property
    def tokenizer(self) -> Any:
        return self.sd_pipeline.tokenizer

    @property
    def scheduler(self) -> Any:
        return self.sd_pipeline.scheduler

    @property
    def text_encoder(self) -> nn.Module:
        return self._encoder

    @property
    def autocast(self) -> Callable[[], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext

    def set_progress_bar_config(self, **settings: Any) -> None:
        self.sd_pipeline.set_progress_bar_config(**settings)

    def get_trainable_layers(self) -> nn.Module:
        """TRL's adapter for SD 1.5."""
        self.sd_pipeline.unet.add_adapter(
            LoraConfig(
                r=self.rank, lora_alpha=self.rank, init_lora_weights="gaussian",
                target_modules=["to_k", "to_q", "to_v", "to_out.0"],
            )
        )  # fmt: skip
        return self._unet
