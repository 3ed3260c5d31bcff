"""One file of SD3, SD3.5 or FLUX.1 as users have it: what it holds is read, what it lacks is `config`'s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowgrpo import lora
from flowgrpo.advantages import Advantages
from flowgrpo.checkpoint import load_checkpoint, save_checkpoint
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.flux_names import to_diffusers
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy, onefile
from flowgrpo.published import architecture
from flowgrpo.rollout import sample, sample_group
from flowgrpo.update import UpdateMetrics, update
from tests import mmdit
from tests.ldm import State
from tests.ldm import one_file as ldm_file
from tests.mmdit import changed, one_file, unprojected, without_weights
from tests.tiny import tiny_sd15
from tests.tiny_flow import plain, tiny_flux, tiny_sd3

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLIPS = ("vae", "text_encoder", "text_encoder_2")


def drawn(policy: Policy, guidance_scale: float = 3.5) -> Tensor:
    for module in policy.pipeline.components.values():
        for weight in module.parameters() if isinstance(module, torch.nn.Module) else ():
            # Weights that are mapped start where their file has them, and sums of rows round by that.
            weight.data = weight.data.clone()
    return sample(
        policy, ["red hair"], seeds=[5], num_steps=4, guidance_scale=guidance_scale, width=32, height=32
    ).images


def test_a_file_of_all_parts_is_its_folder_bit_for_bit_and_needs_no_other_weights(
    mmdit_folder: Path, tmp_path: Path
) -> None:
    path = one_file(mmdit_folder, tmp_path / "model.safetensors")
    config = without_weights(mmdit_folder, tmp_path / "config")
    from_folder, from_file = load_policy(mmdit_folder), load_policy(path, config=config)
    assert from_file.family == from_folder.family
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        theirs, ours = (getattr(p.pipeline, part).state_dict() for p in (from_folder, from_file))
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items()), part
    assert torch.equal(drawn(from_file), drawn(from_folder))


def test_diffusers_reads_the_same_network_and_vae_from_a_file_of_sd3(
    sd35_folder: Path, tmp_path: Path
) -> None:
    path = one_file(sd35_folder, tmp_path / "model.safetensors")
    pipeline = plain(sd35_folder)
    for part, kind in (("transformer", SD3Transformer2DModel), ("vae", AutoencoderKL)):
        theirs = kind.from_single_file(str(path), config=str(sd35_folder), subfolder=part).state_dict()
        ours = getattr(pipeline, part).state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items()), part


def test_flux_is_converted_as_diffusers_converts_it_at_the_width_that_it_knows(
    flux_folder: Path, tmp_path: Path
) -> None:
    """Its converter takes rows apart by FLUX.1's own width of 3072; columns may be few."""
    generator = torch.Generator().manual_seed(0)
    state = load_file(one_file(flux_folder, tmp_path / "model.safetensors", [], prefix=""))
    for name in list(state):
        factor = 7 if ".linear1." in name else 6 if "_mod." in name else 3 if ".qkv." in name else 1
        factor = 2 if "adaLN" in name else factor
        rows = 3072 * factor
        columns = () if name.endswith(("bias", "scale")) else (1,)
        state[name] = torch.randn(rows, *columns, generator=generator)
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(state))
    ours = to_diffusers(state)
    assert theirs.keys() == ours.keys() == plain(flux_folder).transformer.state_dict().keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("name", "written", "convert"),
    [
        ("flux.1-dev", mmdit.flux, to_diffusers),
        ("sd3.5-medium", mmdit.sd3, onefile.NETWORKS["StableDiffusion3Pipeline"]),
    ],
)
def test_networks_of_published_sizes_are_converted_whole(
    name: str, written: Callable[[State], State], convert: Callable[[State], State]
) -> None:
    """Names and shapes alone: the tensors have no memory."""
    network = architecture(name).build_network().state_dict()
    converted = convert(written(network))
    assert {key: tensor.shape for key, tensor in converted.items()} == {
        k: t.shape for k, t in network.items()
    }


def test_a_file_with_two_clips_goes_without_the_third_encoder(sd35_folder: Path, tmp_path: Path) -> None:
    path = one_file(sd35_folder, tmp_path / "sd3_incl_clips.safetensors", CLIPS)
    no_t5 = unprojected(tiny_sd3(tmp_path / "no_t5", with_t5=False))
    policies = [load_policy(path, config=sd35_folder), load_policy(path, config=no_t5), load_policy(no_t5)]
    assert all(policy.pipeline.text_encoder_3 is None for policy in policies)
    images = [drawn(policy) for policy in policies]
    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1], images[2])
    assert not torch.equal(images[0], drawn(load_policy(sd35_folder))), (
        "with T5's words it draws something else"
    )


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("parts", [(), ("vae",)])
def test_what_a_file_lacks_is_the_folders(
    mmdit_folder: Path, tmp_path: Path, parts: tuple[str, ...], prefix: str
) -> None:
    path = one_file(mmdit_folder, tmp_path / "model.safetensors", parts, prefix=prefix)
    needed = without_weights(mmdit_folder, tmp_path / "rest", "transformer", *parts)
    assert torch.equal(drawn(load_policy(path, config=needed)), drawn(load_policy(mmdit_folder)))


def test_what_a_file_holds_is_not_taken_from_the_folder(tmp_path: Path) -> None:
    mine, other = tiny_flux(tmp_path / "mine", seed=0), tiny_flux(tmp_path / "other", seed=1)
    path = one_file(mine, tmp_path / "model.safetensors")
    assert torch.equal(drawn(load_policy(path, config=other)), drawn(load_policy(mine)))
    (other / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    load_policy(path, config=other)


def test_a_folder_of_half_precision_files_gives_the_parts_that_are_lacking(
    flux_folder: Path, tmp_path: Path
) -> None:
    path = one_file(flux_folder, tmp_path / "model.safetensors", (), prefix="")
    plain(flux_folder).save_pretrained(tmp_path / "half", variant="fp16")
    assert torch.equal(drawn(load_policy(path, config=tmp_path / "half")), drawn(load_policy(flux_folder)))


@pytest.fixture
def cache(flux_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot of `someone/flux` without its transformer, as the hub's client keeps it, and no network."""
    home = tmp_path / "models--someone--flux"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return without_weights(flux_folder, home / "snapshots" / ("a" * 40), "transformer")


def test_a_hub_id_gives_the_parts_that_are_lacking(cache: Path, flux_folder: Path, tmp_path: Path) -> None:
    path = one_file(flux_folder, tmp_path / "model.safetensors", (), prefix="")
    for told in ("someone/flux", f"someone/flux@{'a' * 40}"):
        assert torch.equal(drawn(load_policy(path, config=told)), drawn(load_policy(flux_folder)))
    (cache / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(LookupError, match=r"someone/flux"):
        load_policy(path, config="someone/flux")


def test_what_programs_add_to_text_encoders_and_other_names_of_the_same_do_no_harm(
    mmdit_folder: Path, tmp_path: Path
) -> None:
    whole = one_file(mmdit_folder, tmp_path / "whole.safetensors")
    tensors = load_file(whole)
    clip, t5 = "text_encoders.clip_l.", "text_encoders.t5xxl.transformer."
    tensors[f"{t5}encoder.embed_tokens.weight"] = tensors.pop(f"{t5}shared.weight")
    tensors[f"{clip}logit_scale"] = torch.tensor(4.6)
    tensors[f"{clip}transformer.text_projection.weight"] = torch.zeros(16, 16)
    tensors[f"{clip}transformer.text_model.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(tensors, tmp_path / "comfy.safetensors")
    policy = load_policy(tmp_path / "comfy.safetensors", config=mmdit_folder)
    assert torch.equal(drawn(policy), drawn(load_policy(mmdit_folder)))


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float8_weights_are_read_as_the_numbers_that_they_are(
    mmdit_folder: Path, tmp_path: Path, kind: torch.dtype, dtype: torch.dtype
) -> None:
    whole = one_file(mmdit_folder, tmp_path / "whole.safetensors")
    small = changed(whole, tmp_path / "float8.safetensors", lambda _, t: t.to(kind))
    rounded = changed(whole, tmp_path / "rounded.safetensors", lambda _, t: t.to(kind).float())
    policy = load_policy(small, config=mmdit_folder, dtype=dtype)
    assert {p.dtype for p in policy.network.parameters()} == {dtype}
    assert torch.equal(drawn(policy), drawn(load_policy(rounded, config=mmdit_folder, dtype=dtype)))


def test_a_float8_file_of_sd15_is_read_as_the_numbers_that_they_are(tmp_path: Path) -> None:
    folder = tiny_sd15(tmp_path / "sd15")
    whole = ldm_file(folder, tmp_path / "whole.safetensors")
    small = changed(whole, tmp_path / "float8.safetensors", lambda _, t: t.to(torch.float8_e4m3fn))
    rounded = changed(whole, tmp_path / "rounded.safetensors", lambda _, t: t.to(torch.float8_e4m3fn).float())
    images = [drawn(load_policy(path, config=folder, prediction="epsilon")) for path in (small, rounded)]
    assert torch.equal(*images)


def test_half_precision_keeps_what_a_folder_keeps_in_float32(mmdit_folder: Path, tmp_path: Path) -> None:
    path = one_file(mmdit_folder, tmp_path / "model.safetensors")
    half = torch.float16
    policies = [load_policy(mmdit_folder, dtype=half), load_policy(path, dtype=half, config=mmdit_folder)]
    for part in policies[0].pipeline.components:
        kinds = [
            {name: p.dtype for name, p in getattr(policy.pipeline, part).named_parameters()}
            for policy in policies
            if isinstance(getattr(policy.pipeline, part), torch.nn.Module)
        ]
        assert not kinds or kinds[0] == kinds[1], part


def learn(policy: Policy, learner: Learner) -> UpdateMetrics:
    with learner.behaviour():
        rollout = sample_group(
            policy, "red hair", seeds=[1, 2, 3, 4], num_steps=4, guidance_scale=2.0, window=range(2),
            noise_level=1.0, micro_batch_size=4, width=32, height=32,
        )  # fmt: skip
    values = torch.tensor([[1.0, -1.0, 0.5, -0.5]])
    judged = Advantages(values, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))
    (metrics,) = [x for x in update(learner, [rollout], judged) if isinstance(x, UpdateMetrics)]
    return metrics


def test_a_policy_of_a_file_replays_learns_goes_on_and_gives_an_adapter_that_diffusers_draws_with(
    mmdit_folder: Path, tmp_path: Path
) -> None:
    path = one_file(mmdit_folder, tmp_path / "model.safetensors", ("vae",))
    policies = [load_policy(path, config=mmdit_folder) for _ in range(2)]
    for policy in policies:
        policy.attach_lora(LoraConfig(rank=4), seed=0)
    learner, again = (Learner(policy, UpdateConfig(learning_rate=1e-2)) for policy in policies)
    metrics = learn(policies[0], learner)
    assert metrics.means["ratio"] == 1
    assert metrics.peaks["ratio_error"] < 1e-6
    save_checkpoint(tmp_path / "000001", learner, {})
    load_checkpoint(tmp_path / "000001", again)
    for one, policy in ((learner, policies[0]), (again, policies[1])):
        learn(policy, one)
    assert all(torch.equal(p, again.parameters[name]) for name, p in learner.parameters.items())

    config = policies[0].lora_config
    assert config is not None
    trained = policies[0].trainable_parameters()
    exported = lora.export(tmp_path / lora.EXPORT_FILE, config, trained, policies[0].lora_prefix)
    pipeline = plain(mmdit_folder)
    pipeline.load_lora_weights(exported.parent, weight_name=exported.name)
    theirs = pipeline(
        "red hair", num_inference_steps=4, guidance_scale=1.0, width=32, height=32, output_type="pt",
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    ours, plainly = (drawn(policy, 1.0) for policy in (policies[0], load_policy(path, config=mmdit_folder)))
    assert (ours - plainly).abs().max() > 0.005
    # Half a step of 8-bit rounding, and float32 noise.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.5 / 255 + 1e-3)
