from __future__ import annotations

import random
from pathlib import Path

import torch

from flowgrpo.starter import denoiser, pipeline, vae
from flowgrpo.starter.portraits import sample_attributes
from flowgrpo.starter.training import Plan


def test_the_conditioner_gives_what_the_pipeline_encodes_and_zeros_where_the_caption_is_dropped() -> None:
    torch.manual_seed(0)
    pipe = pipeline.assemble(vae.build())
    pipe.text_encoder.eval()
    pipe.text_encoder_2.eval()
    prompts = ["portrait, red hair", "portrait, zebra, blue background"]
    tokens, _, pooled, _ = pipe.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)
    ids = pipe.tokenizer(prompts, padding="max_length", max_length=40, return_tensors="pt").input_ids
    mine, mine_pooled = denoiser.Conditioner(pipe)(ids, torch.tensor([False, False]))
    torch.testing.assert_close(mine, tokens)
    torch.testing.assert_close(mine_pooled, pooled)
    dropped, dropped_pooled = denoiser.Conditioner(pipe)(ids, torch.tensor([False, True]))
    assert dropped[1].eq(0).all()
    assert dropped_pooled[1].eq(0).all()
    assert dropped[0].ne(0).any()


def test_a_few_steps_of_fine_tuning_move_the_denoiser_and_its_text_encoders(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = pipeline.assemble(vae.build())
    before = {n: p.detach().clone() for n, p in pipe.text_encoder.named_parameters()}
    attributes = [sample_attributes(random.Random(i)) for i in range(8)]
    latents = (torch.randn(8, 8, 16, 16), torch.full((8, 8, 16, 16), 0.01))
    plan = Plan(steps=3, learning_rate=1e-2)
    progress = list(denoiser.train(pipe, latents, attributes, plan, tmp_path / "state.pt"))
    assert progress[-1].step == 3
    moved = {n for n, p in pipe.text_encoder.named_parameters() if not torch.equal(p, before[n])}
    assert "text_model.embeddings.token_embedding.weight" in {
        n if "text_model" in n else f"text_model.{n}" for n in moved
    }
