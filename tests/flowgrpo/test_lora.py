from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from flowgrpo import lora
from flowgrpo.config import LoraConfig
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import sample_group
from tests.flowgrpo.conftest import SETTINGS, same, state_of

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Damage = Callable[[dict[str, torch.Tensor], str], dict[str, torch.Tensor]]


def images(policy: Policy) -> torch.Tensor:
    return sample_group(policy, "red hair", seeds=range(3), **SETTINGS).latents


def checkpoint_of(tuned: Policy, folder: Path) -> Path:
    assert tuned.lora_config is not None
    folder.mkdir()
    lora.save(folder, tuned.lora_config, ema=state_of(tuned))
    return folder


def test_a_seed_fixes_the_start_of_an_adapter(tiny_folder: Path) -> None:
    states: list[dict[str, torch.Tensor]] = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(states))  # whatever was drawn before
        policy = load_policy(tiny_folder)
        policy.attach_lora(LoraConfig(rank=4), seed=seed)
        states.append(state_of(policy))
    assert same(states[0], states[1])
    assert not same(states[0], states[2])
    assert all((tensor == 0).all() for name, tensor in states[0].items() if "lora_B" in name)


def test_an_adapter_is_float32_on_a_half_precision_base(tiny_folder: Path) -> None:
    policy = load_policy(tiny_folder, dtype=torch.bfloat16)
    policy.attach_lora(LoraConfig(rank=4))
    assert {parameter.dtype for parameter in policy.trainable_parameters().values()} == {torch.float32}


def test_convolutions_and_attention_are_adapted(tuned: Policy) -> None:
    names = {name.rsplit(".lora", 1)[0] for name in tuned.trainable_parameters()}
    for part in ("conv1", "conv2", "attn1.to_q", "attn2.to_out.0", "proj_in", "ff.net.2"):
        assert any(name.endswith(part) for name in names), part


def test_a_merged_adapter_draws_what_the_live_one_draws_and_leaves_without_trace(
    tuned: Policy, tiny_folder: Path, tmp_path: Path
) -> None:
    other = load_policy(tiny_folder)
    base, weights = images(other), {name: p.clone() for name, p in other.network.named_parameters()}
    other.load_adapter(checkpoint_of(tuned, tmp_path / "checkpoint"))
    live, merged = images(tuned), images(other)
    torch.testing.assert_close(merged / live.std(), live / live.std(), rtol=0, atol=1e-5)
    assert not torch.allclose(merged, base, atol=1e-2)
    other.load_adapter(tmp_path / "checkpoint")  # again: it replaces, it does not add up
    assert torch.equal(images(other), merged)
    other.unload_adapter()
    assert all(torch.equal(p, weights[name]) for name, p in other.network.named_parameters())
    assert torch.equal(images(other), base)


def test_an_exported_adapter_works_in_plain_diffusers_with_its_scale(
    tuned: Policy, tiny_folder: Path, tmp_path: Path
) -> None:
    """Alpha is twice the rank here: a reader that lost the scale would draw something else."""
    assert tuned.lora_config is not None
    assert tuned.lora_config.alpha / tuned.lora_config.rank == 2
    path = lora.export(tmp_path / lora.EXPORT_FILE, tuned.lora_config, state_of(tuned))
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    theirs = pipeline(
        "red hair", num_images_per_prompt=3, num_inference_steps=4, guidance_scale=1.0, width=16, height=16,
        generator=[torch.Generator().manual_seed(seed) for seed in range(3)], output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(images(tuned) / theirs.std(), theirs / theirs.std(), rtol=0, atol=2e-5)


def test_an_adapter_survives_its_file_bit_for_bit(tuned: Policy, tmp_path: Path) -> None:
    config, tensors = lora.load(checkpoint_of(tuned, tmp_path / "checkpoint"), "ema")
    assert config == tuned.lora_config
    assert same(tensors, state_of(tuned))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda tensors, last: tensors | {last: tensors[last][:-1]}, "the adapter does not fit"),
        (lambda tensors, last: {k: v for k, v in tensors.items() if k != last}, "one half of"),
        (lambda tensors, last: tensors | {f"elsewhere.{last}": tensors[last]}, "it fits another base"),
    ],
)
def test_an_adapter_that_is_damaged_in_its_last_module_leaves_every_weight_as_it_was(
    tuned: Policy, tiny_folder: Path, damage: Damage, words: str
) -> None:
    network = load_policy(tiny_folder).network
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    tensors = state_of(tuned)
    assert tuned.lora_config is not None
    for last in (list(tensors)[-1], list(tensors)[-2]):
        with pytest.raises(ValueError, match=words):
            lora.merge(network, tuned.lora_config, damage(tensors, last))
        assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())


def test_memory_that_runs_out_while_merging_leaves_every_weight_as_it_was(
    tuned: Policy, tiny_folder: Path
) -> None:
    class Full(torch.Tensor):
        """A tensor that finds no room on the device."""

        def to(self, *_: object, **__: object) -> torch.Tensor:
            raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    network = load_policy(tiny_folder).network
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    tensors = state_of(tuned)
    last = list(tensors)[-1]
    assert tuned.lora_config is not None
    with pytest.raises(torch.OutOfMemoryError):
        lora.merge(network, tuned.lora_config, tensors | {last: tensors[last].as_subclass(Full)})
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())


def test_what_does_not_fit_is_refused_with_a_sentence(
    tuned: Policy, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = checkpoint_of(tuned, tmp_path / "checkpoint")
    with pytest.raises(LookupError, match="holds no adapter 'raw'"):
        lora.load(folder, "raw")
    config, tensors = lora.load(folder, "ema")
    strange = {f"elsewhere.{name}": tensor for name, tensor in tensors.items()}
    with pytest.raises(ValueError, match="it fits another base"):
        lora.merge(load_policy(tiny_folder).network, config, strange)
    with pytest.raises(ValueError, match="rank and targets must match"):
        lora.copy_into(tuned.trainable_parameters(), strange)
    narrower = {name: tensor[:1] for name, tensor in tensors.items()}
    with pytest.raises(ValueError, match="has shape"):
        lora.copy_into(tuned.trainable_parameters(), narrower)
