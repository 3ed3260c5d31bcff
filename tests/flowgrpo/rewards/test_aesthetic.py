from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flowgrpo.rewards.aesthetic import AestheticReward, collapsed, read_head
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.cards import LAION_HEAD
from flowgrpo.rewards.encoders import clip_in_folder
from flowgrpo.rewards.fetch import Options, obtain
from tests.repository.tree import ROOT
from tests.tiny_clip import SIZE

ASSETS = Path(os.environ.get("FLOWGRPO_TEST_ASSETS", ROOT.parent / "shared" / "assets"))
HEAD = ASSETS / "sac+logos+ava1-l14-linearMSE.pth"
needs_head = pytest.mark.skipif(not HEAD.exists(), reason="the published head is not on this machine")


class Chain(nn.Module):
    """Linear layers under the published head's names: dropout stands between some, an activation nowhere."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for below, above in pairwise(widths):
            layers += [nn.Linear(below, above), nn.Dropout(0.2)]
        self.layers = nn.Sequential(*layers[:-1]).eval()

    def forward(self, embeddings: Tensor) -> Tensor:
        scores: Tensor = self.layers(embeddings)
        return scores[:, 0]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 2**16))
def test_a_chain_of_linear_layers_is_one_affine_map(widths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    chain, embeddings = Chain([*widths, 1]), torch.randn(7, widths[0])
    weight, bias = collapsed(chain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(embeddings @ weight + bias, chain(embeddings), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("widths", [[8, 4, 2], [8, 4, 1]])
def test_what_is_no_such_chain_is_refused(widths: list[int]) -> None:
    layers = Chain(widths).state_dict()
    layers["layers.0.weight"] = torch.zeros(3, 8)
    with pytest.raises(ValueError, match="a chain of linear layers that ends in one number"):
        collapsed(layers)


@needs_head
def test_the_published_head_is_the_recorded_direction() -> None:
    weight, bias = read_head(HEAD)
    recorded = np.load(ASSETS / "laion_aes_v2_affine.npz")
    np.testing.assert_allclose(weight.numpy(), recorded["w"], atol=1e-6)
    assert bias == pytest.approx(float(recorded["b"]), abs=1e-5)
    assert weight.norm().item() == pytest.approx(18.0, abs=0.1)
    assert bias == pytest.approx(5.237, abs=1e-3)


@needs_head
def test_the_published_head_collapses_to_what_its_layers_compute() -> None:
    layers = torch.load(HEAD, map_location="cpu", weights_only=True)
    embeddings = torch.randn(16, 768, generator=torch.Generator().manual_seed(0)) / 768**0.5
    hidden = embeddings
    for n in (0, 2, 4, 6, 7):
        hidden = hidden @ layers[f"layers.{n}.weight"].T + layers[f"layers.{n}.bias"]
    weight, bias = read_head(HEAD)
    torch.testing.assert_close(embeddings @ weight + bias, hidden[:, 0], atol=1e-5, rtol=0)


@needs_head
def test_the_published_head_is_the_pinned_file(tmp_path: Path) -> None:
    options = Options(tmp_path, cache=tmp_path, offline=True)
    (tmp_path / LAION_HEAD.file).write_bytes(HEAD.read_bytes())
    assert obtain(LAION_HEAD, options).stat().st_size == 3_714_759


def test_the_value_is_the_affine_map_of_the_unit_embedding(
    tiny_openai: Path, renders: tuple[Tensor, list[str]]
) -> None:
    encoder, weight = clip_in_folder(tiny_openai), torch.linspace(-1, 1, SIZE)
    batch = ScoreBatch(renders[0][:5], renders[1][:5], [0] * 5)
    values = AestheticReward(encoder, weight, 5.2, "1").score(batch).values
    torch.testing.assert_close(values, encoder.encode_images(batch.images) @ weight + 5.2)


def test_a_head_for_another_encoder_is_refused(tiny_openai: Path) -> None:
    with pytest.raises(ValueError, match=f"the head takes 768 numbers, and .* gives {SIZE}"):
        AestheticReward(clip_in_folder(tiny_openai), torch.zeros(768), 5.2, "1")
