"""Each process of a run holds its share of the base's frozen weights, for bases larger than one device.

The blocks of the network come together one after another while they compute, and go apart again. The adapter
is whole in every process, as are VAE and text encoders: what learns, its copies, its optimiser and its
checkpoints know nothing of shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

from flowgrpo.policies.base import Policy
from flowgrpo.world import World

_SIDE = 8
"""Width and height of the images of a call that only others need, in the smallest steps of the base."""


def shard(policy: Policy, world: World, device: torch.device) -> None:
    """Moves a policy with an adapter from the CPU to its device, of the network only this process's share.

    Raises ValueError where the device is not one of the launcher's.
    """
    assert world.mesh is not None
    assert policy.lora_config is not None, "what learns is whole in every process"
    if device.type != world.mesh.device_type:
        raise ValueError(
            f"the shares of a base lie on the launcher's devices ({world.mesh.device_type}), not on "
            f"{device}: leave the device at auto"
        )
    learned = policy.trainable_parameters().values()
    for parameter in policy.network.parameters():
        parameter.data = parameter.data.contiguous()  # a UNet's are channels last, which cannot be cut
    for parameter in learned:
        parameter.data = parameter.data.to(device)
    for module in (*_blocks(policy.network), policy.network):
        fully_shard(module, mesh=world.mesh, reshard_after_forward=True, ignored_params=set(learned))
    policy.vae.to(device)
    policy.device = device
    _keep_in_step(policy, world)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """What comes together as one, the innermost first: the blocks that diffusers keeps on one device."""
    names = set(getattr(network, "_no_split_modules", None) or ())
    return (module for module in reversed(list(network.modules())) if type(module).__name__ in names)


def _keep_in_step(policy: Policy, world: World) -> None:
    """Has every network call be made by all processes at once."""
    is_ours = True

    def before(*_: object) -> None:
        if is_ours:
            world.call(learns=torch.is_grad_enabled())

    def after(*_: object) -> None:
        world.is_calling = False

    ask = _cheapest_call(policy)

    def take_part(learns: bool) -> None:
        nonlocal is_ours
        is_ours = False
        ask(learns)
        is_ours = True

    # Ahead of what brings the root's shares together, which is work of all already.
    policy.network.register_forward_pre_hook(before, prepend=True)
    policy.network.register_forward_hook(after)
    world.take_part = take_part


def _cheapest_call(policy: Policy) -> Callable[[bool], None]:
    """A network call whose answer nobody needs; the gradients of one that learns are thrown away."""
    side = _SIDE * policy.size_step
    latents = torch.zeros(1, *policy.latent_shape(side, side), dtype=policy.dtype, device=policy.device)
    words = policy.encode([""], guided=False, width=side, height=side)
    learned = list(policy.trainable_parameters().values())

    def call(learns: bool) -> None:
        with torch.set_grad_enabled(learns):
            velocity = policy.velocity(latents, 0.5, words)
        if learns:
            torch.autograd.grad(velocity.sum(), learned, allow_unused=True)

    return call
