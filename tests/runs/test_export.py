"""A checkpoint as a file for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

import app
from flowgrpo import exchange, lora, manifest
from flowgrpo.config import LoraConfig
from flowgrpo.filefacts import hash_of_prompts
from flowgrpo.policies import load_policy
from flowgrpo.runs.export import checked_layout, export_as, export_checkpoint
from flowgrpo.runs.shelf import PolicyShelf
from storage import catalog, checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.flowgrpo.conftest import perturb, state_of
from tests.runs.helpers import new_run

LAYOUTS: tuple[exchange.Layout, ...] = ("diffusers", "kohya")


@pytest.fixture
def made(db: Database, tiny: Checkpoint, pipeline: Path) -> Checkpoint:
    """A checkpoint of a run, whose scale is 2."""
    run = new_run(db, tiny)
    policy = load_policy(pipeline)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    perturb(policy)
    config = policy.lora_config
    assert config is not None
    folder = db.home / "runs" / run.id / "checkpoints" / "000001"
    with manifest.committing(folder, {"update": 1}) as temporary:
        lora.save(temporary, config, ema=state_of(policy))
    return checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=run.attempt, update=1, name="tuned",
        path=str(folder.relative_to(db.home)), sha256="0" * 64,
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_exported_checkpoint_changes_the_base_as_the_checkpoint_does(
    db: Database, made: Checkpoint, pipeline: Path, tmp_path: Path, layout: exchange.Layout
) -> None:
    path = export_checkpoint(db, "tuned", tmp_path / "tuned.safetensors", layout)
    assert all(name.startswith("lora_unet_") == (layout == "kohya") for name in load_file(path))
    assert {one.name for one in tmp_path.iterdir() if one.is_file()} == {"tuned.safetensors", "tuned.md"}
    other = load_policy(pipeline)
    other.load_adapter(path)
    expected = dict(PolicyShelf(db, torch.device("cpu")).get(made).network.named_parameters())
    for name, weight in other.network.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_exported_file_says_which_run_made_it_and_on_what(
    db: Database, made: Checkpoint, tmp_path: Path, layout: exchange.Layout
) -> None:
    path = export_checkpoint(db, "tuned", tmp_path / "tuned.safetensors", layout)
    with safe_open(path, framework="pt") as opened:
        facts = opened.metadata()
    run = runs.get_run(db, str(made.run_id))
    assert facts["modelspec.title"] == facts["ss_output_name"] == "tuned"
    assert facts["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert facts["modelspec.resolution"] == "64x64"
    assert facts["ss_sd_model_name"] == facts["flowgrpo.parent_checkpoint"] == "tiny"
    assert (facts["flowgrpo.run_id"], facts["ss_steps"]) == (run.id, "1")
    assert json.loads(facts["flowgrpo.rewards"]) == run.config["reward_weights"]
    assert facts["flowgrpo.prompts_sha256"] == hash_of_prompts(run.config["prompts"])
    assert not any(prompt in str(facts) for prompt in run.config["prompts"])


def test_what_cannot_be_exported_gets_a_sentence(
    db: Database, made: Checkpoint, tiny: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "tuned.safetensors"
    with pytest.raises(LookupError, match="There is no checkpoint named nobody; there are tiny, tuned"):
        export_checkpoint(db, "nobody", path)
    with pytest.raises(ValueError, match="tiny is a base, so there is nothing to export"):
        export_checkpoint(db, "tiny", path)
    with pytest.raises(ValueError, match=r"must end in \.safetensors, got tuned\.ckpt"):
        export_checkpoint(db, "tuned", tmp_path / "tuned.ckpt")
    path.write_bytes(b"precious")
    with pytest.raises(ValueError, match="is there already: name another file"):
        export_checkpoint(db, made.id, path)
    assert path.read_bytes() == b"precious"
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.md is there already"):
        export_checkpoint(db, made.id, tmp_path / "notes.safetensors")
    adapter = db.home / str(made.path) / "adapter" / "ema.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1])
    with pytest.raises(ValueError, match="The files of checkpoint tuned are damaged"):
        export_checkpoint(db, "tuned", tmp_path / "other.safetensors")


def test_a_card_lies_beside_a_file_and_says_what_it_is_and_learned_from(
    db: Database, made: Checkpoint, tmp_path: Path
) -> None:
    catalog.rename_checkpoint(db, made.id, "soft [light](x)")
    path = export_checkpoint(db, made.id, tmp_path / "soft.safetensors", "kohya")
    card, run = path.with_suffix(".md").read_text(encoding="utf-8"), runs.get_run(db, str(made.run_id))
    assert "# soft \\[light\\](x)" in card
    for words in (
        "A LoRA for tiny, tuned with FlowGRPO Studio by the rewards diversity.",
        'pipe = StableDiffusionXLPipeline.from_pretrained("pipeline")',
        'pipe.load_lora_weights("soft.safetensors")',
        "`ComfyUI/models/loras/`", "`stable-diffusion-webui/models/Lora/`", "`<lora:soft:1>`",
        "- Size: 64 x 64", "- Steps: 3 ", "- Guidance: 1, which is none", "- Sampler: Euler (or DDIM",
        "- Run: tiny, update 1, from tiny", "- Prompts: 3", "- Rewards: diversity 1",
        "Of the base, tiny: not known here",
    ):  # fmt: skip
        assert words in card, words
    assert not any(prompt in card for prompt in run.config["prompts"])
    assert str(db.home) not in card


def said_in(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_a_base_whose_row_names_its_pipeline_as_the_starter_s_does_is_exported_like_any_other(
    db: Database, made: Checkpoint, pipeline: Path, tmp_path: Path
) -> None:
    one, card = export_as(db, "tuned", tmp_path / "a.safetensors", "kohya", merged=False)
    checkpoints.register_base(db, name="tiny", source=str(pipeline), family="StableDiffusionXLPipeline")
    other, same_card = export_as(db, "tuned", tmp_path / "b.safetensors", "kohya", merged=False)
    assert load_file(one).keys() == load_file(other).keys()
    assert said_in(one)["modelspec.architecture"] == said_in(other)["modelspec.architecture"]
    line = 'pipe = StableDiffusionXLPipeline.from_pretrained("pipeline")'
    assert all(line in text.read_text(encoding="utf-8") for text in (card, same_card))
    whole = export_as(db, "tuned", tmp_path / "whole", "diffusers", merged=True)
    assert (whole[0] / "model_index.json").is_file()
    checkpoints.register_base(db, name="tiny", source=str(pipeline), family="KandinskyPipeline")
    with pytest.raises(ValueError, match="tiny is a KandinskyPipeline; FlowGRPO can drive StableDiffusion"):
        export_as(db, "tuned", tmp_path / "c.safetensors", "kohya", merged=False)


def test_a_layout_is_one_of_two() -> None:
    assert checked_layout("kohya") == "kohya"
    with pytest.raises(ValueError, match="a layout is diffusers or kohya, got a1111"):
        checked_layout("a1111")


def test_the_command_prints_the_file_or_a_sentence(db: Database, made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "tuned.safetensors"
    command = ["export", made.name, str(path), "--layout", "kohya", "--home", str(db.home)]
    done = CliRunner().invoke(app.cli, command)
    assert (done.exit_code, done.output) == (0, f"{path}\n{path.with_suffix('.md')}\n")
    again = CliRunner().invoke(app.cli, command)
    assert again.exit_code == 2
    assert "is there already" in again.output
