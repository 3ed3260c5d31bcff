"""SD3.5-medium and FLUX.1-dev as they were published, without their weights: counts, adapters, shapes."""

from __future__ import annotations

import json
import math
import re
from collections import Counter

import pytest
import torch
from torch import Tensor

from flowgrpo import flow, lora
from flowgrpo.config import LoraConfig
from flowgrpo.policies import Conditioning, Policy
from flowgrpo.policies.sd3 import MMDIT_TARGETS
from tests.published import PUBLISHED, bare_part, bare_policy

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = ("sd3.5-medium", "flux.1-dev")
T5_XXL = 4_762_310_656
VAE = 83_819_683
COUNTS = {
    "sd3.5-medium": {
        "transformer": 2_243_171_520, "vae": VAE, "text_encoder": 123_650_304,
        "text_encoder_2": 694_659_840, "text_encoder_3": T5_XXL,
    },
    "flux.1-dev": {
        "transformer": 11_901_408_320, "vae": VAE, "text_encoder": 123_060_480, "text_encoder_2": T5_XXL,
    },
}  # fmt: skip
"""Parameters. The transformers' and T5's agree with the sizes of the published files in half precision."""
WORDS = {
    "sd3.5-medium": {"embeds": (333, 4096), "pooled": (2048,)},
    "flux.1-dev": {"embeds": (512, 4096), "pooled": (768,)},
}
ADAPTERS = {
    ("sd3.5-medium", 16): 9_388_032,
    ("sd3.5-medium", 32): 18_776_064,
    ("sd3.5-medium", 64): 37_552_128,
    ("flux.1-dev", 16): 26_148_864,
    ("flux.1-dev", 32): 52_297_728,
    ("flux.1-dev", 64): 104_595_456,
}


_JOINT = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj")
_SINGLE = ("to_q", "to_k", "to_v")
HIT = {
    # the last block of SD3 forgets the words, and so has no projection that gives them back
    "sd3.5-medium": {f"transformer_blocks.{part}": 24 for part in _JOINT}
    | {"transformer_blocks.to_add_out": 23},
    "flux.1-dev": {f"transformer_blocks.{part}": 19 for part in (*_JOINT, "to_add_out")}
    | {f"single_transformer_blocks.{part}": 38 for part in _SINGLE},
}
"""How many modules of each kind get an adapter."""


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def policy(name: str) -> Policy:
    return bare_policy(name)


def numbers(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def test_every_part_has_the_published_number_of_parameters(name: str, policy: Policy) -> None:
    parts = {part: module for part, module in policy.pipeline.components.items() if part in COUNTS[name]}
    assert {part: numbers(list(module.parameters())) for part, module in parts.items()} == COUNTS[name]
    assert all(tensor.is_meta for module in parts.values() for tensor in module.parameters())


def test_the_transformers_are_as_large_as_their_published_files() -> None:
    """SD3.5-medium's file holds its table of positions too, 909 tensors and 4,939,433,672 bytes with the
    header; FLUX.1-dev's index says 23,802,816,640 bytes.
    """
    sd3 = bare_part("sd3.5-medium", "transformer").state_dict()
    assert len(sd3) == 909
    assert 2 * numbers(list(sd3.values())) == 2 * 2_469_663_936
    assert 0 < 4_939_433_672 - 2 * 2_469_663_936 < 2**17
    flux = bare_part("flux.1-dev", "transformer").state_dict()
    assert 2 * numbers(list(flux.values())) == 23_802_816_640


@pytest.mark.parametrize("rank", [16, 32, 64])
def test_adapters_hit_their_targets_and_have_these_sizes(name: str, rank: int) -> None:
    network = bare_part(name, "transformer")
    lora.attach(network, LoraConfig(rank=rank, targets=MMDIT_TARGETS), seed=0)
    adapter = lora.parameters(network)
    modules = {parameter.rpartition(".lora_")[0] for parameter in adapter}
    hit = Counter(re.sub(r"(blocks)\.\d+\.attn", r"\1", module) for module in modules)
    assert hit == HIT[name]
    assert numbers(list(adapter.values())) == ADAPTERS[name, rank]
    assert all(tensor.is_meta and tensor.dtype == torch.float32 for tensor in adapter.values())


@pytest.mark.parametrize("side", [512, 1024])
def test_every_stored_tensor_and_every_input_has_this_shape(name: str, policy: Policy, side: int) -> None:
    read = policy._read("red hair")
    assert {word: tuple(tensor.shape[1:]) for word, tensor in read.items()} == WORDS[name]
    two = {word: torch.cat([tensor, tensor]) for word, tensor in read.items()}
    shape = policy.latent_shape(side, side)
    assert shape == (16, side // 8, side // 8)
    tables: list[Tensor] = []
    hook = policy.network.pos_embed.register_forward_hook(lambda _, told, __: tables.append(told[0]))
    latents = torch.empty(2, *shape, device="meta", dtype=policy.dtype)
    velocity = policy.velocity(latents, 0.75, Conditioning(two), 1.0)
    hook.remove()
    assert velocity.shape == latents.shape
    assert policy.decode(latents).shape == (2, 3, side, side)
    tokens = (side // 16) ** 2
    seen = (512 + tokens, 3) if policy.family == "flux" else (2, *shape)
    assert [tuple(table.shape) for table in tables] == [seen]  # FLUX's ids of words and image; SD3's latents


def test_sizes_step_by_sixteen_pixels_and_sd3_ends_at_6144(policy: Policy) -> None:
    assert policy.size_step == 16
    with pytest.raises(ValueError, match="width must be a multiple of 16, got 1000: try 992"):
        policy.latent_shape(1000, 1024)
    if policy.family == "sd3":
        with pytest.raises(ValueError, match="height must be at most 6144"):
            policy.latent_shape(1024, 6160)


def test_noise_levels_follow_the_published_scheduler(policy: Policy) -> None:
    """SD3.5 shifts by 3 at every size; FLUX.1-dev by exp(0.63) at 512 and exp(1.15) at 1024 pixels."""
    small, large = (policy.grid(28, side, side)[14] for side in (512, 1024))
    if policy.family == "sd3":
        unshifted = 1 - 14 / 27 * (1 - flow.shifted(0.001, 3.0))
        assert small == large == pytest.approx(flow.shifted(unshifted, 3.0), abs=1e-9)
    else:
        assert small == pytest.approx(flow.shifted(0.5, math.exp(0.63)), abs=1e-9)
        assert large == pytest.approx(flow.shifted(0.5, math.exp(1.15)), abs=1e-9)


def test_every_published_configuration_says_where_it_is_from() -> None:
    files = sorted(PUBLISHED.rglob("*.json"))
    assert {file.relative_to(PUBLISHED).parts[0] for file in files} >= set(NAMES)
    assert [file for file in files if not json.loads(file.read_text()).get("_source")] == []
