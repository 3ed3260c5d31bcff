"""The library's part of docs/api.md: its example runs, and tells of nothing but what the page explains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from flowgrpo.checkpoint import load_checkpoint
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import load_policy
from flowgrpo.starter.package import WEIGHTS
from tests.flowgrpo.conftest import same
from tools import library_docs

EXAMPLE = re.findall(r"^```python\n(.*?)^```", library_docs.HEAD, re.MULTILINE | re.DOTALL)[0]
BESIDE = {"WEIGHTS", "exchange"}
"""A path and a module, of which the page explains what is used."""


def test_the_example_draws_scores_learns_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(EXAMPLE, "docs/api.md", "exec"), names)
    assert names["metrics"].num_samples == 8
    assert names["metrics"].grad_norm > 0
    assert not names["metrics"].is_skipped
    learner = names["learner"]
    halves = [weight for name, weight in learner.parameters.items() if "lora_B" in name]
    assert any(weight.abs().max() > 0 for weight in halves)

    policy = load_policy(WEIGHTS / "pipeline")
    policy.attach_lora(LoraConfig(rank=8, alpha=8.0))
    other = Learner(policy, UpdateConfig())
    assert load_checkpoint(Path("out/000001"), other) == {"rollout": 1}
    assert same(dict(learner.parameters), dict(other.parameters))
    exported = load_file("out/mine.safetensors")
    assert {name.removeprefix("unet.") for name in exported} == set(learner.ema)


def test_what_the_example_takes_from_the_library_is_explained_below_it() -> None:
    taken = {name for line in re.findall(r"import (.+)$", EXAMPLE, re.MULTILINE) for name in line.split(", ")}
    explained = {name.rpartition(".")[2] for name in library_docs.LIBRARY}
    assert taken - {"Path"} - BESIDE <= explained
    assert 10 <= len(library_docs.LIBRARY) <= 20


@pytest.mark.parametrize("name", ["flowgrpo.update.updates", "flowgrpo.gone.update", "flowgrpo.update"])
def test_a_name_that_the_library_does_not_have_is_refused(name: str) -> None:
    with pytest.raises((LookupError, FileNotFoundError)):
        library_docs.definition(name)
