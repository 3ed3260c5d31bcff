"""One file in the names of Stability's own code, held against another writer and read by diffusers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from flowgrpo import ldm_names
from flowgrpo.policies import load_policy
from flowgrpo.policies.source import find
from flowgrpo.tensorfile import write_tensors
from tests import ldm
from tests.tiny import tiny_sd15, tiny_sdxl, tiny_ssd_unet

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
BASES: dict[str, Callable[[Path], Path]] = {
    "sd15": tiny_sd15,
    "sdxl": partial(tiny_sdxl, second_width=24, prediction_type="v_prediction"),
    "ssd": partial(tiny_sdxl, second_width=24, unet=tiny_ssd_unet),
}


@pytest.mark.parametrize("name", list(BASES))
def test_a_whole_model_in_one_file_is_the_model_that_it_was(tmp_path: Path, name: str) -> None:
    folder, path = BASES[name](tmp_path / "pipeline"), tmp_path / "one.safetensors"
    found = ldm_names.one_file(DiffusionPipeline.from_pretrained(folder))
    assert (found.pop("v_pred", None) is not None) == (name == "sdxl")
    expected = load_file(ldm.one_file(folder, tmp_path / "expected.safetensors"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in found.items())
    write_tensors(path, found | ({"v_pred": torch.empty(0)} if name == "sdxl" else {}))
    assert find(path).prediction == ("v_prediction" if name == "sdxl" else None)
    told = None if name == "sdxl" else "epsilon"
    one, other = load_policy(path, config=folder, prediction=told), load_policy(folder)
    assert one.prediction == other.prediction
    for part in ("unet", "vae", "text_encoder", "text_encoder_2")[: 3 if name == "sd15" else 4]:
        weights = getattr(other.pipeline, part).state_dict()
        for key, weight in getattr(one.pipeline, part).state_dict().items():
            assert torch.equal(weight, weights[key]), (part, key)
