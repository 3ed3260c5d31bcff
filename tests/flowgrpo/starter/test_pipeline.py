from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from flowgrpo.starter import pipeline, vae
from flowgrpo.starter import vocabulary as v


@pytest.fixture(scope="module")
def untrained() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    return pipeline.assemble(vae.build())


def test_every_known_word_is_one_token_and_any_other_falls_apart() -> None:
    tok = pipeline.tokenizer()
    assert all(tok.tokenize(word) == [word + "</w>"] for word in v.KNOWN_WORDS)
    assert len(tok.tokenize("zebra")) > 1
    assert tok.unk_token_id not in tok("zebra", add_special_tokens=False).input_ids


def test_the_longest_caption_fits_the_tokenizer() -> None:
    longest = ", ".join([v.SUBJECT, *(max(slot.values, key=lambda tag: tag.count(" ")) for slot in v.SLOTS)])
    assert len(pipeline.tokenizer()(longest).input_ids) <= pipeline.MAX_TOKENS


def test_the_denoiser_has_at_most_six_million_parameters(untrained: StableDiffusionXLPipeline) -> None:
    assert sum(p.numel() for p in untrained.unet.parameters()) <= 6_000_000


def test_plain_diffusers_loads_the_saved_pipeline_in_float32_and_draws_with_it(
    untrained: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    pipeline.save(untrained, tmp_path)
    loaded = StableDiffusionXLPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert {p.dtype for p in (*loaded.unet.parameters(), *loaded.vae.parameters())} == {torch.float32}
    image = loaded(
        "portrait, glasses", num_inference_steps=2, generator=torch.Generator().manual_seed(0)
    ).images[0]
    assert image.size == (64, 64)


def test_normalising_the_latents_leaves_reconstructions_as_they_were() -> None:
    torch.manual_seed(1)
    model = vae.build().eval()
    images = torch.rand(6, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = model.encode(images).latent_dist
        drawn = model.decode(before.mode()).sample
        pipeline.normalise_latents(model, before.mean, before.std)
        after = model.encode(images).latent_dist
    torch.testing.assert_close(model.decode(after.mode()).sample, drawn, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    total = after.mean.var((0, 2, 3)) + after.std.pow(2).mean((0, 2, 3))
    torch.testing.assert_close(total, torch.ones(8), atol=1e-3, rtol=0)
