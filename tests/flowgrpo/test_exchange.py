"""Adapters as other programs read and write them. Diffusers is the judge of every file that we write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_kohya
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flowgrpo import exchange, lora
from flowgrpo.config import LoraConfig
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import sample
from tests import ldm
from tests.flowgrpo.conftest import perturb, state_of
from tests.tiny import tiny_sd15, tiny_sdxl, tiny_ssd_unet

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASES: dict[str, Callable[[Path], Path]] = {
    "sd15": tiny_sd15,
    "sdxl": tiny_sdxl,
    "ssd-1b": lambda folder: tiny_sdxl(folder, unet=tiny_ssd_unet),
}
LAYOUTS: tuple[exchange.Layout, ...] = ("diffusers", "kohya")
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module", params=list(BASES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES[request.param](tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("base") / "pipeline")


def tuned(folder: Path) -> Policy:
    """Alpha is twice the rank: a reader that lost the scale would draw something else."""
    policy = load_policy(folder)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    perturb(policy, size=0.15)
    return policy


def written(policy: Policy, path: Path, layout: exchange.Layout = "kohya") -> Path:
    assert policy.lora_config is not None
    layers = policy.network.config.layers_per_block
    return exchange.export(
        path, policy.lora_config, state_of(policy), family=policy.family, layout=layout,
        layers_per_block=layers,
    )  # fmt: skip


def drawn(policy: Policy) -> Tensor:
    return sample(
        policy, ["red hair"], seeds=[5], num_steps=4, guidance_scale=1.0, width=32, height=32
    ).images


def by_diffusers(folder: Path, adapter: Path) -> Tensor:
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    images: Tensor = pipeline(
        "red hair", num_inference_steps=4, guidance_scale=1.0, width=32, height=32, output_type="pt",
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    return images


def assert_same_images(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.5 / 255 + 2e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_diffusers_draws_the_same_with_either_layout(
    base: Path, tmp_path: Path, layout: exchange.Layout
) -> None:
    policy = tuned(base)
    path = written(policy, tmp_path / "adapter.safetensors", layout)
    assert (drawn(policy) - drawn(load_policy(base))).abs().max() > 0.02
    assert_same_images(drawn(policy), by_diffusers(base, path))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_we_wrote_comes_back_as_the_same_change_of_every_weight(
    base: Path, tmp_path: Path, layout: exchange.Layout
) -> None:
    policy, other = tuned(base), load_policy(base)
    path = written(policy, tmp_path / "adapter.safetensors", layout)
    config, tensors = other.read_adapter(path)
    assert policy.lora_config is not None
    assert config.alpha == config.rank == 4, "the scale is in B now"
    expected = lora.baked(policy.lora_config, state_of(policy))
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    other.load_adapter(path)
    assert_same_images(drawn(other), drawn(policy))
    other.unload_adapter()
    assert torch.equal(drawn(other), drawn(load_policy(base)))


def test_an_adapter_that_was_read_can_be_tuned_on(base: Path, tmp_path: Path) -> None:
    first, second = tuned(base), load_policy(base)
    config, tensors = second.read_adapter(written(first, tmp_path / "adapter.safetensors"))
    second.attach_lora(config)
    lora.copy_into(second.trainable_parameters(), tensors)
    assert_same_images(drawn(second), drawn(first))


def test_kohyas_names_of_sd15_are_those_that_diffusers_writes(tmp_path: Path) -> None:
    policy = tuned(tiny_sd15(tmp_path / "pipeline"))
    assert policy.lora_config is not None
    ours = load_file(written(policy, tmp_path / "adapter.safetensors"))
    named = {f"unet.{name}": t for name, t in lora.baked(policy.lora_config, state_of(policy)).items()}
    theirs = convert_state_dict_to_kohya(named)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name].to(tensor)) for name, tensor in ours.items())


def test_a_kohya_file_of_sdxl_may_have_diffusers_names_too(sdxl: Path, tmp_path: Path) -> None:
    """As diffusers' own training scripts write them."""
    policy, path = tuned(sdxl), tmp_path / "adapter.safetensors"
    assert policy.lora_config is not None
    named = {f"unet.{name}": t for name, t in lora.baked(policy.lora_config, state_of(policy)).items()}
    save_file({name: t.contiguous() for name, t in convert_state_dict_to_kohya(named).items()}, path)
    other = load_policy(sdxl)
    other.load_adapter(path)
    assert_same_images(drawn(other), by_diffusers(sdxl, path))


@pytest.mark.parametrize("name", ["sdxl", "ssd-1b"])
def test_kohyas_names_of_sdxl_are_those_of_stabilitys_code(name: str, tmp_path: Path) -> None:
    unet = load_policy(BASES[name](tmp_path / "pipeline")).network
    layers = unet.config.layers_per_block
    named = [key for key, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for module in named:
        (published,) = ldm.unet({f"{module}.weight": torch.zeros(1), **attended(unet)}, layers).keys() - \
            ldm.unet(attended(unet), layers).keys()  # fmt: skip
        expected = published.removeprefix("model.diffusion_model.").removesuffix(".weight")
        assert exchange.kohya_name(module, "sdxl", layers) == "lora_unet_" + expected.replace(".", "_")


def attended(unet: nn.Module) -> Tensors:
    """One tensor of each block with attention, which moves the name of what follows it."""
    norms = [name for name in unet.state_dict() if name.endswith(".attentions.0.norm.weight")]
    return {name: torch.zeros(1) for name in norms}


@pytest.mark.parametrize(
    ("family", "config", "count"),
    [
        ("sd15", {"cross_attention_dim": 768}, 192),
        (
            "sdxl",
            {
                "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True,
                "attention_head_dim": (5, 10, 20),
            },
            722,
        ),
    ],
)  # fmt: skip
def test_the_real_networks_have_as_many_names_as_kohyas_trainer_counts(
    family: str, config: dict[str, object], count: int
) -> None:
    """It adapts the linear layers and the 1 x 1 convolutions of every transformer."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    inside = [
        name
        for name, module in unet.named_modules()
        if ".attentions." in name and isinstance(module, nn.Linear | nn.Conv2d)
    ]
    assert len({exchange.kohya_name(name, family) for name in inside}) == count
    if family == "sdxl":
        deep = "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0"
        assert exchange.kohya_name(deep, "sdxl") == (
            "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_out_0"
        )


def test_modules_with_ranks_and_alphas_of_their_own_draw_as_in_diffusers(sdxl: Path, tmp_path: Path) -> None:
    """kohya gives convolutions a rank of their own (`conv_dim`)."""
    path = written(tuned(sdxl), tmp_path / "adapter.safetensors")
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith("in_layers_2.alpha")]:
        module = name.removesuffix(".alpha")
        tensors[name] = torch.tensor(1.0)
        tensors[f"{module}.lora_down.weight"] = tensors[f"{module}.lora_down.weight"][:2].contiguous()
        tensors[f"{module}.lora_up.weight"] = tensors[f"{module}.lora_up.weight"][:, :2].contiguous()
    save_file(tensors, path)
    policy = load_policy(sdxl)
    policy.load_adapter(path)
    assert_same_images(drawn(policy), by_diffusers(sdxl, path))


@pytest.mark.parametrize(
    ("family", "module"), [("flux", "norm_out.linear"), ("sd3", "transformer_blocks.0.norm1_context.linear")]
)
def test_what_has_no_place_in_kohyas_layout_is_refused(tmp_path: Path, family: str, module: str) -> None:
    """The halves of these change places between the two programs."""
    tensors = {f"{module}.lora_A.weight": torch.ones(2, 4), f"{module}.lora_B.weight": torch.ones(4, 2)}
    with pytest.raises(ValueError, match=f"{module} has no place in kohya's layout of {family}: export with"):
        exchange.export(
            tmp_path / "a.safetensors", LoraConfig(rank=2), tensors, family=family, layout="kohya"
        )
    exchange.export(tmp_path / "a.safetensors", LoraConfig(rank=2), tensors, family=family)
    assert all(name.startswith("transformer.") for name in load_file(tmp_path / "a.safetensors"))


def first(tensors: Tensors, end: str) -> str:
    return next(name for name in tensors if name.endswith(end))


DOWN, UP = ".lora_down.weight", ".lora_up.weight"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: {}, "holds no adapter"),
        (lambda t: t | {first(t, DOWN): t[first(t, DOWN)] * float("nan")}, "numbers that are not finite"),
        (lambda t: t | {k: t[k][:0] if DOWN in k else t[k][:, :0] for k in t if "alpha" not in k}, "rank 0"),
        (lambda t: {k: v for k, v in t.items() if k != first(t, UP)}, "one half of"),
        (lambda t: t | {first(t, UP): t[first(t, UP)][1:]}, "the adapter does not fit .*for another base"),
        (lambda t: t | {"lora_unet_nowhere.alpha": torch.ones(())}, None),
        (lambda t: t | {"lora_unet_nowhere" + UP: torch.ones(2, 2)}, "nowhere, which this model does not"),
        (lambda t: t | {"lora_te1_text_model" + UP: torch.ones(2, 2)}, "changes the text encoders too"),
        (lambda t: t | {first(t, DOWN).replace(DOWN, ".hada_w1_a"): torch.ones(2)}, "is no plain LoRA"),
        (lambda t: t | {first(t, DOWN).replace(DOWN, ".dora_scale"): torch.ones(2)}, "is no plain LoRA"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_gets_a_sentence(
    sdxl: Path, tmp_path: Path, damage: Callable[[Tensors], Tensors], words: str | None
) -> None:
    path = written(tuned(sdxl), tmp_path / "adapter.safetensors")
    save_file({name: t.contiguous() for name, t in damage(load_file(path)).items()}, path)
    policy = load_policy(sdxl)
    before = {name: weight.clone() for name, weight in policy.network.named_parameters()}
    if words is None:
        policy.load_adapter(path)  # an alpha without its module says nothing
        return
    with pytest.raises(ValueError, match=words):
        policy.load_adapter(path)
    assert all(torch.equal(weight, before[name]) for name, weight in policy.network.named_parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_adapter_of_another_base_is_refused(sdxl: Path, tmp_path: Path, layout: exchange.Layout) -> None:
    path = written(tuned(tiny_sd15(tmp_path / "sd15")), tmp_path / "adapter.safetensors", layout)
    with pytest.raises(ValueError, match=r"(does not have|does not fit .* for another base)"):
        load_policy(sdxl).load_adapter(path)


def test_files_that_are_no_adapter_are_refused(sdxl: Path, tmp_path: Path) -> None:
    policy, path = load_policy(sdxl), tmp_path / "adapter.safetensors"
    for name in ("adapter.pt", "adapter.bin", "adapter.ckpt"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n")
        with pytest.raises(ValueError, match=f"{name} is a pickle, which can run programs"):
            policy.load_adapter(tmp_path / name)
    with pytest.raises(LookupError, match=r"there is no file .*nothing\.safetensors"):
        policy.read_adapter(tmp_path / "nothing.safetensors")
    written(tuned(sdxl), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is damaged or cut short: get it again"):
        policy.load_adapter(path)
    save_file({"unet.conv_in.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"is no plain LoRA: it holds unet\.conv_in\.weight"):
        policy.load_adapter(path)
    scaled = '{"unet.r": 4, "unet.lora_alpha": 8, "unet.use_rslora": true}'
    save_file({}, path, metadata={"lora_adapter_metadata": scaled})
    with pytest.raises(ValueError, match="its scale is not one number"):
        policy.load_adapter(path)
    save_file({}, path, metadata={"lora_adapter_metadata": "{"})
    with pytest.raises(ValueError, match="the metadata of adapter"):
        policy.load_adapter(path)
