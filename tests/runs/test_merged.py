"""A checkpoint as a whole model: nothing but stock diffusers, one line, and the studio's own image."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import app
from flowgrpo.filefacts import HASH, hash_of_weights
from flowgrpo.rollout import sample
from flowgrpo.runs import merging
from flowgrpo.runs.export import export_as
from flowgrpo.runs.shelf import PolicyShelf
from storage import checkpoints, exports
from storage.engine import Database
from storage.models import Checkpoint
from tests import ldm
from tests.runs.test_exchange_jobs import worked
from tests.runs.test_export import made
from tests.tiny_flow import plain, tiny_sd3

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
__all__ = ["made"]
Disk = namedtuple("Disk", "total used free")


def drawn(db: Database, checkpoint: Checkpoint) -> torch.Tensor:
    """The studio's image, before it is rounded to the numbers of a PNG."""
    policy = PolicyShelf(db, torch.device("cpu")).get(checkpoint)
    settings: Any = {"num_steps": 3, "guidance_scale": 1.0, "width": 32, "height": 32}
    return policy.decode(sample(policy, ["red hair"], seeds=[5], **settings).latents)


def by_diffusers(card: str) -> torch.Tensor:
    """What the one line of a card draws."""
    code, found = card.partition("```python\n")[2].partition("\n```")[0], dict[str, Any]()
    assert len(code.splitlines()) == 2
    exec(code, found)
    found["pipe"].set_progress_bar_config(disable=True)
    images: torch.Tensor = found["pipe"](
        "red hair", num_inference_steps=3, guidance_scale=1.0, width=32, height=32, output_type="pt",
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    return images


def test_a_merged_folder_draws_the_studios_image_with_one_line(
    db: Database, made: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["export", made.name, "whole", "--merged", "--home", str(db.home)]
    done = CliRunner().invoke(app.cli, command)
    assert (done.exit_code, done.stdout) == (0, "whole\n")
    assert [one.name for one in tmp_path.iterdir() if "whole" in one.name] == ["whole"]
    card = Path("whole", exports.CARD).read_text(encoding="utf-8")
    torch.testing.assert_close(by_diffusers(card), drawn(db, made), rtol=0, atol=1e-3)
    assert not any("lora" in name for name in load_file("whole/unet/diffusion_pytorch_model.safetensors"))
    again = CliRunner().invoke(app.cli, command)
    assert again.exit_code == 2
    assert "whole is there already: name another place" in again.output


def test_a_merged_file_is_the_merged_folder_in_stabilitys_names(
    db: Database, made: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "whole.safetensors"
    assert export_as(db, made.id, path, "diffusers", merged=True) == [path, tmp_path / "whole.md"]
    export_as(db, made.id, tmp_path / "whole", "diffusers", merged=True)
    expected = load_file(ldm.one_file(tmp_path / "whole", tmp_path / "expected.safetensors"))
    found = load_file(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    with safe_open(path, framework="pt") as opened:
        facts = opened.metadata()
    assert facts["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
    assert facts["modelspec.merged_from"] == "tiny, tuned"
    assert facts[HASH] == hash_of_weights(path)
    assert not {"ss_network_dim", "modelspec.usage_hint"} & facts.keys()


def test_a_merged_model_has_the_precision_of_its_base(db: Database, tiny: Checkpoint, tmp_path: Path) -> None:
    base = checkpoints.base_of(db, tiny)
    assert merging.stored_dtype(base) == torch.float32
    half = tmp_path / "half"
    shutil.copytree(base.source, half)
    for path in half.glob("*/*.safetensors"):
        save_file({name: t.half() for name, t in load_file(path).items()}, path, metadata={"format": "pt"})
    base.source = str(half)
    assert merging.stored_dtype(base) == torch.float16
    base.source = "nobody/nothing"
    assert merging.stored_dtype(base) == torch.float32


def test_a_disk_without_room_is_said_before_anything_is_written(
    db: Database, made: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**9, 10**9, 1000))
    with pytest.raises(
        ValueError, match=r"whole takes 0\.0 GB, and 0\.0 GB are free on the disk of .*: free some"
    ):
        merging.export_merged(db, made, tmp_path / "deep" / "whole")
    assert not (tmp_path / "deep").exists()


def test_what_breaks_off_leaves_nothing(
    db: Database, made: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(card: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "card_of", broken)
    place = tmp_path / "place"
    with pytest.raises(OSError, match="No space"):
        merging.export_merged(db, made, place / "whole")
    assert list(place.iterdir()) == []


def test_the_job_writes_the_folder_into_the_data_folder(db: Database, made: Checkpoint) -> None:
    job = worked(db, exports.request_export(db, made.id, exports.MERGED))
    assert job.state == "done", job.reason
    (row,) = exports.exports_of(db, made.id)
    assert (row.path, row.layout) == (f"exports/merged-{job.id}/tuned-merged", "merged")
    assert row.sha256 == merging.sha256_of_folder(db.home / row.path)
    assert 'from_pretrained("tuned-merged")' in exports.card_of(db, row).read_text(encoding="utf-8")
    with pytest.raises(LookupError, match="the exported file is gone"):
        exports.file_of(db, row)


def test_parts_that_a_model_goes_without_are_named_in_its_line(tmp_path: Path) -> None:
    pipeline = plain(tiny_sd3(tmp_path / "sd3", with_t5=False))
    assert merging._absent(pipeline) == ("text_encoder_3", "tokenizer_3")
    assert merging.size_of(pipeline) > 4 * sum(p.numel() for p in pipeline.transformer.parameters())
