"""SD3 and FLUX.1 as their pipelines have them: packing, guidance, times, words; steps from pure noise on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import FluxPipeline
from torch import Tensor, nn
from transformers import T5EncoderModel

from flowgrpo import kernels
from flowgrpo.config import LoraConfig
from flowgrpo.policies import Policy, load_policy
from flowgrpo.policies.flux import pack, positions, unpack
from flowgrpo.rollout import Rollout, StoredTransition, rescore, sample, sample_group
from tests.flowgrpo.conftest import perturb
from tests.tiny_flow import plain, tiny_flux, tiny_sd3

# diffusers says this of the parts that a pipeline goes without.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BY_SIZE: dict[str, Any] = {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 100}
BASES: dict[str, Callable[[Path], Path]] = {
    "sd3": tiny_sd3,
    "sd3 without t5": lambda folder: tiny_sd3(folder, with_t5=False),
    "sd3 by size": lambda folder: tiny_sd3(folder, **BY_SIZE),
    "flux dev": tiny_flux,
    "flux dev, linear": lambda folder: tiny_flux(folder, time_shift_type="linear", **BY_SIZE),
    "flux schnell": lambda folder: tiny_flux(folder, guidance_input=False),
}
SIZE: dict[str, Any] = {"width": 16, "height": 24}


@pytest.fixture(scope="module", params=list(BASES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES[request.param](tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux(tmp_path_factory.mktemp("dev") / "pipeline")


def guidance(pipeline: Any, scale: float, negative: str) -> dict[str, Any]:
    """The arguments by which a pipeline is told to guide."""
    if not isinstance(pipeline, FluxPipeline):
        return {"guidance_scale": scale, "negative_prompt": negative}
    if pipeline.transformer.config.guidance_embeds:
        return {"guidance_scale": scale}
    return {"true_cfg_scale": scale, "negative_prompt": negative}


def tuned(folder: Path, dtype: torch.dtype = torch.float32) -> Policy:
    policy = load_policy(folder, dtype=dtype)
    policy.attach_lora(LoraConfig(rank=4), seed=0)
    perturb(policy, 0.1)
    return policy


def heard(module: nn.Module) -> list[tuple[Tensor, ...]]:
    """What a module is called with from now on."""
    calls: list[tuple[Tensor, ...]] = []
    module.register_forward_hook(lambda _module, told, _answer: calls.append(told))
    return calls


@pytest.mark.parametrize(
    ("size", "scale"), [((32, 32), 3.5), ((64, 48), 1.0), ((24, 88), 2.0)], ids=["square", "wide", "tall"]
)
def test_the_deterministic_sampler_is_the_flow_pipeline_at_every_size(
    folder: Path, size: tuple[int, int], scale: float
) -> None:
    width, height = size
    pipeline = plain(folder)
    theirs = pipeline(
        "red hair", num_images_per_prompt=2, num_inference_steps=5, width=width, height=height,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)], output_type="pt",
        **guidance(pipeline, scale, "glasses"),
    ).images  # fmt: skip
    policy = load_policy(folder)
    ours = sample_group(
        policy, "red hair", seeds=[3, 4], num_steps=5, guidance_scale=scale, width=width, height=height,
        negative_prompt="glasses",
    )  # fmt: skip
    torch.testing.assert_close(ours.images, theirs, rtol=0, atol=0.5 / 255 + 5e-4)
    torch.testing.assert_close(torch.tensor(ours.times), pipeline.scheduler.sigmas, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_one_velocity_is_the_transformers_own_and_the_reference_ignores_the_adapter(
    folder: Path, scale: float
) -> None:
    policy, pipeline = tuned(folder), plain(folder)
    latents = torch.randn(1, 4, 6, 4, generator=torch.Generator().manual_seed(0))
    t = policy.grid(8, **SIZE)[3]
    words = {"encoder_hidden_states": "embeds", "pooled_projections": "pooled"}
    told = policy.encode(["red hair"], guided=True, **SIZE)

    def asked(half: dict[str, Tensor]) -> Tensor:
        named = {theirs: half[ours] for theirs, ours in words.items()}
        if not isinstance(pipeline, FluxPipeline):
            velocity: Tensor = pipeline.transformer(
                latents, timestep=torch.tensor([1000 * t]), **named
            ).sample
            return velocity
        tokens = pipeline.transformer(
            FluxPipeline._pack_latents(latents, 1, 4, 6, 4),
            timestep=torch.tensor([t]),
            guidance=torch.tensor([scale]) if policy.has_guidance_input else None,
            img_ids=FluxPipeline._prepare_latent_image_ids(1, 3, 2, "cpu", torch.float32),
            txt_ids=torch.zeros(named["encoder_hidden_states"].shape[1], 3),
            **named,
        ).sample
        velocity = FluxPipeline._unpack_latents(tokens, 24, 16, 4)
        return velocity

    with torch.no_grad():
        expected = conditional = asked(told.positive)
        if scale > 1 and not policy.has_guidance_input:
            unconditional = asked(told.unconditional())
            expected = unconditional + scale * (conditional - unconditional)
        with policy.reference():
            ours = policy.velocity(latents, t, told, scale)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(policy.velocity(latents, t, told, scale), expected, atol=1e-3)


def test_packing_is_diffusers_own_and_is_undone_bit_for_bit() -> None:
    latents = torch.randn(2, 16, 12, 8, generator=torch.Generator().manual_seed(0))
    tokens = pack(latents)
    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 2, 16, 12, 8))
    assert torch.equal(unpack(tokens, 12, 8), latents)
    theirs = FluxPipeline._prepare_latent_image_ids(2, 6, 4, "cpu", torch.float32)
    assert torch.equal(positions(6, 4), theirs)


def replayed(policy: Policy, rollout: Rollout, stored: StoredTransition, scale: float) -> Tensor:
    """The log_prob of a stored transition, asked again micro-batch by micro-batch."""
    with torch.no_grad():
        velocity = [
            policy.velocity(stored.latents[rows], stored.t, rollout.conditioning.rows(rows), scale)
            for rows in rollout.micro_batches
        ]
    log_prob = rescore(stored, torch.cat(velocity)).log_prob
    assert log_prob is not None
    return log_prob


def test_replays_from_pure_noise_on_have_ratio_one_bit_for_bit_with_every_kernel(folder: Path) -> None:
    policy = tuned(folder)
    for kernel in get_args(kernels.KernelName):
        rollout = sample_group(
            policy, "red hair", seeds=[1, 2, 3], num_steps=4, guidance_scale=2.0, window=range(3),
            kernel=kernel, noise_level=0.7, micro_batch_size=2, **SIZE,
        )  # fmt: skip
        assert [stored.step for stored in rollout.transitions] == [0, 1, 2]
        assert rollout.transitions[0].t == 1
        assert rollout.is_finite.all()
        for stored in rollout.transitions:
            assert 0 < stored.std < 10
            ratio = (replayed(policy, rollout, stored, 2.0) - stored.log_prob).exp()
            assert torch.equal(ratio, torch.ones(3)), kernel


def test_each_sample_may_have_a_prompt_and_a_time_of_its_own(folder: Path) -> None:
    policy = load_policy(folder)
    prompts = ["red hair", "blue hair"]
    together = policy.encode(prompts, guided=True, **SIZE)
    latents = torch.randn(2, 4, 6, 4, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.9, 0.3], dtype=torch.float64)
    with torch.no_grad():
        both = policy.velocity(latents, times, together, 2.0)
        for row, prompt in enumerate(prompts):
            told = policy.encode([prompt], guided=True, **SIZE)
            alone = policy.velocity(latents[row : row + 1], float(times[row]), told, 2.0)
            torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_guidance_input_costs_one_half_and_reads_no_negative_prompt(dev: Path) -> None:
    policy = load_policy(dev)
    calls = heard(policy.network.x_embedder)
    told = policy.encode(["red hair"] * 2, guided=False, **SIZE)
    latents = torch.randn(2, 4, 6, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weak, strong = (policy.velocity(latents, 0.7, told, scale) for scale in (1.0, 3.5))
        again, half = policy.velocity_and_half(latents, 0.7, told, 3.5)
    assert [len(told[0]) for told in calls] == [2, 2, 2]
    assert half is None
    assert torch.equal(strong, again)
    assert not torch.allclose(weak, strong, atol=1e-4)


def test_without_a_guidance_input_guidance_needs_both_halves(tmp_path: Path) -> None:
    policy = load_policy(tiny_flux(tmp_path / "p", guidance_input=False))
    told = policy.encode(["red hair"], guided=False, **SIZE)
    with pytest.raises(ValueError, match="guided=True"):
        policy.velocity(torch.zeros(1, 4, 6, 4), 0.5, told, 3.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_times_reach_their_embedding_unrounded_in_every_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Pitfall 4: bfloat16 would make 678 of 680, and 3504 of a guidance of 3500."""
    policy = load_policy(folder, dtype=dtype)
    calls = heard(policy.network.time_text_embed.time_proj)
    grid = policy.grid(28, 64, 64)[:-1]
    told = policy.encode(["red hair"], guided=False, **SIZE)
    with torch.no_grad():
        for t in grid:
            policy.velocity(torch.zeros(1, 4, 6, 4, dtype=dtype), t, told)
    times = torch.cat([call[0] for call in calls[:: 2 if policy.has_guidance_input else 1]])
    assert torch.equal(times, torch.tensor([1000 * t for t in grid], dtype=torch.float32))
    if policy.has_guidance_input:
        with torch.no_grad():
            policy.velocity(torch.zeros(1, 4, 6, 4, dtype=dtype), 0.5, told, 3.5)
        assert calls[-1][0].tolist() == [3500.0]


def test_the_network_can_still_be_asked_by_its_pipeline(dev: Path) -> None:
    """The exact times are ours alone: what others ask the same network stays what they asked."""
    policy, settings = load_policy(dev), {"num_inference_steps": 2, "width": 16, "height": 24}
    sample(policy, ["blue hair"], seeds=[1], num_steps=3, guidance_scale=3.5, **SIZE)
    policy.pipeline.set_progress_bar_config(disable=True)
    ours, theirs = (
        pipeline("red hair", generator=torch.Generator().manual_seed(1), output_type="pt", **settings).images
        for pipeline in (policy.pipeline, plain(dev))
    )
    assert torch.equal(ours, theirs)


def test_words_are_the_pipelines_and_zeros_stand_for_a_missing_encoder(folder: Path) -> None:
    policy, pipeline = load_policy(folder), plain(folder)
    told = policy.encode(["red hair", "a long text, " * 9], guided=True, **SIZE)
    is_flux = isinstance(pipeline, FluxPipeline)
    with torch.no_grad():
        encoded = pipeline.encode_prompt("red hair", *[None] * (1 if is_flux else 2))
    embeds, pooled = encoded[0], encoded[1 if is_flux else 2]
    assert torch.equal(told.positive["embeds"][:1], embeds)
    assert torch.equal(told.positive["pooled"][:1], pooled)
    if policy.family == "sd3":
        of_t5 = told.positive["embeds"][:, pipeline.tokenizer_max_length :]
        assert of_t5.any() == (pipeline.text_encoder_3 is not None)


def test_every_text_encoder_visits_the_device_once_per_new_text_and_leaves_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy(folder)
    parts = policy.pipeline.components
    encoders = {name: part for name, part in parts.items() if part and name.startswith("text_encoder")}
    t5 = "text_encoder_3" if policy.family == "sd3" else "text_encoder_2"
    assert (t5 in encoders) == isinstance(parts[t5], T5EncoderModel)
    moves: list[tuple[str, object]] = []
    for name, encoder in encoders.items():
        to = encoder.to

        def noted(place: object, name: str = name, to: Callable[[object], nn.Module] = to) -> nn.Module:
            moves.append((name, place))
            return to(place)

        monkeypatch.setattr(encoder, "to", noted)
    reads = [heard(encoder) for encoder in encoders.values()]
    for _ in range(2):
        policy.encode(["red hair", "blue hair", "red hair"], guided=True, **SIZE)
    assert moves == [(name, place) for place in (policy.device, "cpu") for name in encoders]
    assert [len(calls) for calls in reads] == [3] * len(encoders)  # two prompts and the empty one


def test_a_size_that_an_sd3_transformer_has_no_positions_for_is_refused(tmp_path: Path) -> None:
    policy = load_policy(tiny_sd3(tmp_path / "p"))
    assert policy.latent_shape(256, 8) == (4, 2, 64)
    with pytest.raises(ValueError, match="width must be at most 256, the largest of this model, got 264"):
        policy.latent_shape(264, 8)
    with pytest.raises(ValueError, match="height must be a multiple of 8, got 12: try 16"):
        policy.latent_shape(8, 12)


def test_latents_are_what_the_pipeline_decodes(folder: Path) -> None:
    """The pipelines decode latents / scaling_factor + shift_factor; so do we, and encoding undoes it."""
    policy, pipeline = load_policy(folder), plain(folder)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    vae = pipeline.vae
    with torch.no_grad():
        decoded = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
    theirs = pipeline.image_processor.postprocess(decoded, output_type="pt")
    assert vae.config.shift_factor != 0
    torch.testing.assert_close(policy.decode(latents), theirs, rtol=0, atol=1e-5)
    drawn = policy.encode_images(theirs, noise := torch.ones(2, 4, 8, 8))
    with torch.no_grad():
        posterior = vae.encode(2 * theirs - 1).latent_dist
    raw = posterior.mean + posterior.std * noise
    expected = (raw - vae.config.shift_factor) * vae.config.scaling_factor
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-5)
