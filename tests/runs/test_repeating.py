"""A run's config.yaml makes the same weights in a fresh data folder, or says what is not the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowgrpo.config import RunConfig
from flowgrpo.config_file import ConfigFile, parse, written
from flowgrpo.fingerprint import READ_BYTES, fingerprint
from flowgrpo.runs import exits, layout, repeating
from flowgrpo.runs.commands import queue
from storage import checkpoints, prompts, run_wishes, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint, Run
from tests.runs.helpers import adapter_hashes, begin, new_run, tiny_config, train
from tests.storage.ready import ready

SETTINGS = {"num_updates": 2, "checkpoint_every": 1, "samples": 0, "reward_weights": {"verifier": 1.0}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def elsewhere(tmp_path: Path, pipeline: Path) -> Iterator[Database]:
    """Another data folder, where a copy of the base has another name."""
    database = open_database(ready(tmp_path / "elsewhere"))
    copy = shutil.copytree(pipeline, tmp_path / "copy")
    checkpoints.register_base(database, name="mine", source=str(copy), family="sdxl")
    yield database
    database.close()


def file_of(db: Database, run: Run) -> ConfigFile:
    return repeating.read_file(layout.config_file(db.home, run.id))


def asked_to_pause_after_one_update(db: Database, run: Run) -> Run:
    """By a person, as the page does it; then resumed."""
    run_wishes.request_pause(db, run.id)
    with pytest.raises(exits.EndedError) as ended:
        train(db, run)
    assert ended.value.code == exits.PAUSED
    runs.move(db, run.id, to="paused", from_states=("running",), reason=ended.value.reason)
    runs.resume_run(db, run.id)
    return begin(db, run)


def test_a_run_that_was_paused_and_resumed_is_repeated_to_the_last_bit_in_a_fresh_folder(
    db: Database, tiny: Checkpoint, elsewhere: Database
) -> None:
    kept = prompts.save_prompt_set(db, "hair", ["red hair", "green hair"], ["blue hair"])
    first = runs.create_run(
        db, name="by rows", owner_id="local", parent_checkpoint_id=tiny.id, config=tiny_config(**SETTINGS),
        prompt_set_id=kept.id,
    )  # fmt: skip
    train(db, asked_to_pause_after_one_update(db, begin(db, first)))
    file = file_of(db, first)
    assert file.config == RunConfig.model_validate(first.config)
    assert file.made_with["base"]["name"] == "tiny"
    assert file.made_with["prompt_set"] == {"name": "hair", "version": 1}
    assert file.made_with["rewards"].keys() >= {"verifier"}
    assert "earlier" not in file.made_with

    runs.move(db, first.id, to="completed", from_states=("running",))

    said: list[str] = []
    again = queue(elsewhere, file, None, None, said.append)
    assert (again.name, said) == ("by rows", [])
    train(elsewhere, begin(elsewhere, again))
    assert adapter_hashes(elsewhere, again, 2) == adapter_hashes(db, first, 2)
    assert repeating.compared(elsewhere, again.id, file.made_with).endswith("the same to the last bit.")

    other = dict(file.made_with) | {
        "torch": "1.0",
        "rewards": {"verifier": "older"},
        "decided": ["went back"],
    }
    told = repeating.compared(elsewhere, again.id, other)
    assert "torch 1.0 then" in told
    assert "reward verifier older then" in told
    assert "people decided (went back)" in told
    assert told.endswith("need not be the same to the last bit.")


def test_an_attempt_with_other_threads_is_noted_and_told_to_who_repeats_the_run(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **SETTINGS | {"num_updates": 1}))
    path = layout.config_file(db.home, run.id)
    path.write_text(written(RunConfig.model_validate(run.config), {"threads": 7, "torch": "1.0"}))
    train(db, run)
    (earlier,) = file_of(db, run).made_with["earlier"]
    assert (earlier["threads"], earlier["torch"]) == (7, "1.0")
    assert "was resumed with other programs" in repeating.compared(db, run.id, file_of(db, run).made_with)


def test_a_run_that_starts_from_another_runs_weights_finds_them_by_their_hash_or_says_what_is_lacking(
    db: Database, tiny: Checkpoint, elsewhere: Database
) -> None:
    first = begin(db, new_run(db, tiny, **SETTINGS | {"num_updates": 1}))
    train(db, first)
    (made,) = checkpoints.checkpoints_of_run(db, first.id)
    runs.move(db, first.id, to="completed", from_states=("running",))
    second = begin(db, new_run(db, made, **SETTINGS | {"num_updates": 1}))
    train(db, second)
    file = file_of(db, second)
    assert repeating.start_of(db, file).id == made.id
    with pytest.raises(LookupError, match="repeat the run that made it first"):
        repeating.start_of(elsewhere, file)
    assert repeating.start_of(elsewhere, file, "mine").name == "mine"


def test_a_base_that_is_read_another_way_is_not_taken_for_the_same(db: Database, pipeline: Path) -> None:
    checkpoints.register_base(
        db, name="v", source=str(pipeline), family="sdxl", options={"prediction": "v_prediction"}
    )
    told = {"name": "v", "fingerprint": fingerprint(pipeline), "options": {"prediction": "epsilon"}}
    file = ConfigFile(RunConfig.model_validate(tiny_config()), {"base": told})
    with pytest.raises(LookupError, match=r"app\.py base ITS FOLDER OR FILE --prediction epsilon, or choose"):
        repeating.start_of(db, file)
    told["options"] = {"prediction": "v_prediction"}
    assert repeating.start_of(db, file).name == "v"


def test_a_base_with_other_files_is_not_taken_for_the_same(
    db: Database, tiny: Checkpoint, tmp_path: Path
) -> None:
    base = {"name": "tiny", "fingerprint": "0" * 64}
    file = ConfigFile(RunConfig.model_validate(tiny_config()), {"base": base})
    with pytest.raises(LookupError, match="no base here has the same files: add it with"):
        repeating.start_of(db, file)
    assert repeating.start_of(db, replace(file, made_with={}), "tiny").id == tiny.id
    long = tmp_path / "long.safetensors"
    long.write_bytes(bytes(5 * READ_BYTES))
    before = fingerprint(long)
    with long.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    assert fingerprint(long) != before


def test_a_run_from_ratings_says_that_it_needs_them_and_one_from_people_that_they_decide(
    db: Database, tiny: Checkpoint
) -> None:
    text = "prompts: [a]\nratings: {snapshot: some-id}\nalgorithm: {name: nft}\n"
    with pytest.raises(
        LookupError, match=r"learns from ratings, and these \(some-id\) are not in this data folder"
    ):
        repeating.runnable(db, parse(text, "run.yaml").config)
    config = RunConfig.model_validate(tiny_config(people={}, weights_from="a-fit"))
    usable, told = repeating.runnable(db, config)
    assert usable.weights_from is None
    assert [sentence.split(":")[0] for sentence in told[:1]] == ["This run listens to people"]
    assert "fitted to votes that are not here" in told[1]


def test_processes_compute_with_the_threads_of_the_file_unless_somebody_set_another_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(repeating.THREADS)
    with repeating.as_many_threads({"threads": 3}):
        assert os.environ[repeating.THREADS] == "3"
    assert repeating.THREADS not in os.environ
    monkeypatch.setenv(repeating.THREADS, "2")
    with repeating.as_many_threads({"threads": 3}):
        assert os.environ[repeating.THREADS] == "2"
