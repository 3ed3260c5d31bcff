"""A checkpoint as a file for other programs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import app
from flowgrpo import exchange, lora, manifest
from flowgrpo.config import LoraConfig
from flowgrpo.policies import load_policy
from flowgrpo.runs.export import checked_layout, export_checkpoint
from flowgrpo.runs.shelf import PolicyShelf
from storage import checkpoints
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
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["tuned.safetensors"]
    other = load_policy(pipeline)
    other.load_adapter(path)
    expected = dict(PolicyShelf(db, torch.device("cpu")).get(made).network.named_parameters())
    for name, weight in other.network.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_exported_gets_a_sentence(
    db: Database, made: Checkpoint, tiny: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "tuned.safetensors"
    with pytest.raises(LookupError, match="There is no checkpoint named nobody; there are tiny, tuned"):
        export_checkpoint(db, "nobody", path)
    with pytest.raises(ValueError, match="tiny is a base, so there is no adapter to export"):
        export_checkpoint(db, "tiny", path)
    with pytest.raises(ValueError, match=r"must end in \.safetensors, got tuned\.ckpt"):
        export_checkpoint(db, "tuned", tmp_path / "tuned.ckpt")
    path.write_bytes(b"precious")
    with pytest.raises(ValueError, match="is there already: name another file"):
        export_checkpoint(db, made.id, path)
    assert path.read_bytes() == b"precious"
    adapter = db.home / str(made.path) / "adapter" / "ema.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1])
    with pytest.raises(ValueError, match="The files of checkpoint tuned are damaged"):
        export_checkpoint(db, "tuned", tmp_path / "other.safetensors")


def test_a_layout_is_one_of_two() -> None:
    assert checked_layout("kohya") == "kohya"
    with pytest.raises(ValueError, match="a layout is diffusers or kohya, got a1111"):
        checked_layout("a1111")


def test_the_command_prints_the_file_or_a_sentence(db: Database, made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "tuned.safetensors"
    command = ["export", made.name, str(path), "--layout", "kohya", "--home", str(db.home)]
    done = CliRunner().invoke(app.cli, command)
    assert (done.exit_code, done.output) == (0, f"{path}\n")
    again = CliRunner().invoke(app.cli, command)
    assert again.exit_code == 2
    assert "is there already" in again.output
