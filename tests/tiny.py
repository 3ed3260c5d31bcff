"""A tiny StableDiffusionXLPipeline folder of the real classes, with random weights: 64 px, 8 latent channels,
factor 4.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)  # fmt: skip
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TEXT_LENGTH = 32
HIDDEN = 16


def tiny_tokenizer() -> CLIPTokenizer:
    """Letters, digits and punctuation, each a token of its own; no merges."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["<|startoftext|>", "<|endoftext|>", *characters, *(f"{c}</w>" for c in characters)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TEXT_LENGTH)


def tiny_text_config(vocab_size: int, width: int = HIDDEN) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TEXT_LENGTH,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def tiny_unet(second_width: int = HIDDEN) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(2, 4),
        cross_attention_dim=HIDDEN + second_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=second_width + 6 * 8,
        use_linear_projection=True,
        norm_num_groups=8,
    )


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.7,
    )


def tiny_scheduler(
    prediction_type: str = "epsilon", spacing: str = "trailing", *, karras: bool = False
) -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing=spacing,
        prediction_type=prediction_type,
        steps_offset=1 if spacing == "leading" else 0,
        use_karras_sigmas=karras,
    )


def tiny_sdxl(
    folder: Path,
    seed: int = 0,
    *,
    prediction_type: str = "epsilon",
    spacing: str = "trailing",
    karras: bool = False,
    force_zeros_for_empty_prompt: bool = True,
    unet: Callable[[int], UNet2DConditionModel] = tiny_unet,
    second_width: int = HIDDEN,
) -> Path:
    """Writes the pipeline with weights that follow from `seed` and returns the folder.

    unet: called with the width of the second text encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizers = tiny_tokenizer(), tiny_tokenizer()
        num_tokens = len(tokenizers[0])
        pipeline = StableDiffusionXLPipeline(
            vae=tiny_vae(),
            text_encoder=CLIPTextModel(tiny_text_config(num_tokens)),
            text_encoder_2=CLIPTextModelWithProjection(tiny_text_config(num_tokens, second_width)),
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=unet(second_width),
            scheduler=tiny_scheduler(prediction_type, spacing, karras=karras),
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def tiny_ssd_unet(second_width: int = HIDDEN) -> UNet2DConditionModel:
    """With what sets SSD-1B's UNet apart from SDXL's: lists of transformer depths per layer, reversed ones
    for the way up, and a middle block without attention.
    """
    return UNet2DConditionModel(
        sample_size=16, in_channels=8, out_channels=8, layers_per_block=2, block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
        transformer_layers_per_block=(0, (2, 2), (2, 1)),
        reverse_transformer_layers_per_block=((1, 1, 2), (2, 1, 1), 0),
        attention_head_dim=(2, 2, 4), cross_attention_dim=HIDDEN + second_width,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=second_width + 6 * 8,
        use_linear_projection=True, norm_num_groups=8,
    )  # fmt: skip


def tiny_sd15(folder: Path, seed: int = 0, *, prediction_type: str = "epsilon") -> Path:
    """Writes a Stable Diffusion 1.5 pipeline with weights that follow from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = tiny_tokenizer()
        pipeline = StableDiffusionPipeline(
            vae=tiny_vae(),
            text_encoder=CLIPTextModel(tiny_text_config(len(tokenizer))),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(
                sample_size=16, in_channels=8, out_channels=8, layers_per_block=1,
                block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4,
                cross_attention_dim=HIDDEN, norm_num_groups=8,
            ),
            scheduler=DDIMScheduler.from_config(
                tiny_scheduler(prediction_type, "leading").config, clip_sample=False, set_alpha_to_one=True
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
