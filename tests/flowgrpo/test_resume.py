"""Pitfall 24: four updates are two, a save, a load into a new policy, and two more; bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flowgrpo.checkpoint import load_checkpoint, save_checkpoint
from flowgrpo.choices import NFT, SFT, FlowGRPO
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.given import all_count, given_rollout
from flowgrpo.learner import Learner
from flowgrpo.policies import load_policy
from flowgrpo.seeds import group_seeds
from tests.flowgrpo.conftest import a_group, same
from tests.flowgrpo.variants import EVERY, judged, run

CONFIG = UpdateConfig(updates_per_rollout=2, kl_weight=1e-3, learning_rate=3e-3, extrapolation=0.2)
"""The kinds of dtype and name in everything a learner carries follow from these."""


def learner_of(folder: Path, name: str, *, is_whole: bool = False, seed: int = 0) -> Learner:
    policy = load_policy(folder)
    if is_whole:
        policy.unfreeze()
        return Learner(policy, CONFIG.model_copy(update={"kl_weight": 0.0}), EVERY[name])
    policy.attach_lora(LoraConfig(rank=2, alpha=4.0), seed=seed)
    return Learner(policy, CONFIG, EVERY[name])


def train(learner: Learner, rollouts: range) -> None:
    for number in rollouts:
        if isinstance(learner.algorithm, SFT):
            generator = torch.Generator().manual_seed(number)
            images = torch.rand(4, 3, 16, 16, generator=generator)
            seeds = group_seeds(0, number, 0, 4)
            batch = given_rollout(learner.policy, images, ["red hair", "buns"] * 2, seeds)
            run(learner, [batch], all_count(4))
            continue
        with learner.behaviour():
            groups = [a_group(learner.policy, p, 4, run_key=(number,)) for p in ("red hair", "buns")]
        run(learner, groups, judged(groups, seed=number))


def everything(learner: Learner) -> dict[str, torch.Tensor]:
    parts = learner.weights.items()
    tensors = {f"{which}/{name}": tensor.detach() for which, part in parts for name, tensor in part.items()}
    return tensors | learner.optimizer_tensors()


@pytest.mark.parametrize(("name", "is_whole"), [*((name, False) for name in EVERY), ("sft", True)])
def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(
    tiny_folder: Path, tmp_path: Path, name: str, is_whole: bool
) -> None:
    whole = learner_of(tiny_folder, name, is_whole=is_whole)
    train(whole, range(4))
    first = learner_of(tiny_folder, name, is_whole=is_whole)
    train(first, range(2))
    save_checkpoint(tmp_path / "000002", first, {"rollout": 2})
    second = learner_of(tiny_folder, name, is_whole=is_whole, seed=77)
    assert load_checkpoint(tmp_path / "000002", second) == {"rollout": 2}
    train(second, range(2, 4))
    assert same(everything(whole), everything(second))
    assert whole.state() == second.state()
    assert whole.update == 8


@pytest.mark.parametrize("name", ["nft", "awm", "dpo"])
def test_an_algorithm_s_copies_are_in_its_checkpoint(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    learner = learner_of(tiny_folder, name)
    train(learner, range(1))
    save_checkpoint(tmp_path / "1", learner, {})
    kept = {"nft": "old", "awm": "average", "dpo": "reference"}[name]
    files = {path.name for path in (tmp_path / "1" / "adapter").iterdir()}
    assert files == {f"{which}.safetensors" for which in ("raw", "ema", "start", kept)}


def test_a_checkpoint_from_before_there_were_copies_and_counters_still_loads(
    tiny_folder: Path, tmp_path: Path
) -> None:
    learner = learner_of(tiny_folder, "flow_grpo")
    train(learner, range(1))
    save_checkpoint(tmp_path / "1", learner, {})
    state = learner.state()
    old = {"update": state["update"], "skipped": state["skipped"]}
    other = learner_of(tiny_folder, "flow_grpo")
    other.load_state(json.loads(json.dumps(old)))
    assert (other.update, other.rollouts, other.loss_scale) == (2, 2, 1.0)


def test_a_checkpoint_of_another_algorithm_is_refused_before_anything_changes(
    tiny_folder: Path, tmp_path: Path
) -> None:
    learner = learner_of(tiny_folder, "flow_grpo")
    assert isinstance(learner.algorithm, FlowGRPO)
    save_checkpoint(tmp_path / "1", learner, {})
    other = learner_of(tiny_folder, "nft", seed=5)
    assert isinstance(other.algorithm, NFT)
    before = everything(other)
    with pytest.raises(LookupError, match="holds no adapter 'old'"):
        load_checkpoint(tmp_path / "1", other)
    assert same({k: v.clone() for k, v in before.items()}, everything(other))


def test_an_adapter_is_not_taken_for_a_network_nor_a_network_for_an_adapter(
    tiny_folder: Path, tmp_path: Path
) -> None:
    adapter, network = (learner_of(tiny_folder, "sft", is_whole=is_whole) for is_whole in (False, True))
    save_checkpoint(tmp_path / "adapter", adapter, {})
    save_checkpoint(tmp_path / "network", network, {})
    with pytest.raises(ValueError, match="has an adapter, the run trains all weights"):
        load_checkpoint(tmp_path / "adapter", network)
    with pytest.raises(ValueError, match="has a network, the run trains an adapter"):
        load_checkpoint(tmp_path / "network", adapter)


def test_a_whole_network_is_put_in_for_sampling_and_taken_out_again(
    tiny_folder: Path, tmp_path: Path
) -> None:
    learner = learner_of(tiny_folder, "sft", is_whole=True)
    train(learner, range(2))
    save_checkpoint(tmp_path / "2", learner, {})
    policy = load_policy(tiny_folder)
    base = a_group(policy, window=range(0)).latents
    policy.load_adapter(tmp_path / "2")
    tuned = a_group(policy, window=range(0)).latents
    with learner.policy.weights(learner.ema):
        assert torch.equal(tuned, a_group(learner.policy, window=range(0)).latents)
    assert not torch.equal(base, tuned)
    policy.unload_adapter()
    assert torch.equal(base, a_group(policy, window=range(0)).latents)
