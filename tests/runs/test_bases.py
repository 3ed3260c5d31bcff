"""Bases are noted with all that is needed to load them again."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import torch

from flowgrpo.runs.bases import add_base
from flowgrpo.runs.shelf import PolicyShelf
from storage import checkpoints
from storage.engine import Database
from tests import mmdit
from tests.ldm import one_file
from tests.runs.helpers import begin, new_run, train
from tests.tiny import tiny_sd15
from tests.tiny_flow import tiny_flux


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd15(tmp_path_factory.mktemp("sd15") / "model", prediction_type="v_prediction")


def test_a_single_file_keeps_what_it_predicts_and_how_it_is_built(
    db: Database, sd15: Path, tmp_path: Path
) -> None:
    file = one_file(sd15, tmp_path / "painter.safetensors")
    base = add_base(db, str(file), prediction="v_prediction", config=str(sd15))
    stored = checkpoints.base_of(db, base)
    assert (base.name, stored.family) == ("painter", "sd15")
    assert stored.options == {"prediction": "v_prediction", "config": str(sd15)}
    policy = PolicyShelf(db, torch.device("cpu")).get(base)
    assert policy.prediction == "v_prediction"
    run = begin(db, new_run(db, base, num_updates=1, samples=0))
    train(db, run)
    assert [one.update for one in checkpoints.checkpoints_of_run(db, run.id)] == [1]


def test_one_file_read_in_two_ways_is_two_bases(db: Database, sd15: Path, tmp_path: Path) -> None:
    file = str(one_file(sd15, tmp_path / "painter.safetensors"))
    shelf = PolicyShelf(db, torch.device("cpu"))
    predictions = [
        shelf.get(add_base(db, file, name=name, prediction=name, config=str(sd15))).prediction
        for name in ("epsilon", "v_prediction")
    ]
    assert predictions == ["epsilon", "v_prediction"]


def test_a_single_file_that_does_not_say_what_it_predicts_is_asked(
    db: Database, sd15: Path, tmp_path: Path
) -> None:
    file = one_file(sd15, tmp_path / "painter.safetensors")
    with pytest.raises(ValueError, match="say --prediction epsilon"):
        add_base(db, str(file))
    with pytest.raises(ValueError, match="epsilon or v_prediction"):
        add_base(db, str(file), prediction="x0")


def test_a_file_of_one_part_keeps_the_commit_that_has_the_others(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    home, commit = tmp_path / "models--someone--flux", "a" * 40
    folder = tiny_flux(home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    file = str(mmdit.one_file(folder, tmp_path / "flux1.safetensors", (), prefix=""))
    base = add_base(db, file, config="someone/flux")
    assert checkpoints.base_of(db, base).options == {"config": f"someone/flux@{commit}"}
    assert PolicyShelf(db, torch.device("cpu")).get(base).has_guidance_input
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(LookupError, match=r"flux1\.safetensors does not hold the vae, and .* has no weights"):
        add_base(db, file, config=str(folder))
    with pytest.raises(ValueError, match="is a network of another depth than the published ones"):
        add_base(db, file)
    with pytest.raises(ValueError, match="is a flow, which predicts a velocity: leave --prediction out"):
        add_base(db, file, config=str(folder), prediction="epsilon")


def test_a_name_is_not_taken_from_a_base_that_is_still_there(
    db: Database, sd15: Path, tmp_path: Path
) -> None:
    add_base(db, str(sd15), name="mine")
    add_base(db, str(sd15), name="mine")
    other = tiny_sd15(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="give this one another name"):
        add_base(db, str(other), name="mine")
    assert sum(one.name == "mine" for one in checkpoints.list_checkpoints(db)) == 1


def test_a_folder_that_moved_keeps_its_name_and_its_checkpoints(db: Database, tmp_path: Path) -> None:
    first = tiny_sd15(tmp_path / "here" / "model")
    base = add_base(db, str(first))
    moved = first.rename(tmp_path / "there")
    again = add_base(db, str(moved), name="model")
    assert again.id == base.id
    assert checkpoints.base_of(db, again).source == str(moved)


def test_what_is_nowhere_is_refused(db: Database) -> None:
    with pytest.raises(LookupError, match="there is no folder"):
        add_base(db, "./nowhere")
