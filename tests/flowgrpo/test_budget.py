"""What a run will take, held against what it takes; the published architectures, without their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flowgrpo.advantages import Advantages
from flowgrpo.budget import GIB, Sizes, memory_of, work_of
from flowgrpo.choices import AWM, DDPO, DPO, NFT, RWR, SFT, Algorithm, FlowGRPO
from flowgrpo.config import LoraConfig, RolloutConfig, RunConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.live import counted
from flowgrpo.policies import Policy, load_policy
from flowgrpo.published import architecture, known
from flowgrpo.rollout import rollout_settings, sample_group
from flowgrpo.seeds import group_seeds
from flowgrpo.update import update
from tests.tiny import tiny_sd15
from tests.tiny_flow import tiny_flux, tiny_sd3

PARAMETERS = {
    "sd15": 859_520_964, "sdxl": 2_567_463_684, "ssd-1b": 1_331_334_404, "sd3.5-medium": 2_243_171_520,
    "flux.1-dev": 11_901_408_320,
}  # fmt: skip
"""As published, or what the published configuration gives: SDXL's and FLUX.1's are their papers' 2.6 and 12
billion, SSD-1B's its 1.3; SD3.5's 2.5 counts the 226 million fixed position embeddings too.
"""
ADAPTED = {"sd15": 128, "sdxl": 560, "ssd-1b": 288, "sd3.5-medium": 243, "flux.1-dev": 266}
"""Modules that the attention's targets hit."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.mark.parametrize("name", known())
def test_a_published_base_has_its_number_of_parameters(name: str) -> None:
    network = architecture(name).build_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("rank", [16, 32])
@pytest.mark.parametrize("name", ["sd15", "ssd-1b", "sd3.5-medium"])
def test_an_adapter_of_twice_the_rank_takes_twice_the_bytes_and_hits_its_targets(
    name: str, rank: int
) -> None:
    sizes = Sizes(architecture(name), LoraConfig(rank=rank, targets=ATTENTION), torch.bfloat16)
    shapes = {name.rpartition(".lora_")[0]: p for name, p in sizes.adapter.items()}
    assert all(module.endswith(ATTENTION) for module in shapes)
    linear = dict(sizes.network.named_modules())
    expected = 0
    for module in shapes:
        base = linear[module].get_submodule("base_layer")
        assert isinstance(base, nn.Linear)
        expected += rank * (base.in_features + base.out_features)
    assert sizes.adapter_bytes == 4 * expected


@pytest.mark.parametrize(
    ("name", "latents", "words"),
    [
        ("ssd-1b", (4, 128, 128), {"text_embeds": (2, 1280), "time_ids": (2, 6)}),
        ("sd3.5-medium", (16, 128, 128), {"pooled_projections": (2, 2048)}),
        ("flux.1-dev", (4096, 64), {"pooled_projections": (2, 768), "img_ids": (4096, 3)}),
    ],
)
def test_every_stored_tensor_of_a_real_base_has_its_shape(
    name: str, latents: tuple[int, ...], words: dict[str, tuple[int, ...]]
) -> None:
    sizes = Sizes(architecture(name), LoraConfig(rank=4, targets=("to_q",)), torch.bfloat16)
    image, told = sizes._inputs(2, 1024, 1024)
    flat: dict[str, Any] = told | told.get("added_cond_kwargs", {})  # type: ignore[operator]
    assert image.shape == (2, *latents)
    assert flat["encoder_hidden_states"].shape[1:] == sizes.base.words[:2]
    for key, shape in words.items():
        assert flat[key].shape == shape


@pytest.fixture(params=["sdxl", "sd15", "sd3", "flux"])
def base(request: pytest.FixtureRequest, tmp_path: Path, tiny_folder: Path) -> Path:
    makers: dict[str, Callable[[Path], Path]] = {"sd15": tiny_sd15, "sd3": tiny_sd3, "flux": tiny_flux}
    return tiny_folder if request.param == "sdxl" else makers[request.param](tmp_path / "base")


@pytest.mark.parametrize("learns", [False, True])
def test_the_pretended_peak_is_the_peak_of_the_real_tensors(base: Path, learns: bool) -> None:
    sizes = Sizes(architecture(base), LoraConfig(rank=4))
    expected = sizes.denoise(3, 32, 32, learns=learns).peak_bytes
    policy = load_policy(base)
    policy.attach_lora(LoraConfig(rank=4))
    conditioning = policy.encode(["red hair"] * 3, guided=False, width=32, height=32)
    latents = torch.randn(3, *policy.latent_shape(32, 32))
    held = [*policy.network.parameters(), *policy.network.buffers(), latents, *conditioning.positive.values()]
    with torch.set_grad_enabled(learns), counted(held) as (live, _):
        velocity = policy.velocity(latents, 0.5, conditioning)
        if learns:
            velocity.square().mean().backward()
    assert live.peak == pytest.approx(expected, rel=0.2)


ALGORITHMS: list[Algorithm] = [
    FlowGRPO(), FlowGRPO(unconditional_gradient=True), DDPO(), NFT(), AWM(), RWR(), DPO()
]  # fmt: skip


class Counter:
    """Images through a network, with and without a gradient."""

    def __init__(self, policy: Policy) -> None:
        self.plain = self.learned = 0
        policy.network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: nn.Module, args: tuple[torch.Tensor, ...], kwargs: object) -> None:
        del kwargs
        if torch.is_grad_enabled():
            self.learned += len(args[0])
        else:
            self.plain += len(args[0])


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize(("kl_weight", "reference"), [(0.0, None), (1e-3, None), (1e-3, 3.0)])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: f"{a.name}")
def test_the_counted_evaluations_are_those_of_a_real_update(
    policy: Policy,
    algorithm: Algorithm,
    kl_weight: float,
    reference: float | None,
    guidance_scale: float,
) -> None:
    reference = None if algorithm.name == "dpo" else reference  # which has none
    policy.attach_lora(LoraConfig(rank=4))
    config = RunConfig(
        prompts=("red hair",), reward_weights={"clip": 1.0}, algorithm=algorithm, num_updates=1,
        rollout=RolloutConfig(
            group_size=4, groups_per_update=2, num_steps=4, window_size=2, guidance_scale=guidance_scale,
            width=16, height=16,
        ),
        update=UpdateConfig(kl_weight=kl_weight, micro_batch_size=4, reference_guidance=reference),
    )  # fmt: skip
    learner, counter = Learner(policy, config.update, algorithm), Counter(policy)
    rollouts = [
        sample_group(
            policy,
            "red hair",
            seeds=group_seeds(0, 1, i, 4),
            **rollout_settings(config.rollout, 4, 0, 1, i, keeps_negative=True),
        )
        for i in range(2)
    ]
    values = torch.tensor([[1.0, -1.0, 0.5, -0.5]] * 2)
    whole = torch.ones(2, 4, dtype=torch.bool)
    list(update(learner, rollouts, Advantages(values, whole, torch.zeros(2, dtype=torch.bool))))
    work = work_of(config)
    assert (work.images, work.plain, work.learned) == (8, counter.plain, counter.learned)


def test_sft_shows_its_folder_and_samples_nothing() -> None:
    config = RunConfig(
        prompts=("a",), algorithm=SFT(folder="pictures", batch_size=8), num_updates=10,
        update=UpdateConfig(kl_weight=0),
    )  # fmt: skip
    work = work_of(config)
    assert (work.images, work.plain, work.learned) == (80, 0, 80)


def test_a_gpu_needs_room_for_weights_learner_and_the_largest_phase() -> None:
    config = RunConfig(
        prompts=("a",), reward_weights={"clip": 1.0},
        rollout=RolloutConfig(width=512, height=512), update=UpdateConfig(micro_batch_size=1),
    )  # fmt: skip
    sizes = Sizes(architecture("sd15"), LoraConfig(rank=16, targets=ATTENTION), torch.bfloat16)
    memory = memory_of(sizes, config, on_gpu=True)
    assert 1.5 * GIB < memory.weights < 2.2 * GIB
    assert memory.peak == memory.weights + memory.learner + memory.overhead + max(memory.phases.values())
    assert memory.phases["update"] > memory.phases["rollout"]
    assert memory.peak < 8 * GIB


def test_what_is_no_base_is_told_what_is() -> None:
    with pytest.raises(LookupError, match=r"published base of that name.*flux\.1-dev, sd15"):
        architecture("nowhere")
