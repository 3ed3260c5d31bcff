"""Tiny StableDiffusion3Pipeline and FluxPipeline folders of the real classes, with random weights: 64 px,
factor 4, four latent channels.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)  # fmt: skip
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)  # fmt: skip

from tests.tiny import HIDDEN, tiny_text_config, tiny_tokenizer


def tiny_t5_tokenizer() -> T5TokenizerFast:
    """Letters, digits and punctuation, each a token of its own."""
    tokens = ["<pad>", "</s>", "<unk>", *string.ascii_lowercase, *string.digits, *string.punctuation, "▁"]
    pieces = [(token, -float(index)) for index, token in enumerate(tokens)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    return T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0)


def tiny_t5(vocab_size: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=vocab_size, d_model=2 * HIDDEN, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
            is_encoder_decoder=False, dropout_rate=0.0,
        )
    )  # fmt: skip


def tiny_flow_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1, norm_num_groups=4, sample_size=64, scaling_factor=1.5, shift_factor=0.06,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def tiny_sd3(folder: Path, seed: int = 0, *, with_t5: bool = True, is_35: bool = True, **levels: Any) -> Path:
    """Writes an SD3 pipeline whose weights follow from `seed`; without T5, zeros stand for its words.

    is_35: like SD3.5-medium, with normed queries and keys and a second attention, or like SD3 with neither.
    levels: of the scheduler, a static shift of 3 where nothing is said.
    """
    newer: dict[str, Any] = {"dual_attention_layers": (0,), "qk_norm": "rms_norm"} if is_35 else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizers, t5 = (tiny_tokenizer(), tiny_tokenizer()), tiny_t5_tokenizer()
        config = tiny_text_config(len(tokenizers[0]))
        transformer = SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
            attention_head_dim=8, num_attention_heads=4, joint_attention_dim=2 * HIDDEN,
            caption_projection_dim=32, pooled_projection_dim=2 * HIDDEN, pos_embed_max_size=32,
            **newer,
        )  # fmt: skip
        pipeline = StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0} | levels),
            vae=tiny_flow_vae(),
            text_encoder=CLIPTextModelWithProjection(config),
            tokenizer=tokenizers[0],
            text_encoder_2=CLIPTextModelWithProjection(config),
            tokenizer_2=tokenizers[1],
            text_encoder_3=tiny_t5(len(t5)) if with_t5 else None,
            tokenizer_3=t5 if with_t5 else None,
        )
    pipeline.save_pretrained(folder)
    return folder


def tiny_flux(folder: Path, seed: int = 0, *, guidance_input: bool = True, **levels: Any) -> Path:
    """Writes a FLUX.1 pipeline: like dev, with guidance as an input and a shift that grows with the image,
    or like schnell, with neither; `levels` are the scheduler's, if others.
    """
    usual = {"shift": 3.0 if guidance_input else 1.0, "use_dynamic_shifting": guidance_input}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer, t5 = tiny_tokenizer(), tiny_t5_tokenizer()
        transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=2 * HIDDEN, pooled_projection_dim=HIDDEN,
            guidance_embeds=guidance_input, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        pipeline = FluxPipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(**usual | levels),
            vae=tiny_flow_vae(),
            text_encoder=CLIPTextModel(tiny_text_config(len(tokenizer))),
            tokenizer=tokenizer,
            text_encoder_2=tiny_t5(len(t5)),
            tokenizer_2=t5,
        )
    pipeline.save_pretrained(folder)
    return folder


def plain(folder: Path) -> Any:
    """diffusers' own pipeline of a folder; of parts that SD3 goes without it wants to be told."""
    parts = ("text_encoder_3", "tokenizer_3")
    index = (folder / "model_index.json").read_text()
    absent = {part: None for part in parts if part in index and not (folder / part).is_dir()}
    pipeline = DiffusionPipeline.from_pretrained(folder, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
