"""What a file of SD3 or FLUX.1 cannot be, or cannot do without, is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowgrpo.policies import load_policy
from flowgrpo.policies.source import find
from tests.mmdit import BASES, changed, one_file, without_weights
from tests.tiny import tiny_sd15
from tests.tiny_flow import tiny_flux, tiny_sd3

SD3_SIGN = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
FLUX_SIGN = "double_blocks.0.img_attn.norm.key_norm.scale"


def test_a_file_with_a_third_encoder_that_the_configuration_has_not_is_refused(
    sd35_folder: Path, tmp_path: Path
) -> None:
    path = one_file(sd35_folder, tmp_path / "model.safetensors")
    no_t5 = tiny_sd3(tmp_path / "no_t5", with_t5=False)
    with pytest.raises(ValueError, match=r"does not fit .*holds a text_encoder_3, of which .* says nothing"):
        load_policy(path, config=no_t5)


def test_parts_that_nobody_has_are_named(mmdit_folder: Path, tmp_path: Path) -> None:
    path = one_file(mmdit_folder, tmp_path / "model.safetensors", ())
    config = without_weights(mmdit_folder, tmp_path / "config", "vae", "text_encoder_2")
    with pytest.raises(
        LookupError,
        match=r"model\.safetensors does not hold the vae and the text_encoder_2, and .*config has no weights "
        r"of them as safetensors: name as config a diffusers folder or hub id that has",
    ):
        load_policy(path, config=config)


def test_a_folders_part_that_is_cut_short_is_named(flux_folder: Path, tmp_path: Path) -> None:
    path = one_file(flux_folder, tmp_path / "model.safetensors", ())
    config = without_weights(flux_folder, tmp_path / "config", "transformer")
    weights = config / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"the weights of .*config are damaged: get them again .vae/"):
        load_policy(path, config=config)


def named(path: Path, *names: str) -> Path:
    save_file({name: torch.zeros(4, 4) for name in names}, path)
    return path


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("distilled_guidance_layer.in_proj.bias", "a Chroma model"),
        ("double_stream_modulation_img.lin.weight", "a FLUX.2 model"),
        ("transformer_blocks.0.attn.to_q.weight", "one part of a diffusers folder"),
        ("double_blocks.0.img_attn.qkv.scale_weight", "weights of 8 or 4 bits with scales of their own"),
        ("single_blocks.0.linear1.weight.quant_state.bitsandbytes__nf4", "weights of 8 or 4 bits with"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_relatives_of_flux_are_told_what_they_are(tmp_path: Path, prefix: str, name: str, what: str) -> None:
    path = named(tmp_path / "flux1-dev.safetensors", prefix + FLUX_SIGN, prefix + name)
    with pytest.raises(ValueError, match=what):
        load_policy(path)


def test_a_flux_that_takes_a_picture_too_is_told_its_sibling(flux_folder: Path, tmp_path: Path) -> None:
    path = changed(
        one_file(flux_folder, tmp_path / "model.safetensors"),
        tmp_path / "fill.safetensors",
        lambda name, t: torch.zeros(32, 96) if name.endswith("img_in.weight") else t,
    )
    with pytest.raises(ValueError, match=r"an inpainting or editing model \(96 input channels\)"):
        load_policy(path, config=flux_folder)


@pytest.mark.parametrize("length", [0, 4, 500, -100])
def test_a_file_that_was_cut_short_is_refused_before_it_is_read(
    mmdit_folder: Path, tmp_path: Path, length: int
) -> None:
    whole = one_file(mmdit_folder, tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut short: get it again"):
        load_policy(path, config=mmdit_folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("start", "part"),
    [
        ("model.diffusion_model.", "transformer"), ("vae.", "vae"),
        ("text_encoders.clip_l.", "text_encoder"), ("text_encoders.t5xxl.", "text_encoder_2"),
    ],
)  # fmt: skip
def test_weights_that_are_not_finite_are_named(
    flux_folder: Path, tmp_path: Path, start: str, part: str, number: float
) -> None:
    def spoiled(name: str, tensor: Tensor) -> Tensor:
        return torch.full_like(tensor, number) if name.startswith(start) else tensor

    path = changed(
        one_file(flux_folder, tmp_path / "whole.safetensors"), tmp_path / "model.safetensors", spoiled
    )
    with pytest.raises(ValueError, match=f"in the {part} of .* holds numbers that are not finite"):
        load_policy(path, config=flux_folder)


@pytest.mark.parametrize(
    ("base", "end"),
    [
        ("sd3", "final_layer.linear.weight"), ("sd3.5", "joint_blocks.0.x_block.attn2.proj.bias"),
        ("sd3.5", "decoder.conv_in.weight"), ("sd3", "clip_g.transformer.text_projection.weight"),
        ("sd3", "clip_l.transformer.text_model.final_layer_norm.weight"),
        ("flux dev", "guidance_in.in_layer.bias"), ("flux dev", "final_layer.linear.weight"),
        ("flux schnell", "single_blocks.1.linear1.weight"), ("flux schnell", "vae.decoder.norm_out.weight"),
        ("flux dev", "t5xxl.transformer.shared.weight"),
    ],
)  # fmt: skip
def test_a_file_that_lacks_a_tensor_or_has_it_in_another_shape_is_refused(
    tmp_path: Path, base: str, end: str
) -> None:
    folder = BASES[base](tmp_path / "folder")
    whole = one_file(folder, tmp_path / "whole.safetensors")
    assert any(name.endswith(end) for name in load_file(whole))
    for repeats in (0, 3):

        def change(name: str, tensor: Tensor, repeats: int = repeats) -> Tensor | None:
            if not name.endswith(end):
                return tensor
            return tensor.repeat_interleave(repeats, -1) if repeats else None

        path = changed(whole, tmp_path / f"{repeats}.safetensors", change)
        with pytest.raises(ValueError, match=r"does not fit the configuration of .*: it is incomplete, or"):
            load_policy(path, config=folder)


def test_a_file_does_not_fit_the_configuration_of_another_model(
    sd35_folder: Path, flux_folder: Path, tmp_path: Path
) -> None:
    path = one_file(flux_folder, tmp_path / "model.safetensors")
    schnell = tiny_flux(tmp_path / "schnell", guidance_input=False)
    for told in (sd35_folder, tiny_sd15(tmp_path / "sd15"), path, schnell):
        with pytest.raises(ValueError, match="does not fit the configuration of"):
            load_policy(path, config=told)
    with pytest.raises(LookupError, match=r"there is no folder .*nothing.*: name a diffusers folder"):
        load_policy(path, config=tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a flow, which predicts a velocity: leave prediction out"):
        load_policy(path, config=flux_folder, prediction="v_prediction")


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_file_is_told_by_its_network_whose_parts_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    joint = [f"joint_blocks.{i}.x_block.attn.qkv.bias" for i in range(38)]
    double = [f"double_blocks.{i}.img_mod.lin.bias" for i in range(19)]
    single = [f"single_blocks.{i}.linear1.bias" for i in range(38)]
    second = "joint_blocks.3.x_block.attn2.qkv.bias"
    for names, expected in (
        ([SD3_SIGN, *joint[:24]], "stabilityai/stable-diffusion-3-medium-diffusers"),
        ([SD3_SIGN, *joint[:24], second], "stabilityai/stable-diffusion-3.5-medium"),
        ([SD3_SIGN, *joint], "stabilityai/stable-diffusion-3.5-large"),
        ([FLUX_SIGN, *double, *single, "guidance_in.in_layer.bias"], "black-forest-labs/FLUX.1-dev"),
        ([FLUX_SIGN, *double, *single], "black-forest-labs/FLUX.1-schnell"),
    ):
        path = named(tmp_path / "model.safetensors", *(prefix + name for name in names))
        assert find(path).config == expected
        with pytest.raises(
            LookupError, match=rf"the parts that it lacks, stand in the files of {expected}, .*: name a diff"
        ):
            load_policy(path)
    path = named(tmp_path / "model.safetensors", FLUX_SIGN, *double[:8], *single)
    with pytest.raises(ValueError, match="of another depth than the published ones of its family: name a"):
        load_policy(path)
