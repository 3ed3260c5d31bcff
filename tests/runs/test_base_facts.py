"""What is said of a base whose files lie in a folder, in the hub's cache, in one file, or nowhere here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from flowgrpo.filefacts import architecture_of
from flowgrpo.runs import base_facts
from storage.models import BaseModel

COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub of this test alone, empty."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(folder), raising=False)
    return folder


def a_base(source: object, family: str = "flux", **options: str) -> BaseModel:
    return BaseModel(name="b", source=str(source), family=family, options=options or None)


def cached(cache: Path, name: str, files: dict[str, object]) -> None:
    snapshot = cache / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT
    for file, content in files.items():
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_hub_models_variant_is_read_from_the_cache_and_is_known_of_the_published_ones(cache: Path) -> None:
    network = {"transformer/config.json": {"guidance_embeds": True}}
    cached(cache, "me/flux-tuned", network | {"README.md": "---\nlicense: other\nlicense_name: mine\n---\n"})
    base = a_base(f"me/flux-tuned@{COMMIT}")
    assert architecture_of("flux", base_facts.network_config(base)) == "flux-1-dev"
    assert base_facts.licence(base) == "mine"
    absent = a_base(f"black-forest-labs/FLUX.1-schnell@{COMMIT}")
    assert architecture_of("flux", base_facts.network_config(absent)) == "flux-1-schnell"
    assert base_facts.licence(absent) == "Apache-2.0"
    unknown = a_base(f"me/nothing@{COMMIT}")
    assert (base_facts.network_config(unknown), base_facts.licence(unknown)) == ({}, "")


def test_a_single_file_is_what_it_is_built_like(cache: Path, tmp_path: Path) -> None:
    cached(cache, "me/home", {"transformer/config.json": {"guidance_embeds": False}})
    base = a_base(tmp_path / "gone.safetensors", config=f"me/home@{COMMIT}")
    assert architecture_of("flux", base_facts.network_config(base)) == "flux-1-schnell"
    blocks = [f"double_blocks.{n}.a" for n in range(19)] + [f"single_blocks.{n}.a" for n in range(38)]
    marks = ["double_blocks.0.img_attn.norm.key_norm.scale", "guidance_in.in_layer.weight"]
    save_file({name: torch.zeros(1) for name in blocks + marks}, tmp_path / "dev.safetensors")
    single = a_base(tmp_path / "dev.safetensors")
    assert architecture_of("flux", base_facts.network_config(single)) == "flux-1-dev"
    assert base_facts.licence(single) == "FLUX.1 [dev] Non-Commercial License"


def test_what_a_unet_predicts_is_what_its_row_its_file_or_its_folder_says(
    pipeline: Path, tmp_path: Path
) -> None:
    assert base_facts.prediction(a_base(pipeline, "sdxl")) == "epsilon"
    assert base_facts.layers_per_block(a_base(pipeline, "sdxl")) == 1
    assert base_facts.prediction(a_base(tmp_path / "x.safetensors", "sdxl", prediction="v_prediction")) == "v"
    assert base_facts.prediction(a_base(tmp_path / "nowhere", "sdxl")) == ""
    assert base_facts.licence(a_base(Path("flowgrpo/starter/weights/pipeline").resolve(), "sdxl")).startswith(
        "CC BY"
    )
