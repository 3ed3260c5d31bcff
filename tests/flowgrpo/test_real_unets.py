"""SD 1.5, SDXL and SSD-1B as they were published, without their weights: counts, adapters, shapes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from flowgrpo import lora
from flowgrpo.config import LoraConfig
from flowgrpo.flow import VPSchedule
from flowgrpo.policies import Conditioning, Policy
from tests.published import bare_part, bare_policy

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = ("sd15", "sdxl", "ssd-1b")
CLIP_L, CLIP_BIG_G, VAE = 123_060_480, 694_659_840, 83_653_863
TWO_ENCODERS = {"text_encoder": CLIP_L, "text_encoder_2": CLIP_BIG_G, "vae": VAE}
COUNTS = {
    "sd15": {"text_encoder": CLIP_L, "vae": VAE, "unet": 859_520_964},
    "sdxl": TWO_ENCODERS | {"unet": 2_567_463_684},
    "ssd-1b": TWO_ENCODERS | {"unet": 1_331_334_404},
}
"""Parameters. The first two UNets' are widely published, SSD-1B's card says 1.3B."""
WORDS: dict[str, dict[str, tuple[int, ...]]] = {
    "sd15": {"embeds": (77, 768)},
    "sdxl": {"embeds": (77, 2048), "pooled": (1280,)},
    "ssd-1b": {"embeds": (77, 2048), "pooled": (1280,)},
}
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
BLOCKS: dict[str, dict[int, int]] = {
    "sd15": {320: 5, 640: 5, 1280: 6},
    "sdxl": {640: 10, 1280: 60},
    "ssd-1b": {640: 8, 1280: 26},
}
"""Transformer blocks by width. SDXL: 2 x 2 and 3 x 2 of 640, 2 x 10, 10 and 3 x 10 of 1280."""
RESNETS = {"sd15": 22, "sdxl": 17, "ssd-1b": 16}
TRANSFORMERS = {"sd15": 16, "sdxl": 11, "ssd-1b": 10}
PUBLISHED_ADAPTERS = {("sd15", 4): 797_184, ("sdxl", 16): 23_224_320}
"""Trainable parameters that diffusers' own LoRA scripts report, of the attention's projections."""


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def policy(name: str) -> Policy:
    return bare_policy(name)


def numbers(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def attached(name: str, rank: int, targets: tuple[str, ...]) -> dict[str, Tensor]:
    network = bare_part(name, "unet")
    lora.attach(network, LoraConfig(rank=rank, targets=targets), seed=0)
    return dict(lora.parameters(network))


def test_every_part_has_the_published_number_of_parameters(name: str, policy: Policy) -> None:
    parts = {part: module for part, module in policy.pipeline.components.items() if part in COUNTS[name]}
    assert {part: numbers(list(module.parameters())) for part, module in parts.items()} == COUNTS[name]
    assert all(tensor.is_meta for module in parts.values() for tensor in module.parameters())


@pytest.mark.parametrize("rank", [4, 16, 32])
def test_an_adapter_of_the_attention_has_this_size(name: str, rank: int) -> None:
    """Of a block of width C that reads words of width W: eight projections, rank x (14 C + 2 W) numbers."""
    words = WORDS[name]["embeds"][1]
    expected = sum(count * rank * (14 * width + 2 * words) for width, count in BLOCKS[name].items())
    assert expected == PUBLISHED_ADAPTERS.get((name, rank), expected)
    adapter = attached(name, rank, ATTENTION)
    assert numbers(list(adapter.values())) == expected
    assert len(adapter) == 2 * 8 * sum(BLOCKS[name].values())
    assert all(tensor.is_meta and tensor.dtype == torch.float32 for tensor in adapter.values())


def test_our_targets_hit_every_block_of_the_network(name: str, policy: Policy) -> None:
    modules = {key.rpartition(".lora_")[0] for key in attached(name, 16, policy.default_targets)}
    hit = Counter(
        next(one for one in policy.default_targets if module.endswith(f".{one}")) for module in modules
    )
    blocks = sum(BLOCKS[name].values())
    assert hit == {
        **dict.fromkeys(ATTENTION, 2 * blocks),
        **dict.fromkeys(("ff.net.0.proj", "ff.net.2"), blocks),
        **dict.fromkeys(("conv1", "conv2"), RESNETS[name]),
        **dict.fromkeys(("proj_in", "proj_out"), TRANSFORMERS[name]),
    }


def test_every_stored_tensor_and_every_input_has_this_shape(name: str, policy: Policy) -> None:
    side = 512 if name == "sd15" else 1024
    read = policy._read("red hair")
    assert {word: tuple(tensor.shape[1:]) for word, tensor in read.items()} == WORDS[name]
    words = policy._stacked([{word: tensor[0] for word, tensor in read.items()}] * 2, side, side)
    if name != "sd15":
        assert words["time_ids"].shape == (2, 6)
    shape = policy.latent_shape(side, side)
    assert shape == (4, side // 8, side // 8)
    latents = torch.empty(2, *shape, device="meta", dtype=policy.dtype)
    velocity = policy.velocity(latents, 0.75, Conditioning(words, words), 5.0)
    assert velocity.shape == latents.shape
    assert velocity.dtype == torch.float32
    assert policy.decode(latents).shape == (2, 3, side, side)


def test_ssd_1b_has_sdxls_blocks_but_for_depth_and_middle() -> None:
    """36 transformer blocks less, the ten of the middle among them, and one residual block."""
    small, large = (bare_part(name, "unet").state_dict() for name in ("ssd-1b", "sdxl"))
    depths = {
        name: Counter(key.partition(".attentions.")[0] for key in state if key.endswith("attn1.to_q.weight"))
        for name, state in (("small", small), ("large", large))
    }
    assert depths["large"]["mid_block"] == 10
    assert "mid_block" not in depths["small"]
    assert depths["large"].total() - depths["small"].total() == 36
    assert any(key.startswith("mid_block.resnets.1") for key in large)
    assert not any(key.startswith("mid_block.resnets.1") for key in small)
    # What SSD-1B has, SDXL has of the same shape: it was cut out of it.
    assert all(large[key].shape == tensor.shape for key, tensor in small.items())


def test_the_grid_starts_where_stable_diffusions_noise_ends(policy: Policy) -> None:
    """Not at pure noise: sigma / (alpha + sigma) is 0.936 at the last training timestep."""
    assert isinstance(policy.schedule, VPSchedule)
    assert policy.schedule.time(999.0) == pytest.approx(0.936, abs=5e-4)
    grid = policy.grid(20, 1024, 1024)
    assert len(grid) == 21
    assert grid[-1] == 0
    assert grid[0] < policy.schedule.time(999.0), "with leading spacing the first step is at timestep 951"
