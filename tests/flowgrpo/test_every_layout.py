"""What is exported draws the studio's own image elsewhere: every family, both layouts, and what comes in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file
from torch import Tensor, nn

from flowgrpo import exchange, peftfile, programs
from flowgrpo.card import Exported, card_of
from flowgrpo.config import LoraConfig
from flowgrpo.families import UNETS
from flowgrpo.filefacts import Origin
from flowgrpo.policies import FAMILIES, Policy, load_policy
from flowgrpo.rollout import sample
from flowgrpo.tensorfile import write_tensors
from tests import comfy, ldm, mmdit
from tests.flowgrpo.conftest import perturb, state_of
from tests.tiny import tiny_sd15, tiny_sdxl
from tests.tiny_flow import tiny_flux, tiny_sd3

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
State = dict[str, Tensor]
LAYOUTS: tuple[exchange.Layout, ...] = ("diffusers", "kohya")
BASES: dict[str, Callable[[Path], Path]] = {
    "sd15": tiny_sd15, "sdxl": tiny_sdxl, "sd3": tiny_sd3, "flux": tiny_flux,
}  # fmt: skip
NATIVE: dict[str, Callable[[State], State]] = {
    "sd15": partial(ldm.unet, layers=1), "sdxl": partial(ldm.unet, layers=1),
    "sd3": mmdit.sd3, "flux": mmdit.flux,
}  # fmt: skip
ORIGIN = Origin(title="soft", base="tiny", made_at=datetime(2026, 11, 27, tzinfo=UTC))


@dataclass(frozen=True)
class Tuned:
    """A base with an adapter whose alpha is twice its rank: who lost the scale would draw something else."""

    family: str
    folder: Path
    policy: Policy
    bare: nn.Module
    tensors: State

    @property
    def changes(self) -> State:
        """Module to what is added to its weight, at the scale that was trained."""
        return changes(self.tensors, 2.0)

    def drawn(self) -> Tensor:
        """The studio's image, before it is rounded to the numbers of a PNG."""
        rollout = sample(self.policy, ["red hair"], seeds=[5], **SETTINGS)
        return self.policy.decode(rollout.latents)

    def written(self, folder: Path, layout: exchange.Layout, tensors: State | None = None) -> Path:
        assert self.policy.lora_config is not None
        return exchange.export(
            folder / f"{layout}.safetensors", self.policy.lora_config, tensors or self.tensors,
            family=self.family, layout=layout, layers_per_block=1,
        )  # fmt: skip


SETTINGS: Any = {"num_steps": 3, "guidance_scale": 1.0, "width": 32, "height": 32}


def changes(tensors: State, scale: float) -> State:
    names = dict.fromkeys(name.partition(".lora_")[0] for name in tensors)
    halves = {name: [tensors[f"{name}.lora_{half}.weight"].flatten(1) for half in "BA"] for name in names}
    return {name: scale * (high @ low) for name, (high, low) in halves.items()}


def assert_same_changes(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module", params=list(BASES))
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = BASES[request.param](tmp_path_factory.mktemp("base") / "pipeline")
    policy = load_policy(folder)
    bare = copy.deepcopy(policy.network)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    perturb(policy, size=0.15)
    return Tuned(policy.family, folder, policy, bare, state_of(policy))


def python_of(card: str) -> list[str]:
    """The lines that a card says to run."""
    return card.partition("```python\n")[2].partition("\n```")[0].splitlines()


def by_diffusers(pipe: Any) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    images: Tensor = pipe(
        "red hair", num_inference_steps=3, guidance_scale=1.0, width=32, height=32, output_type="pt",
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    return images


def without_linear1(tensors: State) -> State:
    """Zeros where diffusers' converter of FLUX.1 takes networks of the published width alone."""
    return {name: t * (not name.startswith("single_")) for name, t in tensors.items()}


def test_the_two_lines_of_a_card_draw_the_studios_own_image_in_both_layouts(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline").symlink_to(tuned.folder)
    about = partial(Exported, family=tuned.family, source=str(tuned.folder), origin=ORIGIN)
    file = tuned.written(tmp_path, "diffusers")
    found: dict[str, Any] = {}
    code = python_of(card_of(about(file.name, layout="diffusers")))
    assert len(code) == 3
    exec("\n".join(code), found)
    pipe, expected = found["pipe"], tuned.drawn()
    torch.testing.assert_close(by_diffusers(pipe), expected, rtol=0, atol=1e-3)
    pipe.unload_lora_weights()
    assert (by_diffusers(pipe) - expected).abs().max() > 0.02
    kohya = card_of(about("kohya.safetensors", layout="kohya"))
    if tuned.family == "sd3":
        assert "diffusers does not read kohya's layout of sd3" in kohya
        return
    tensors = without_linear1(tuned.tensors) if tuned.family == "flux" else tuned.tensors
    tuned.written(
        tmp_path, "kohya", {n: t for n, t in tensors.items() if tuned.family != "flux" or n[0] != "s"}
    )
    exec(python_of(kohya)[-1], found)
    with tuned.policy.weights(tensors):
        torch.testing.assert_close(by_diffusers(pipe), tuned.drawn(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_comfyuis_rule_gives_the_weights_that_were_trained(
    tuned: Tuned, tmp_path: Path, layout: exchange.Layout
) -> None:
    base, convert = dict(tuned.bare.state_dict()), NATIVE[tuned.family]
    expected = dict(base)
    for name, change in tuned.changes.items():
        weight = base[f"{name}.weight"]
        expected[f"{name}.weight"] = weight + change.view_as(weight)
    native, is_unet = convert(base), tuned.family in UNETS
    named = comfy.names_of(native, comfy.places(base, convert), is_unet=is_unet)
    found = comfy.merged(native, load_file(tuned.written(tmp_path, layout)), named)
    for name, weight in convert(expected).items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_own_file_comes_in_again_at_the_scale_that_was_trained(
    tuned: Tuned, tmp_path: Path, layout: exchange.Layout
) -> None:
    path = tuned.written(tmp_path, layout)
    config, tensors = exchange.read(path, tuned.bare, tuned.family, layers_per_block=1)
    assert (config.rank, config.alpha) == (4, 4.0)
    assert_same_changes(changes(tensors, config.alpha / config.rank), tuned.changes)


@pytest.mark.parametrize("is_stabilized", [False, True])
def test_a_folder_of_peft_comes_in_at_the_scale_that_its_settings_name(
    tuned: Tuned, tmp_path: Path, is_stabilized: bool
) -> None:
    settings = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["to_q", "to_v"], use_rslora=is_stabilized, init_lora_weights=False
    )
    theirs = peft.get_peft_model(copy.deepcopy(tuned.bare), settings)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    expected = {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").flatten(1).detach()
        for name, module in theirs.named_modules()
        if isinstance(module, peft.tuners.lora.Linear)
    }
    config, tensors = exchange.read(tmp_path / "theirs", tuned.bare, tuned.family, layers_per_block=1)
    assert_same_changes(changes(tensors, config.alpha / config.rank), expected)


def test_what_peft_wrote_is_refused_where_nobody_knows_its_scale(tmp_path: Path) -> None:
    network = nn.ModuleDict({"to_q": nn.Linear(4, 4)})
    names = [f"{peftfile.PREFIX}to_q.lora_{half}.weight" for half in "AB"]
    path, beside = tmp_path / peftfile.WEIGHTS, tmp_path / peftfile.SETTINGS
    with pytest.raises(LookupError, match=r"holds no adapter_model\.safetensors"):
        exchange.read(tmp_path, network, "sdxl")
    write_tensors(path, {names[0]: torch.ones(2, 4), names[1]: torch.ones(4, 2)})
    with pytest.raises(ValueError, match=r"whose strength stands in the adapter_config\.json beside it"):
        exchange.read(path, network, "sdxl")
    for settings, words in (
        ("[]", "cannot be read: get it again"),
        (json.dumps({"lora_alpha": 8, "use_dora": True}), "no plain LoRA: its settings say use_dora"),
        (json.dumps({"lora_alpha": 8, "peft_type": "LOHA"}), "its settings say peft_type LOHA"),
        (json.dumps({"r": 2}), "names no lora_alpha"),
        (json.dumps({"lora_alpha": -1}), "lora_alpha is -1.0"),
    ):
        beside.write_text(settings)
        with pytest.raises(ValueError, match=words):
            exchange.read(path, network, "sdxl")
    beside.write_text(json.dumps({"lora_alpha": 4}))
    assert (exchange.read(path, network, "sdxl")[1]["to_q.lora_B.weight"] == 2).all()


@pytest.mark.parametrize("parts", [("attn.to_q", "attn.to_k", "attn.to_v"), ("attn.to_v", "proj_mlp")])
def test_diffusers_reads_kohyas_layout_of_flux_at_the_published_width(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    """Its single blocks join queries, keys, values and the first half of the MLP."""
    torch.manual_seed(0)
    tensors = {}
    for part in parts:
        module, rows = f"single_transformer_blocks.3.{part}", 12288 if part == "proj_mlp" else 3072
        tensors[f"{module}.lora_A.weight"] = torch.randn(2, 3072)
        tensors[f"{module}.lora_B.weight"] = torch.randn(rows, 2)
    path = tmp_path / "flux.safetensors"
    exchange.export(path, LoraConfig(rank=2, alpha=4.0), tensors, family="flux", layout="kohya")
    read = FluxPipeline.lora_state_dict(str(path))
    found = changes({name.removeprefix("transformer."): tensor for name, tensor in read.items()}, 1.0)
    expected = changes(tensors, 2.0)
    for name, change in found.items():
        torch.testing.assert_close(change, expected.get(name, torch.zeros_like(change)), rtol=1e-4, atol=1e-4)
    assert expected.keys() <= found.keys()


def test_a_file_that_does_not_fit_a_joined_module_gets_a_sentence(tmp_path: Path) -> None:
    attention = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("to_q", "to_k", "to_v")})
    block = nn.ModuleDict({"0": nn.ModuleDict({"attn": attention})})
    network, path = nn.ModuleDict({"transformer_blocks": block}), tmp_path / "odd.safetensors"
    name = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    halves = {f"{name}.lora_down.weight": torch.ones(2, 4), f"{name}.lora_up.weight": torch.ones(12, 2)}
    write_tensors(path, halves)
    assert len(exchange.read(path, network, "sd3")[1]) == 6, "one A for all three, as kohya's trainer has it"
    other = "lora_transformer_transformer_blocks_0_attn_to_k"
    write_tensors(
        path,
        {
            f"{other}.lora_down.weight": halves[f"{name}.lora_down.weight"],
            f"{other}.lora_up.weight": torch.ones(4, 2),
            f"{other}.alpha": torch.tensor(1.0),
        },
    )
    assert (
        exchange.read(path, network, "sd3")[1]["transformer_blocks.0.attn.to_k.lora_B.weight"] == 0.5
    ).all()
    write_tensors(path, halves | {f"{name}.lora_up.weight": torch.ones(11, 2)})
    with pytest.raises(ValueError, match=r"and what goes with it: 11 rows, expected 12"):
        exchange.read(path, network, "sd3")


def test_the_programs_know_every_family_that_we_drive() -> None:
    assert {one.family: pipeline for pipeline, one in FAMILIES.items()} == dict(programs.PIPELINES)
