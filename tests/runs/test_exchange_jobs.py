"""Files out and in as jobs: what goes out comes in again and draws the same; what does not fit says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from flowgrpo.manifest import sha256_of
from flowgrpo.runs.shelf import PolicyShelf, checked_folder
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import ancestry, audit, checkpoints, exports, imports, jobs, lineage
from storage.engine import Database
from storage.models import Checkpoint
from storage.models_judging import Job
from tests.runs.test_export import made

__all__ = ["made"]


def worked(db: Database, job: Job) -> Job:
    """The job after a worker had it."""
    worker = Worker(db, "cpu", WEIGHTS)
    assert worker._did_a_job()
    worker.beacon.end()
    return jobs.get_job(db, job.id)


def upload(db: Database, content: bytes) -> str:
    name, path = imports.new_upload(db)
    path.write_bytes(content)
    return name


def network_of(db: Database, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    policy = PolicyShelf(db, torch.device("cpu")).get(checkpoint)
    return {name: tensor.detach().clone() for name, tensor in policy.network.named_parameters()}


@pytest.mark.parametrize("layout", exports.LAYOUTS)
def test_an_exported_file_is_a_row_and_comes_in_again_as_the_same_checkpoint(
    db: Database, tiny: Checkpoint, made: Checkpoint, layout: str
) -> None:
    job = worked(db, exports.request_export(db, made.id, layout))
    assert job.state == "done", job.reason
    (row,) = exports.exports_of(db, made.id)
    assert (job.result, row.layout) == ({"export": row.id}, layout)
    path = exports.file_of(db, exports.get_export(db, row.id))
    assert (path.parent, sha256_of(path)) == (db.home / "exports", row.sha256)
    asked: dict[str, Any] = {"name": "back again", "origin": "tuned.safetensors"}
    name = upload(db, path.read_bytes())
    job = worked(db, imports.request_import(db, upload=name, base_checkpoint_id=tiny.id, **asked))
    assert job.state == "done", job.reason
    back = checkpoints.get_checkpoint(db, (job.result or {})["checkpoint"])
    assert (back.name, back.origin, back.state) == ("back again", "tuned.safetensors", "committed")
    assert (back.parent_id, back.run_id) == (tiny.id, None)
    checked_folder(db, back)
    expected = network_of(db, made)
    for key, tensor in network_of(db, back).items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-5, atol=1e-6)
    with pytest.raises(LookupError, match="uploaded file is gone"):
        imports.uploaded_file(db, name)
    assert [one.act for one in audit.latest(db)] == ["checkpoint.import", "checkpoint.export"]
    assert [step.checkpoint.id for step in ancestry.lineage_of(db, back.id).steps] == [back.id, tiny.id]
    (lesson,) = lineage.lessons_of(db, back.id)
    assert lesson.unknown == "back again was imported, and what taught it is not known"


def test_a_file_that_does_not_fit_fails_with_a_sentence_and_stays_for_another_base(
    db: Database, tiny: Checkpoint, tmp_path: Path
) -> None:
    save_file({"unet.nowhere.lora_A.weight": torch.ones(2, 4)}, tmp_path / "odd.safetensors")
    for content, words in (
        ((tmp_path / "odd.safetensors").read_bytes(), "nowhere"),
        (b"not tensors at all", "damaged or cut short"),
    ):
        name = upload(db, content)
        asked = imports.request_import(
            db, upload=name, base_checkpoint_id=tiny.id, name="odd", origin="odd.safetensors"
        )
        job = worked(db, asked)
        assert job.state == "failed"
        assert words in (job.reason or "")
        assert imports.uploaded_file(db, name).is_file()
    assert [one.id for one in checkpoints.list_checkpoints(db)] == [tiny.id]
    assert not (db.home / "imports").exists() or not list((db.home / "imports").iterdir())


def test_what_cannot_be_exported_or_imported_is_refused_before_it_is_queued(
    db: Database, tiny: Checkpoint, made: Checkpoint
) -> None:
    with pytest.raises(ValueError, match="tiny is a base"):
        exports.request_export(db, tiny.id, "kohya")
    with pytest.raises(ValueError, match="a layout is diffusers, kohya or merged"):
        exports.request_export(db, made.id, "onnx")
    name = upload(db, b"")
    wanted: dict[str, Any] = {"upload": name, "base_checkpoint_id": tiny.id, "name": "a", "origin": "a"}
    for change, error, words in (
        ({"upload": "../../app.db"}, LookupError, "uploaded file is gone"),
        ({"name": " "}, ValueError, "no name"),
        ({"base_checkpoint_id": made.id}, ValueError, "tuned is no base"),
    ):
        with pytest.raises(error, match=words):
            imports.request_import(db, **wanted | change)
    checkpoints.mark_checkpoint(db, made.id, "pruned")
    with pytest.raises(LookupError, match="are pruned"):
        exports.request_export(db, made.id, "kohya")
    assert jobs.recent_jobs(db, "export") == jobs.recent_jobs(db, "import") == []
