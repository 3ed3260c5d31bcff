"""Every base that can be driven, from its folder to an exported adapter that plain diffusers draws with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from flowgrpo import lora
from flowgrpo.advantages import Advantages
from flowgrpo.checkpoint import load_checkpoint, save_checkpoint
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, sample, sample_group
from flowgrpo.update import UpdateMetrics, update
from tests.tiny import tiny_sd15, tiny_sdxl, tiny_ssd_unet
from tests.tiny_flow import tiny_flux, tiny_sd3

BASES: dict[str, Callable[[Path], Path]] = {
    "sdxl": tiny_sdxl,
    "sdxl v": lambda folder: tiny_sdxl(folder, prediction_type="v_prediction", spacing="leading"),
    "ssd-1b": lambda folder: tiny_sdxl(folder, unet=tiny_ssd_unet),
    "sd15": tiny_sd15,
    "sd15 v": lambda folder: tiny_sd15(folder, prediction_type="v_prediction"),
    "sd3": tiny_sd3,
    "sd3 without t5": lambda folder: tiny_sd3(folder, with_t5=False),
    "flux dev": tiny_flux,
    "flux schnell": lambda folder: tiny_flux(folder, guidance_input=False),
}
FAMILY = {"ssd-1b": "sdxl"}
PROMPT = "red hair"
# diffusers says this of the parts that a pipeline goes without; its attention asks torch for a fused kernel.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", params=list(BASES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, BASES[request.param](tmp_path_factory.mktemp("base") / "pipeline")


def theirs(folder: Path, guidance_scale: float, adapter: Path | None = None) -> Tensor:
    """The image of diffusers' own pipeline."""
    no_t5 = {"text_encoder_3": None, "tokenizer_3": None}  # diffusers wants to be told
    is_sd3 = "StableDiffusion3" in (folder / "model_index.json").read_text()
    absent = no_t5 if is_sd3 and not (folder / "text_encoder_3").is_dir() else {}
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **absent)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    settings: dict[str, Any] = {"guidance_scale": guidance_scale}
    if type(pipeline).__name__ == "FluxPipeline" and not pipeline.transformer.config.guidance_embeds:
        settings = {"true_cfg_scale": guidance_scale, "negative_prompt": ""}
    generator = torch.Generator().manual_seed(5)
    images: Tensor = pipeline(
        PROMPT, num_inference_steps=6, generator=generator, output_type="pt", width=32, height=64, **settings
    ).images
    return images


def ours(policy: Policy, guidance_scale: float) -> Tensor:
    return sample(
        policy, [PROMPT], seeds=[5], num_steps=6, guidance_scale=guidance_scale, width=32, height=64
    ).images


def group(policy: Policy, guidance_scale: float = 1.0) -> Rollout:
    return sample_group(
        policy, PROMPT, seeds=[1, 2, 3, 4], num_steps=4, guidance_scale=guidance_scale, window=range(2),
        noise_level=1.0, micro_batch_size=4, width=32, height=64,
    )  # fmt: skip


def judged() -> Advantages:
    values = torch.tensor([[1.0, -1.0, 0.5, -0.5]])
    return Advantages(values, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))


def learn(learner: Learner) -> UpdateMetrics:
    with learner.behaviour():
        rollout = group(learner.policy)
    (metrics,) = [x for x in update(learner, [rollout], judged()) if isinstance(x, UpdateMetrics)]
    return metrics


def test_its_family_and_prediction_are_read_from_its_files(base: tuple[str, Path]) -> None:
    name, folder = base
    policy = load_policy(folder)
    assert policy.family == FAMILY.get(name, name.split()[0])
    expected = "flow" if policy.family in ("sd3", "flux") else "epsilon"
    assert policy.prediction == ("v_prediction" if name.endswith(" v") else expected)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
def test_the_deterministic_sampler_draws_what_its_pipeline_draws(
    base: tuple[str, Path], guidance_scale: float
) -> None:
    _, folder = base
    expected = theirs(folder, guidance_scale)
    # Half a step of 8-bit rounding, and float32 noise.
    drawn = ours(load_policy(folder), guidance_scale)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0.5 / 255 + 5e-4)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
def test_a_replay_has_ratio_one_and_an_update_teaches_both_halves_of_the_adapter(
    base: tuple[str, Path], guidance_scale: float
) -> None:
    policy = load_policy(base[1])
    policy.attach_lora(LoraConfig(rank=4), seed=0)
    learner = Learner(policy, UpdateConfig(learning_rate=1e-3))
    before = {name: parameter.detach().clone() for name, parameter in policy.trainable_parameters().items()}
    for number in range(2):
        rollout = group(policy, guidance_scale)
        (metrics,) = [x for x in update(learner, [rollout], judged()) if isinstance(x, UpdateMetrics)]
        assert metrics.means["ratio"] == 1
        assert metrics.peaks["ratio_error"] < 1e-6
        assert number == 1 or metrics.kl == 0
    changed = {name for name, p in policy.trainable_parameters().items() if not torch.equal(p, before[name])}
    # FLUX's last joint block and SD3's forget the words' half, so its last projections teach nothing.
    silent = {name for name in before if name not in changed}
    assert all("to_add_out" in name or "add_q_proj" in name for name in silent), silent


def test_a_saved_run_goes_on_bit_for_bit(base: tuple[str, Path], tmp_path: Path) -> None:
    def begin() -> Learner:
        policy = load_policy(base[1])
        policy.attach_lora(LoraConfig(rank=4), seed=0)
        return Learner(policy, UpdateConfig())

    whole, first, second = begin(), begin(), begin()
    for learner in (whole, whole, first):
        learn(learner)
    save_checkpoint(tmp_path / "000001", first, {})
    load_checkpoint(tmp_path / "000001", second)
    learn(second)
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, second.parameters[name]), name


def test_plain_diffusers_draws_the_same_with_the_exported_adapter(
    base: tuple[str, Path], tmp_path: Path
) -> None:
    policy = load_policy(base[1])
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    config = policy.lora_config
    assert config is not None
    path = lora.export(tmp_path / lora.EXPORT_FILE, config, policy.trainable_parameters(), policy.lora_prefix)
    drawn, plain = ours(policy, 1.0), ours(load_policy(base[1]), 1.0)
    assert (drawn - plain).abs().max() > 0.02
    torch.testing.assert_close(drawn, theirs(base[1], 1.0, path), rtol=0, atol=0.5 / 255 + 2e-3)


def test_half_precision_samples_and_learns_with_finite_numbers(base: tuple[str, Path]) -> None:
    """Pitfalls 1 and 23: bfloat16 base, float32 adapter."""
    policy = load_policy(base[1], dtype=torch.bfloat16)
    policy.attach_lora(LoraConfig(rank=4), seed=0)
    assert {p.dtype for p in policy.trainable_parameters().values()} == {torch.float32}
    metrics = learn(Learner(policy, UpdateConfig()))
    assert metrics.grad_norm > 0
    assert not metrics.is_skipped
    assert metrics.means["ratio"] == 1


def test_sizes_that_do_not_fit_are_told_the_nearest(base: tuple[str, Path]) -> None:
    policy = load_policy(base[1])
    with pytest.raises(ValueError, match=f"height must be a multiple of {policy.size_step}, got 30: try "):
        policy.latent_shape(32, 30)


def test_pictures_become_latents_and_come_back(base: tuple[str, Path]) -> None:
    policy = load_policy(base[1])
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = policy.encode_images(pictures)
    assert latents.shape == (2, *policy.latent_shape(32, 32))
    config = policy.vae.config
    with torch.no_grad():
        raw = policy.vae.encode(pictures * 2 - 1).latent_dist.mean
        shift = getattr(config, "shift_factor", None) or 0.0
        torch.testing.assert_close(latents, (raw - shift) * config.scaling_factor, rtol=1e-4, atol=1e-5)
        back = (policy.vae.decode(raw).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(policy.decode(latents), back, rtol=1e-3, atol=1e-4)
