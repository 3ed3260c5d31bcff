"""What a pass takes under fake tensors, held against real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flowgrpo.config import LoraConfig
from flowgrpo.live import counted
from flowgrpo.policies import load_policy
from flowgrpo.published import architecture
from flowgrpo.sizes import Sizes
from tests.tiny import tiny_sd15
from tests.tiny_flow import tiny_flux, tiny_sd3

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="module")
def sd15() -> Sizes:
    return Sizes(architecture("sd15"), LoraConfig(rank=16, targets=ATTENTION), torch.bfloat16)


@pytest.mark.parametrize("rank", [16, 32])
@pytest.mark.parametrize("name", ["sd15", "ssd-1b", "sd3.5-medium"])
def test_an_adapter_of_twice_the_rank_takes_twice_the_bytes_and_hits_its_targets(
    name: str, rank: int
) -> None:
    sizes = Sizes(architecture(name), LoraConfig(rank=rank, targets=ATTENTION), torch.bfloat16)
    shapes = {name.rpartition(".lora_")[0]: p for name, p in sizes.adapter.items()}
    assert all(module.endswith(ATTENTION) for module in shapes)
    linear = dict(sizes.network.named_modules())
    expected = 0
    for module in shapes:
        base = linear[module].get_submodule("base_layer")
        assert isinstance(base, nn.Linear)
        expected += rank * (base.in_features + base.out_features)
    assert sizes.adapter_bytes == 4 * expected


@pytest.mark.parametrize(
    ("name", "latents", "words"),
    [
        ("ssd-1b", (4, 128, 128), {"text_embeds": (2, 1280), "time_ids": (2, 6)}),
        ("sd3.5-medium", (16, 128, 128), {"pooled_projections": (2, 2048)}),
        ("flux.1-dev", (4096, 64), {"pooled_projections": (2, 768), "img_ids": (4096, 3)}),
    ],
)
def test_every_stored_tensor_of_a_real_base_has_its_shape(
    name: str, latents: tuple[int, ...], words: dict[str, tuple[int, ...]]
) -> None:
    sizes = Sizes(architecture(name), LoraConfig(rank=4, targets=("to_q",)), torch.bfloat16)
    image, told = sizes._inputs(2, 1024, 1024)
    flat: dict[str, Any] = told | told.get("added_cond_kwargs", {})  # type: ignore[operator]
    assert image.shape == (2, *latents)
    assert flat["encoder_hidden_states"].shape[1:] == sizes.base.words[:2]
    for key, shape in words.items():
        assert flat[key].shape == shape


@pytest.fixture(params=["sdxl", "sd15", "sd3", "flux"])
def base(request: pytest.FixtureRequest, tmp_path: Path, tiny_folder: Path) -> Path:
    makers: dict[str, Callable[[Path], Path]] = {"sd15": tiny_sd15, "sd3": tiny_sd3, "flux": tiny_flux}
    return tiny_folder if request.param == "sdxl" else makers[request.param](tmp_path / "base")


@pytest.mark.parametrize("learns", [False, True])
def test_the_pretended_peak_is_the_peak_of_the_real_tensors(base: Path, learns: bool) -> None:
    sizes = Sizes(architecture(base), LoraConfig(rank=4))
    expected = sizes.denoise(3, 32, 32, learns=learns).peak_bytes
    policy = load_policy(base)
    policy.attach_lora(LoraConfig(rank=4))
    conditioning = policy.encode(["red hair"] * 3, guided=False, width=32, height=32)
    latents = torch.randn(3, *policy.latent_shape(32, 32))
    held = [*policy.network.parameters(), *policy.network.buffers(), latents, *conditioning.positive.values()]
    with torch.set_grad_enabled(learns), counted(held) as (live, _):
        velocity = policy.velocity(latents, 0.5, conditioning)
        if learns:
            velocity.square().mean().backward()
    assert live.peak == pytest.approx(expected, rel=0.2)


def test_recomputed_activations_take_several_times_less(sd15: Sizes) -> None:
    again = Sizes(sd15.base, LoraConfig(rank=16, targets=ATTENTION), torch.bfloat16, checkpointing=True)
    kept, recomputed = (one.denoise(1, 512, 512, learns=True) for one in (sd15, again))
    assert recomputed.peak_bytes < kept.peak_bytes / 2
    assert recomputed.flops > kept.flops
