"""The header of an exported file: by ModelSpec's rules, with kohya's keys, and true."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from flowgrpo import exchange
from flowgrpo.config import LoraConfig
from flowgrpo.filefacts import HASH, Origin, architecture_of, facts_of, hash_of_prompts, hash_of_weights

ORIGIN = Origin(
    title="Soft light, run 7", base="soft", made_at=datetime(2026, 11, 27, 9, 30, tzinfo=UTC),
    size=(832, 1216), prediction="epsilon", usage_hint="no trigger word",
    training={
        "learning_rate": 0.0003, "update": 60, "seed": 7, "rewards": {"b": 1.0, "a": 0.5}, "n_votes": 1204,
    },
)  # fmt: skip
TENSORS = {"down.lora_A.weight": torch.ones(4, 8), "down.lora_B.weight": torch.ones(8, 4)}


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        found: dict[str, str] = opened.metadata()
    return found


def test_the_header_says_what_the_specification_demands() -> None:
    facts = facts_of("sdxl", 4, {}, ORIGIN)
    demanded = ("sai_model_spec", "architecture", "implementation", "title", "resolution")
    assert all(facts[f"modelspec.{key}"] for key in demanded)
    assert facts["modelspec.sai_model_spec"] == "1.0.1"
    assert facts["modelspec.resolution"] == "832x1216"
    assert datetime.fromisoformat(facts["modelspec.date"]) == ORIGIN.made_at
    assert all(isinstance(value, str) for value in facts.values())


def test_the_header_has_the_keys_that_browsers_of_models_show() -> None:
    facts = facts_of("sd15", 4, {}, ORIGIN)
    shown = {key: facts[key] for key in facts if key.startswith("ss_")}
    assert (
        shown.pop("ss_training_comment")
        == facts["modelspec.description"]
        == ("A LoRA for soft, tuned with FlowGRPO Studio by the rewards b, a, from 1,204 votes of people.")
    )
    assert shown == {
        "ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_network_alpha": "4.0",
        "ss_base_model_version": "sd_v1", "ss_sd_model_name": "soft",
        "ss_output_name": "Soft light, run 7", "ss_learning_rate": "0.0003", "ss_steps": "60", "ss_seed": "7",
    }  # fmt: skip
    assert facts["flowgrpo.rewards"] == '{"a": 0.5, "b": 1.0}'


def test_a_file_of_somebody_else_is_not_said_to_be_tuned_here() -> None:
    facts = facts_of("sd15", 4, {}, replace(ORIGIN, is_tuned_here=False))
    assert facts["modelspec.description"].startswith("A LoRA for soft, imported into")


def test_what_nobody_knows_is_left_out_and_the_size_is_the_familys() -> None:
    bare = replace(ORIGIN, size=None, prediction="", usage_hint="", training={"seed": None})
    facts = facts_of("sd15", 4, {}, bare)
    assert facts["modelspec.resolution"] == "512x512"
    assert (
        not {"modelspec.prediction_type", "modelspec.usage_hint", "ss_seed", "flowgrpo.seed"} & facts.keys()
    )


@pytest.mark.parametrize(
    ("family", "network", "architecture"),
    [
        ("sd15", {}, "stable-diffusion-v1"),
        ("sdxl", {}, "stable-diffusion-xl-v1-base"),
        ("flux", {"guidance_embeds": True}, "flux-1-dev"),
        ("flux", {"guidance_embeds": False}, "flux-1-schnell"),
        ("flux", {}, "flux-1"),
        ("sd3", {"num_layers": 24}, "stable-diffusion-3-m"),
        ("sd3", {"num_layers": 24, "dual_attention_layers": [0, 1]}, "stable-diffusion-3-5-medium"),
        ("sd3", {"num_layers": 38}, "stable-diffusion-3-5-large"),
        ("sd3", {"num_layers": 2}, "stable-diffusion-3"),
    ],
)
def test_a_variant_is_told_by_its_network(family: str, network: dict[str, object], architecture: str) -> None:
    assert architecture_of(family, network) == architecture


def test_a_family_that_we_do_not_know_has_no_name() -> None:
    with pytest.raises(LookupError, match="there is no family dalle"):
        architecture_of("dalle", {})


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_a_file_names_the_hash_of_its_weights_whatever_its_header_says(
    tmp_path: Path, layout: exchange.Layout
) -> None:
    hashes = set()
    for title in ("a", "another title"):
        path = tmp_path / f"{title}.safetensors"
        facts = facts_of("sd15", 4, {}, replace(ORIGIN, title=title))
        exchange.export(path, LoraConfig(rank=4), TENSORS, family="sd15", layout=layout, facts=facts)
        found = header(path)
        assert found["modelspec.hash_sha256"] == f"0x{found[HASH]}"
        assert found["modelspec.title"] == title
        assert found[HASH] == hash_of_weights(path)
        hashes.add(found[HASH])
        data = save(load_file(path))
        assert found[HASH] == hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    assert len(hashes) == 1


def test_a_prompt_set_has_a_name_of_its_own_and_its_words_are_in_no_header() -> None:
    assert hash_of_prompts(["a", "b"]) == hash_of_prompts(["a", "b"]) != hash_of_prompts(["b", "a"])
    assert re.fullmatch("[0-9a-f]{64}", hash_of_prompts(["a"]))
