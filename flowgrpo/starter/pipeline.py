"""The starter's pipeline: SDXL's architecture at 4 million parameters, of diffusers' own classes."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from flowgrpo.starter import vocabulary as v

MAX_TOKENS = 40
TEXT_WIDTH = 64
START, END = "<|startoftext|>", "<|endoftext|>"


def _pieces(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: the pair of the lowest rank merges first."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = [(ranks.get(pair, len(ranks)), i) for i, pair in enumerate(pairwise(pieces))]
        rank, i = min(pairs, default=(len(ranks), 0))
        if rank == len(ranks):
            return pieces
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE over our own words: a known word is one token, any other falls apart."""
    letters = [chr(c) for c in range(33, 127)]
    tokens = [START, END, *letters, *(letter + "</w>" for letter in letters)]
    ranks: dict[tuple[str, str], int] = {}
    for word in sorted(v.KNOWN_WORDS):
        while len(pieces := _pieces(word, ranks)) > 1:
            ranks[pieces[0], pieces[1]] = len(ranks)
            tokens.append(pieces[0] + pieces[1])
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=list(ranks), model_max_length=MAX_TOKENS)


def _text_config(tok: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tok),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=3,  # the pipeline reads the last but one
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(2, 4),  # diffusers reads this as the number of heads, as in SDXL's own config
        cross_attention_dim=2 * TEXT_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 16,
        use_linear_projection=True,
        norm_num_groups=16,
    )


def assemble(vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """A pipeline with an untrained denoiser and text encoders around a trained autoencoder."""
    tok = tokenizer()
    text_config = _text_config(tok)
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config),
        text_encoder_2=CLIPTextModelWithProjection(text_config),
        tokenizer=tok,
        tokenizer_2=tokenizer(),
        unet=_unet().to(memory_format=torch.channels_last),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="trailing",
            steps_offset=1,
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load(folder: Path) -> StableDiffusionXLPipeline:
    """Loads a saved pipeline with diffusers' own loader."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, use_safetensors=True, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, means: Tensor, stds: Tensor) -> None:
    """Folds per-channel centring and scaling into the 1x1 convolutions around the latents.

    Afterwards the data's latents have zero mean and unit variance per channel, and `scaling_factor` is 1.

    Args:
        means, stds: posterior means and stds of the data, `(sample, channel, height, width)`.
    """
    m = means.mean((0, 2, 3))
    s = (means.var((0, 2, 3)) + stds.pow(2).mean((0, 2, 3))).sqrt()
    quant, post = vae.quant_conv, vae.post_quant_conv
    c = len(s)
    quant.weight[:c] /= s[:, None, None, None]
    quant.bias[:c] = (quant.bias[:c] - m) / s
    quant.bias[c:] -= 2 * s.log()
    post.bias += post.weight[:, :, 0, 0] @ m
    post.weight *= s[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)


def save(pipeline: StableDiffusionXLPipeline, folder: Path) -> None:
    """Writes the pipeline; denoiser and autoencoder in half precision, which diffusers loads as float32."""
    pipeline.save_pretrained(folder)
    for name in ("unet", "vae"):
        copy.deepcopy(getattr(pipeline, name)).half().save_pretrained(folder / name)
