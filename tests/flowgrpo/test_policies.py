from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

from flowgrpo import flow
from flowgrpo.config import LoraConfig
from flowgrpo.policies import Policy, base, load_policy
from flowgrpo.rollout import sample, sample_group
from tests.flowgrpo.conftest import SETTINGS, perturb
from tests.tiny import tiny_sdxl

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SEEDS = range(3)


def diffusers_pipeline(folder: Path) -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def by_diffusers(pipeline: StableDiffusionXLPipeline, output: str = "latent", **more: object) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    images: torch.Tensor = pipeline(
        "red hair", num_images_per_prompt=len(SEEDS), generator=generators, output_type=output, **more
    ).images
    return images


def assert_same_latents(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """To 1e-5 of their size: the random network leaves latents of std 15."""
    torch.testing.assert_close(ours / theirs.std(), theirs / theirs.std(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_the_deterministic_sampler_is_the_pipeline_with_its_own_euler(
    tmp_path: Path, prediction_type: str, spacing: str, guidance_scale: float
) -> None:
    folder = tiny_sdxl(tmp_path / "p", seed=2, prediction_type=prediction_type, spacing=spacing)
    ours = sample_group(
        load_policy(folder),
        "red hair",
        seeds=SEEDS,
        num_steps=8,
        guidance_scale=guidance_scale,
        width=32,
        height=48,
    )
    theirs = by_diffusers(
        diffusers_pipeline(folder), num_inference_steps=8, guidance_scale=guidance_scale, width=32, height=48
    )
    assert_same_latents(ours.latents, theirs)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_a_folder_that_asks_for_karras_noise_levels_gets_them(tmp_path: Path, spacing: str) -> None:
    folder = tiny_sdxl(tmp_path / "p", seed=2, spacing=spacing, karras=True)
    ours = sample_group(
        load_policy(folder), "red hair", seeds=SEEDS, num_steps=8, guidance_scale=3.0, width=32, height=32
    )
    pipeline = diffusers_pipeline(folder)
    theirs = by_diffusers(pipeline, num_inference_steps=8, guidance_scale=3.0, width=32, height=32)
    assert_same_latents(ours.latents, theirs)


@pytest.mark.parametrize("num_steps", [5, 8])
def test_the_deterministic_sampler_is_the_pipeline_with_ddim_at_eta_0(tmp_path: Path, num_steps: int) -> None:
    folder = tiny_sdxl(tmp_path / "p")
    pipeline = diffusers_pipeline(folder)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False, set_alpha_to_one=True
    )
    pipeline.save_pretrained(tmp_path / "ddim")
    ours = sample_group(
        load_policy(tmp_path / "ddim"), "red hair", seeds=SEEDS, num_steps=num_steps, guidance_scale=3.0,
        width=32, height=32,
    )  # fmt: skip
    theirs = by_diffusers(pipeline, num_inference_steps=num_steps, guidance_scale=3.0, width=32, height=32)
    assert_same_latents(ours.latents, theirs)


@pytest.mark.parametrize("negative_prompt", ["", "glasses"])
@pytest.mark.parametrize("zeros", [True, False])
def test_guidance_and_images_are_the_pipelines_own(tmp_path: Path, zeros: bool, negative_prompt: str) -> None:
    folder = tiny_sdxl(tmp_path / "p", force_zeros_for_empty_prompt=zeros)
    ours = sample_group(
        load_policy(folder), "red hair", seeds=SEEDS, num_steps=4, guidance_scale=4.0, width=32, height=32,
        negative_prompt=negative_prompt,
    )  # fmt: skip
    theirs = by_diffusers(
        diffusers_pipeline(folder), "pt", num_inference_steps=4, guidance_scale=4.0, width=32, height=32,
        negative_prompt=negative_prompt or None,
    )  # fmt: skip
    torch.testing.assert_close(ours.images, theirs, rtol=0, atol=0.5 / 255 + 1e-4)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_one_velocity_is_the_pipelines_prediction_and_the_reference_ignores_the_adapter(
    tuned: Policy, tiny_folder: Path, guidance_scale: float
) -> None:
    pipeline = diffusers_pipeline(tiny_folder)
    embeds, negative, pooled, negative_pooled = pipeline.encode_prompt("red hair", num_images_per_prompt=2)
    t = tuned.schedule.grid(8)[3]
    latents = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    both = pipeline.unet(
        torch.cat([flow.to_vp(latents, t)] * 2),
        tuned.schedule.timestep(t),
        encoder_hidden_states=torch.cat([negative, embeds]),
        added_cond_kwargs={
            "text_embeds": torch.cat([negative_pooled, pooled]),
            "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]]).expand(4, 6),
        },
    ).sample
    unconditional, conditional = both.chunk(2)
    expected = flow.velocity_from(
        unconditional + guidance_scale * (conditional - unconditional), latents, t, "epsilon"
    )
    told = tuned.encode(["red hair"] * 2, guided=guidance_scale > 1, width=16, height=16)
    with torch.no_grad():
        with tuned.reference():
            ours = tuned.velocity(latents, t, told, guidance_scale)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(tuned.velocity(latents, t, told, guidance_scale), expected, atol=1e-4)


def test_a_fresh_adapter_changes_nothing_bit_for_bit(policy: Policy) -> None:
    before = sample_group(policy, "red hair", seeds=SEEDS, **SETTINGS)
    policy.attach_lora(LoraConfig(rank=4))
    after = sample_group(policy, "red hair", seeds=SEEDS, **SETTINGS)
    assert torch.equal(before.latents, after.latents)


def test_the_reference_is_the_base_bit_for_bit(tiny_folder: Path, tuned: Policy) -> None:
    base = sample_group(load_policy(tiny_folder), "red hair", seeds=SEEDS, **SETTINGS)
    with tuned.reference():
        assert torch.equal(sample_group(tuned, "red hair", seeds=SEEDS, **SETTINGS).latents, base.latents)
    assert not torch.equal(sample_group(tuned, "red hair", seeds=SEEDS, **SETTINGS).latents, base.latents)
    assert all(parameter.requires_grad for parameter in tuned.trainable_parameters().values())


def test_only_the_adapter_learns(tuned: Policy) -> None:
    trainable = {
        name.replace(".default.", ".") for name, p in tuned.network.named_parameters() if p.requires_grad
    }
    assert trainable == set(tuned.trainable_parameters())
    for module in (tuned.vae, tuned.pipeline.text_encoder, tuned.pipeline.text_encoder_2):
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_swap_of_weights_is_an_identity_bit_for_bit(tuned: Policy) -> None:
    before = {name: p.detach().clone() for name, p in tuned.trainable_parameters().items()}
    ema = {name: torch.zeros_like(p) for name, p in before.items()}
    with tuned.weights(ema):
        assert all((p == 0).all() for p in tuned.trainable_parameters().values())
        perturb(tuned)  # what happens inside stays inside
    assert all(torch.equal(p, before[name]) for name, p in tuned.trainable_parameters().items())
    assert all((tensor == 0).all() for tensor in ema.values())


def test_a_swap_ends_also_when_its_body_fails(tuned: Policy) -> None:
    before = {name: p.detach().clone() for name, p in tuned.trainable_parameters().items()}
    with pytest.raises(RuntimeError), tuned.weights({name: p * 2 for name, p in before.items()}):
        raise RuntimeError
    assert all(torch.equal(p, before[name]) for name, p in tuned.trainable_parameters().items())


def test_a_second_adapter_is_refused(tuned: Policy) -> None:
    with pytest.raises(ValueError, match="has an adapter already"):
        tuned.attach_lora(LoraConfig())
    with pytest.raises(ValueError, match="cannot load a second adapter"):
        tuned.load_adapter(Path("anywhere"))


def test_encoded_prompts_are_forgotten_by_their_bytes_the_oldest_first_and_never_those_in_use(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*prompts: str) -> None:
        policy.encode(prompts, guided=False, width=16, height=16)

    encode("red hair")
    each = base._bytes(policy._encoded["red hair"])
    monkeypatch.setattr(base, "MAX_CACHED_BYTES", 2 * each)
    encode("buns")
    encode("red hair")
    encode("glasses")
    assert list(policy._encoded) == ["red hair", "glasses"]
    encode("a", "b", "c")
    assert list(policy._encoded) == ["a", "b", "c"]


def test_texts_are_encoded_once_and_do_not_depend_on_their_neighbours(policy: Policy) -> None:
    alone = policy.encode(["red hair"], guided=False, width=16, height=16)
    among = policy.encode(["blue hair", "red hair"], guided=False, width=16, height=16)
    assert torch.equal(alone.positive["embeds"][0], among.positive["embeds"][1])
    assert torch.equal(alone.positive["pooled"][0], among.positive["pooled"][1])
    assert not torch.equal(among.positive["embeds"][0], among.positive["embeds"][1])


def test_a_size_that_is_no_multiple_is_refused_with_the_nearest(policy: Policy) -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 4, got 62: try 64"):
        policy.latent_shape(62, 64)
    with pytest.raises(ValueError, match="height must be a multiple of 4, got 0: try 4"):
        policy.latent_shape(64, 0)
    assert policy.latent_shape(64, 32) == (8, 8, 16)


def test_guidance_without_a_guided_conditioning_is_refused(policy: Policy) -> None:
    told = policy.encode(["red hair"], guided=False, width=16, height=16)
    with pytest.raises(ValueError, match="guided=True"):
        policy.velocity(torch.zeros(1, 8, 4, 4), 0.5, told, 3.0)


def test_what_is_no_model_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="there is no folder"):
        load_policy(tmp_path / "nothing")
    with pytest.raises(LookupError, match="no diffusers folder"):
        load_policy(tmp_path)
    with pytest.raises(LookupError, match="neither a folder nor a model"):
        load_policy("nobody/no-such-model")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "PixArtSigmaPipeline"}))
    with pytest.raises(
        ValueError, match="is a PixArtSigmaPipeline; FlowGRPO can drive StableDiffusionPipeline"
    ):
        load_policy(tmp_path)


def test_each_sample_may_have_a_prompt_of_its_own(policy: Policy) -> None:
    mixed = sample(policy, ["red hair", "blue hair"], seeds=[5, 5], **SETTINGS)
    alone = sample(policy, ["blue hair"], seeds=[5], **SETTINGS)
    torch.testing.assert_close(mixed.latents[1:], alone.latents, rtol=1e-5, atol=1e-4)
    assert not torch.allclose(mixed.latents[0], mixed.latents[1])
