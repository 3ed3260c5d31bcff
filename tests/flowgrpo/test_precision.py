"""What must not change a result: half precision, recomputed activations, where the text encoders are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import sample_group
from tests.flowgrpo.conftest import SETTINGS, perturb
from tests.tiny import tiny_sd15, tiny_sdxl, tiny_ssd_unet
from tests.tiny_flow import tiny_flux, tiny_sd3

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASES: dict[str, Callable[[Path], Path]] = {
    "sdxl": tiny_sdxl,
    "ssd-1b": lambda folder: tiny_sdxl(folder, unet=tiny_ssd_unet),
    "sd15": tiny_sd15,
    "sd3": tiny_sd3,
    "flux": tiny_flux,
}
FORGOTTEN = ("add_q_proj", "to_add_out")
"""The last joint block drops the words' half, so these projections of it have nothing to learn."""


@pytest.fixture(scope="module", params=list(BASES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES[request.param](tmp_path_factory.mktemp("base") / "pipeline")


def learner_of(folder: Path, *, recomputes: bool = False, dtype: torch.dtype = torch.float32) -> Learner:
    policy = load_policy(folder, dtype=dtype)
    policy.attach_lora(LoraConfig(rank=4), seed=0)
    return Learner(policy, UpdateConfig(learning_rate=1e-3, gradient_checkpointing=recomputes))


def backward(policy: Policy) -> dict[str, Tensor]:
    """Gradients of a loss that pulls the velocity somewhere else."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *policy.latent_shape(32, 32), generator=generator)
    target = torch.randn(latents.shape, generator=generator)
    told = policy.encode(["red hair", "blue hair"], guided=False, width=32, height=32)
    loss = (policy.velocity(latents, torch.tensor([0.8, 0.4]), told) - target).square().mean()
    loss.backward()
    learned = policy.trainable_parameters()
    gradients = {name: p.grad.clone() for name, p in learned.items() if p.grad is not None}
    for parameter in learned.values():
        parameter.grad = None
    return gradients


@contextmanager
def counting() -> Iterator[list[int]]:
    """Bytes that a forward pass keeps for the backward pass."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def test_recomputed_activations_give_the_same_gradients_for_less_memory(base: Path) -> None:
    """Pitfall 20."""
    plain, again = learner_of(base).policy, learner_of(base, recomputes=True).policy
    for policy in (plain, again):
        perturb(policy)
    with counting() as kept:
        expected = backward(plain)
    with counting() as kept_again:
        found = backward(again)
    # What a recomputed block keeps for itself in the backward pass goes through no hook of ours.
    assert sum(kept_again) < sum(kept) / 2
    assert found.keys() == expected.keys()
    assert all(torch.equal(gradient, expected[name]) for name, gradient in found.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("recomputes", [False, True])
def test_every_b_learns_in_the_first_step_and_every_a_in_the_second(
    base: Path, recomputes: bool, dtype: torch.dtype
) -> None:
    """Pitfall 20: B starts at zero, so A has no gradient before B has moved."""
    learner = learner_of(base, recomputes=recomputes, dtype=dtype)
    for half in "BA":
        for name, gradient in backward(learner.policy).items():
            assert gradient.dtype == torch.float32
            assert gradient.isfinite().all(), name
            learner.parameters[name].grad = gradient
        asked = {name: p for name, p in learner.parameters.items() if f"lora_{half}" in name}
        silent = [n for n, p in asked.items() if p.grad is None or p.grad.norm() == 0]
        assert all(any(one in name for one in FORGOTTEN) for name in silent), silent
        assert len(silent) <= 4
        learner.step()


def test_recomputing_waits_for_nothing_that_sampling_does(base: Path) -> None:
    """Activations are computed again only where there is a gradient."""
    plain, again = learner_of(base).policy, learner_of(base, recomputes=True).policy
    for policy in (plain, again):
        perturb(policy)
    settings = {**SETTINGS, "width": 32, "height": 32}
    first, second = (
        sample_group(policy, "red hair", seeds=range(2), **settings)  # type: ignore[arg-type]
        for policy in (plain, again)
    )
    assert torch.equal(first.latents, second.latents)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_two_forwards_are_one(base: Path, dtype: torch.dtype) -> None:
    """Pitfall 21: nothing is in training mode, nothing drops out."""
    policy = learner_of(base, dtype=dtype).policy
    perturb(policy)
    told = policy.encode(["red hair"], guided=True, width=32, height=32)
    latents = torch.randn(1, *policy.latent_shape(32, 32), generator=torch.Generator().manual_seed(1))
    one, two = (policy.velocity(latents, 0.7, told, 3.0) for _ in range(2))
    assert one.dtype == torch.float32
    assert one.isfinite().all()
    assert torch.equal(one, two)
    assert not any(module.training for module in policy.network.modules())


@pytest.mark.parametrize(
    ("dtype", "force_upcast", "expected"),
    [
        (torch.float16, True, torch.float32),
        (torch.float16, False, torch.float16),
        (torch.bfloat16, True, torch.bfloat16),
        (torch.float32, True, torch.float32),
    ],
)
def test_a_vae_that_overflows_float16_stays_in_float32(
    tmp_path: Path, dtype: torch.dtype, force_upcast: bool, expected: torch.dtype
) -> None:
    """Pitfall 25. The fp16-fix says force_upcast false; bfloat16 has float32's range."""
    folder = tiny_sdxl(tmp_path / "pipeline")
    path = folder / "vae" / "config.json"
    stored = path.read_text()
    assert '"force_upcast": true' in stored
    path.write_text(stored.replace('"force_upcast": true', f'"force_upcast": {str(force_upcast).lower()}'))
    policy = load_policy(folder, dtype=dtype)
    assert policy.vae.dtype == expected
    latents = torch.randn(2, *policy.latent_shape(32, 32), generator=torch.Generator().manual_seed(0))
    images = policy.decode(latents)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert images.flatten(1).std(dim=1).min() > 1e-3


def test_an_image_that_is_not_finite_is_marked_broken(tiny_folder: Path) -> None:
    """Pitfall 25: masked, not scored as black."""
    policy = load_policy(tiny_folder)
    with torch.no_grad():
        policy.vae.decoder.conv_out.bias.fill_(float("nan"))
    rollout = sample_group(policy, "red hair", seeds=range(2), **SETTINGS)
    assert not rollout.is_finite.any()
    assert not rollout.images_uint8.any(), "it is shown black"


def test_text_encoders_visit_the_device_only_while_they_read_something_new(base: Path) -> None:
    policy = load_policy(base, device="cpu:0")  # a name that only a move to the device carries
    moves: list[tuple[int, str]] = []
    for number, encoder in enumerate(policy._text_encoders):
        _report(encoder, number, moves)
    policy.encode(["red hair"], guided=False, width=32, height=32)
    came, read, left = ([number for number, what in moves if what == one] for one in ("cpu:0", "read", "cpu"))
    assert came == left == list(range(len(policy._text_encoders)))
    assert set(read) == set(came)
    assert [what for _, what in moves] == ["cpu:0"] * len(came) + ["read"] * len(read) + ["cpu"] * len(left)
    moves.clear()
    again = policy.encode(["red hair", "red hair"], guided=False, width=32, height=32)
    assert moves == [], "what was read is remembered"
    assert all(len(tensor) == 2 for tensor in again.positive.values())
    policy.encode(["red hair", "blue hair"], "glasses", guided=True, width=32, height=32)
    reads = sum(what == "read" for _, what in moves)
    assert reads == 2 * len(read), "two new texts, each read alone"


def _report(encoder: nn.Module, number: int, moves: list[tuple[int, str]]) -> None:
    """Notes each forward pass and each move of a real encoder, which still happen."""
    move = encoder.to

    def noted(place: str | torch.device) -> nn.Module:
        moves.append((number, str(place)))
        return move(place)

    encoder.to = noted  # type: ignore[method-assign,assignment]
    encoder.register_forward_hook(lambda *_: moves.append((number, "read")))


def test_text_encoders_leave_the_device_also_when_they_fail(tiny_folder: Path) -> None:
    policy = load_policy(tiny_folder, device="cpu:0")
    moves: list[tuple[int, str]] = []
    for number, encoder in enumerate(policy._text_encoders):
        _report(encoder, number, moves)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    policy._text_encoders[1].register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        policy.encode(["red hair"], guided=False, width=32, height=32)
    assert moves[-2:] == [(0, "cpu"), (1, "cpu")]
