"""Where a base comes from: a folder, a commit of the hub, one file; and what is refused, in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)  # fmt: skip
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowgrpo.policies import Policy, load_policy
from flowgrpo.policies.source import find
from flowgrpo.rollout import sample
from tests.ldm import one_file
from tests.tiny import tiny_sd15, tiny_sdxl, tiny_ssd_unet, tiny_unet

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

EMPTY = torch.zeros(0)
"""What the marks `v_pred` and `ztsnr` hold in files that are shared."""
COMMITS = ("a" * 40, "b" * 40)


def drawn(policy: Policy) -> Tensor:
    return sample(
        policy, ["red hair"], seeds=[5], num_steps=4, guidance_scale=3.5, width=32, height=32
    ).images


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd15(tmp_path_factory.mktemp("base") / "sd15")


@pytest.fixture(scope="module")
def sd15_file(sd15: Path) -> Path:
    return one_file(sd15, sd15.parent / "model.safetensors")


def changed(file: Path, path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    save_file(change(load_file(file)), path)
    return path


def xl(folder: Path, unet: Callable[[int], UNet2DConditionModel] = tiny_unet) -> Path:
    """With text encoders of two widths: diffusers tells them apart in a file by that alone."""
    return tiny_sdxl(folder, unet=unet, second_width=24)


@pytest.mark.parametrize(
    "make", [tiny_sd15, xl, lambda folder: xl(folder, tiny_ssd_unet)], ids=["sd15", "sdxl", "ssd-1b"]
)
def test_one_file_is_the_folder_it_was_made_of_bit_for_bit(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = make(tmp_path / "folder")
    path = one_file(folder, tmp_path / "model.safetensors")
    from_folder, from_file = load_policy(folder), load_policy(path, prediction="epsilon", config=folder)
    assert from_file.family == from_folder.family
    assert torch.equal(drawn(from_file), drawn(from_folder))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ({"v_pred": EMPTY}, "v_prediction"),
        ({"metadata": {"modelspec.prediction_type": "v"}}, "v_prediction"),
        ({"metadata": {"modelspec.prediction_type": "epsilon"}}, "epsilon"),
    ],
)
def test_what_a_file_says_of_its_prediction_is_believed(
    sd15: Path, tmp_path: Path, marks: dict[str, object], expected: str
) -> None:
    path = one_file(sd15, tmp_path / "epsilon_in_name_only.safetensors", **marks)
    assert load_policy(path, config=sd15).prediction == expected


def test_a_file_that_says_nothing_of_its_prediction_is_asked_for_it(sd15: Path, sd15_file: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors does not say what its network predicts: say"):
        load_policy(sd15_file, config=sd15)
    assert load_policy(sd15_file, config=sd15, prediction="v_prediction").prediction == "v_prediction"
    with pytest.raises(ValueError, match="prediction is epsilon or v_prediction, got 'sample'"):
        load_policy(sd15_file, config=sd15, prediction="sample")


@pytest.mark.parametrize("make", [tiny_sd15, xl])
def test_a_file_marked_as_zero_snr_draws_what_diffusers_draws_from_pure_noise(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = make(tmp_path / "folder")
    path = one_file(folder, tmp_path / "noob.safetensors", v_pred=EMPTY, ztsnr=EMPTY)
    policy = load_policy(path, config=folder)
    assert policy.prediction == "v_prediction"
    assert 1e-4 < 1 - policy.schedule.grid(4)[0] < 1e-3  # diffusers leaves alpha 2^-12 at the last level
    pipeline_class = StableDiffusionXLPipeline if policy.family == "sdxl" else StableDiffusionPipeline
    pipeline = pipeline_class.from_pretrained(folder)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(
        {**pipeline.scheduler.config, "steps_offset": 0},
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "red hair", num_inference_steps=4, guidance_scale=3.5, width=32, height=32, output_type="pt",
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    torch.testing.assert_close(drawn(policy), theirs, rtol=0, atol=0.5 / 255 + 5e-4)


def test_a_file_is_told_by_its_network_whose_configuration_it_has(tmp_path: Path) -> None:
    """SDXL and SSD-1B differ in the depth of their transformers alone."""
    for depths, expected in (
        ((1, 2, 10), "stabilityai/stable-diffusion-xl-base-1.0"),
        ((0, (2, 2), (4, 4)), "segmind/SSD-1B"),
        ((1, 1, 1), None),
    ):
        up = (1, 1, 1)
        unet = UNet2DConditionModel(
            sample_size=16, in_channels=8, out_channels=8, layers_per_block=2, block_out_channels=(8, 8, 8),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=depths, reverse_transformer_layers_per_block=up,
            mid_block_type="UNetMidBlock2D", attention_head_dim=1, cross_attention_dim=16 + 24,
            addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8, use_linear_projection=True, norm_num_groups=4,
        )  # fmt: skip
        folder = xl(tmp_path / str(expected), lambda _, unet=unet: unet)  # type: ignore[misc]
        found = find(one_file(folder, tmp_path / "model.safetensors"))
        assert found.config == expected
    with pytest.raises(ValueError, match="of another depth than the published ones of its family: name a"):
        load_policy(tmp_path / "model.safetensors", prediction="epsilon")


@pytest.fixture
def cache(sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits of `someone/model` as the hub's own client keeps them, and no network."""
    home = tmp_path / "models--someone--model"
    for commit in COMMITS:
        shutil.copytree(sd15, home / "snapshots" / commit)
    scheduler = home / "snapshots" / COMMITS[1] / "scheduler" / "scheduler_config.json"
    config = json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}
    scheduler.write_text(json.dumps(config))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMITS[0])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return home


def test_a_hub_id_is_loaded_at_the_commit_that_is_pinned(cache: Path) -> None:
    assert find("someone/model").revision == COMMITS[0], "a branch is pinned to what it is now"
    assert load_policy("someone/model").prediction == "epsilon"
    assert load_policy(f"someone/model@{COMMITS[1]}").prediction == "v_prediction"
    assert load_policy("someone/model", revision=COMMITS[1]).prediction == "v_prediction"
    with pytest.raises(LookupError, match="neither a folder nor a model that the hub gave"):
        load_policy(f"someone/model@{'c' * 40}")


def test_a_file_whose_configuration_is_not_on_this_machine_says_which_is_missing(
    cache: Path, sd15_file: Path
) -> None:
    with pytest.raises(LookupError, match=r"stands in the files of stable-diffusion-v1-5/.*name a diffusers"):
        load_policy(sd15_file, prediction="epsilon")


def test_a_file_that_does_not_fit_its_configuration_is_refused(
    sd15: Path, sd15_file: Path, tmp_path: Path
) -> None:
    def without(start: str) -> Path:
        return changed(
            sd15_file,
            tmp_path / "model.safetensors",
            lambda tensors: {name: t for name, t in tensors.items() if not name.startswith(start)},
        )

    with pytest.raises(ValueError, match="does not fit the configuration of"):
        load_policy(without("model.diffusion_model.out.2."), prediction="epsilon", config=sd15)
    with pytest.raises(ValueError, match="does not fit the configuration of"):
        load_policy(sd15_file, prediction="epsilon", config=xl(tmp_path / "sdxl"))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("control_model.time_embed.0.weight", "a ControlNet"),
        ("conditioner.embedders.0.model.positional_embedding", "an SDXL refiner"),
        ("edm_mean", "a Playground"),
        ("lora_unet_mid_block_resnets_0_conv1.lora_down.weight", "a LoRA, not a base"),
        ("down_blocks.0.resnets.0.conv1.weight", "one part of a diffusers folder"),
        ("anything.else", "holds none of the models that FlowGRPO can drive"),
    ],
)
def test_a_file_of_another_kind_is_told_what_it_is(tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / "sdxl_base_epsilon.safetensors"  # a name proves nothing
    save_file({name: torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=what):
        load_policy(path)


def test_an_inpainting_file_is_told_its_sibling(sd15_file: Path, tmp_path: Path) -> None:
    first = "model.diffusion_model.input_blocks.0.0.weight"
    path = changed(sd15_file, tmp_path / "x.safetensors", lambda t: t | {first: torch.zeros(32, 17, 3, 3)})
    with pytest.raises(ValueError, match=r"an inpainting or editing model \(17 input channels\)"):
        load_policy(path)


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionInpaintPipeline", "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLControlNetPipeline", "FluxFillPipeline",
    ],
)  # fmt: skip
def test_a_folder_of_another_pipeline_is_told_which_can_be_driven(tmp_path: Path, name: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(ValueError, match=f"is a {name}; FlowGRPO can drive StableDiffusionPipeline, "):
        load_policy(tmp_path)


def test_an_inpainting_network_in_a_plain_pipeline_is_told_its_sibling(tmp_path: Path) -> None:
    def unet(_: int) -> UNet2DConditionModel:
        return UNet2DConditionModel.from_config({**tiny_unet().config, "in_channels": 17})

    with pytest.raises(ValueError, match="takes 17 channels and the VAE gives 8: this is an inpainting"):
        load_policy(tiny_sdxl(tmp_path / "folder", unet=unet))


def test_a_network_that_takes_guidance_the_lcm_way_is_refused(tmp_path: Path) -> None:
    def unet(_: int) -> UNet2DConditionModel:
        plain = {name: value for name, value in tiny_unet().config.items() if not name.startswith("_")}
        return UNet2DConditionModel(**{**plain, "time_cond_proj_dim": 8})

    with pytest.raises(ValueError, match=r"takes guidance as an input \(LCM\)"):
        load_policy(tiny_sdxl(tmp_path / "folder", unet=unet))


def test_pickles_are_never_opened(sd15: Path, tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.pt", "diffusion_pytorch_model.bin"):
        with pytest.raises(ValueError, match="is a pickle, which can run programs"):
            load_policy(tmp_path / name)
    folder = tmp_path / "folder"
    StableDiffusionPipeline.from_pretrained(sd15).save_pretrained(folder, safe_serialization=False)
    with pytest.raises(ValueError, match="of folder is a pickle, which can run programs"):
        load_policy(folder)


def test_a_folder_that_has_half_precision_files_alone_is_read(sd15: Path, tmp_path: Path) -> None:
    StableDiffusionPipeline.from_pretrained(sd15).save_pretrained(tmp_path / "folder", variant="fp16")
    assert (tmp_path / "folder" / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert torch.equal(drawn(load_policy(tmp_path / "folder")), drawn(load_policy(sd15)))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_were_cut_short_are_named(sd15: Path, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(sd15, tmp_path / "folder"))
    (weights,) = (folder / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"the weights of folder are damaged: get them again .{part}/"):
        load_policy(folder)


@pytest.mark.parametrize("length", [0, 4, 500, -100])
def test_a_file_that_was_cut_short_is_refused_before_it_is_read(
    sd15_file: Path, tmp_path: Path, length: int
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(sd15_file.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut short: get it again"):
        load_policy(path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(sd15: Path, tmp_path: Path, part: str, number: float) -> None:
    folder = Path(shutil.copytree(sd15, tmp_path / "folder"))
    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    name = list(tensors)[-1]
    tensors[name].flatten()[0] = number
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"in the {part} of .* holds numbers that are not finite"):
        load_policy(folder)


def test_a_part_that_is_not_there_is_named(sd15: Path, sd15_file: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sd15, tmp_path / "folder"))
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(LookupError, match=r"scheduler_config\.json"):
        load_policy(folder)
    with pytest.raises(ValueError, match="folder is no single file: its own files say what it predicts"):
        load_policy(folder, prediction="epsilon")
