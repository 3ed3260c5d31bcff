"""What an update changes: the weights that learn, their average and copies, and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from flowgrpo import lora
from flowgrpo.choices import Algorithm, FlowGRPO
from flowgrpo.config import UpdateConfig
from flowgrpo.policies.base import Policy
from flowgrpo.world import World

EMA_WARM_UP = 10
"""The average's decay is at most (1 + n) / (EMA_WARM_UP + n) at update n, so that early updates are not
forgotten.
"""
FIRST_LOSS_SCALE = 2.0**16
"""Gradients of a mean over latent elements lie below what float16 resolves; this lifts them."""
CALM_STEPS = 100
"""Finite steps in a row after which the loss scale doubles."""

COPIES = {"nft": "old", "awm": "average", "dpo": "reference"}
"""Algorithms that keep one more copy of what learns, and what that copy is."""


def copies_of(algorithm: Algorithm, config: UpdateConfig) -> list[str]:
    """What a learner keeps besides the weights and their average."""
    own = COPIES.get(algorithm.name)
    return [*([own] if own else []), *(["start"] if config.extrapolation else [])]


class Learner:
    """The trainable weights of a policy under one algorithm.

    Attributes:
        parameters: Name to weight; all that learns.
        ema: Their moving average, which evaluates and ships.
        copies: Other copies that the algorithm keeps (NFT's "old", AWM's "average", DPO's "reference"), and
            the "start" of a run whose average goes further.
        rollouts: Rollouts learned from.
        world: The processes that learn as one.
    """

    def __init__(
        self,
        policy: Policy,
        config: UpdateConfig,
        algorithm: Algorithm | None = None,
        world: World | None = None,
    ) -> None:
        self.world = world or World()
        self.policy = policy
        self.config = config
        self.algorithm: Algorithm = algorithm or FlowGRPO()
        self.parameters = policy.trainable_parameters()
        if not self.parameters:
            raise ValueError("the policy has nothing to learn: attach a LoRA first")
        if policy.lora_config is None and self.algorithm.name != "sft":
            raise ValueError(
                f"{self.algorithm.name} needs an adapter, whose absence is its reference: attach a LoRA"
            )
        self.optimizer = _optimizer(list(self.parameters.values()), config)
        self.ema = self._clone()
        self.copies = {name: self._clone() for name in copies_of(self.algorithm, config)}
        self.update = 0
        self.rollouts = 0
        self.skipped = 0
        self.loss_scale = FIRST_LOSS_SCALE if policy.dtype == torch.float16 else 1.0
        self._calm_steps = 0
        if config.gradient_checkpointing:
            policy.enable_gradient_checkpointing()

    def _clone(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @property
    def weights(self) -> dict[str, Mapping[str, Tensor]]:
        """All that is kept of the weights, live: raw (what learns), ema, and the algorithm's copies."""
        return {"raw": self.parameters, "ema": self.ema, **self.copies}

    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begins with another checkpoint's weights; before the first update."""
        assert self.update == 0
        lora.copy_into(self.parameters, tensors)
        for weights in (self.ema, *self.copies.values()):
            lora.copy_into(weights, tensors)

    @contextmanager
    def behaviour(self) -> Iterator[None]:
        """Inside, the policy is the one that rollouts are sampled with: NFT's old policy, else the current
        one.
        """
        if "old" not in self.copies:
            yield
            return
        with self.policy.weights(self.copies["old"]):
            yield

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss; scaled, where the network computes in float16, until the step."""
        (loss * self.loss_scale).backward()

    def step(self, *, ends_update: bool = True) -> tuple[float, bool]:
        """One optimiser step on the gradients as they are; returns (their norm, whether the step was
        skipped).

        A norm that is not finite skips the step, so that no weight and no moment ever sees it. The average
        follows once an update.
        """
        self.world.sum_gradients(self.parameters.values())
        self._follow_main()
        if self.loss_scale != 1:
            for parameter in self.parameters.values():
                if parameter.grad is not None:
                    parameter.grad.div_(self.loss_scale)
        norm = torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.config.max_grad_norm
        ).item()
        self.update += ends_update
        is_finite = math.isfinite(norm)
        if is_finite:
            self.optimizer.step()
        else:
            self.skipped += 1
        if is_finite and ends_update:
            self.average(self.ema, self.config.ema_decay, self.extrapolated())
        self.optimizer.zero_grad(set_to_none=True)
        self._adjust_loss_scale(is_finite)
        return norm, not is_finite

    def _follow_main(self) -> None:
        """The main process's rate and bound hold for all: it may have lowered them."""
        if self.world.size == 1:
            return
        groups = self.optimizer.param_groups
        rate, bound = self.world.share((groups[0]["lr"], self.config.max_grad_norm))
        for group in groups:
            group["lr"] = rate
        self.config = self.config.model_copy(update={"max_grad_norm": bound})

    def _adjust_loss_scale(self, is_finite: bool) -> None:
        """Half of it after an overflow, twice as much after a calm while (as torch.amp.GradScaler)."""
        if self.policy.dtype != torch.float16:
            return
        self._calm_steps = self._calm_steps + 1 if is_finite else 0
        if not is_finite:
            self.loss_scale /= 2
        elif self._calm_steps % CALM_STEPS == 0:
            self.loss_scale *= 2

    @torch.no_grad()
    def average(
        self,
        weights: Mapping[str, Tensor],
        decay: float,
        towards: Mapping[str, Tensor] | None = None,
        *,
        warm_up: bool = True,
    ) -> None:
        """Moves a copy: copy = decay copy + (1 - decay) towards; by default towards the current weights."""
        if warm_up:
            decay = min(decay, (1 + self.update) / (EMA_WARM_UP + self.update))
        for name, tensor in (towards or self.parameters).items():
            weights[name].lerp_(tensor, 1 - decay)

    @torch.no_grad()
    def extrapolated(self) -> Mapping[str, Tensor]:
        """W + alpha (W - W_start), alpha the configuration's `extrapolation` (ExPO, arXiv 2404.16792).

        Of an adapter only B goes on: from a fresh start, where B is 0, that is the same step in the product.
        """
        start, alpha = self.copies.get("start"), self.config.extrapolation
        if start is None:
            return self.parameters
        return {
            name: weight if ".lora_A." in name else weight.lerp(start[name], -alpha)
            for name, weight in self.parameters.items()
        }

    def state(self) -> dict[str, Any]:
        """Counters, as JSON."""
        return {
            "update": self.update, "rollouts": self.rollouts, "skipped": self.skipped,
            "loss_scale": self.loss_scale, "calm_steps": self._calm_steps,
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; a checkpoint from before rollouts were counted has one per update."""
        self.update, self.skipped = state["update"], state["skipped"]
        self.rollouts = state.get("rollouts", self.update)
        self.loss_scale = state.get("loss_scale", self.loss_scale)
        self._calm_steps = state.get("calm_steps", 0)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimiser's moments and counts as `<kind>/<parameter>`; a count that is a plain number
        (bitsandbytes) as int64.
        """
        state = self.optimizer.state
        return {
            f"{kind}/{name}": value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.int64)
            for name, parameter in self.parameters.items()
            for kind, value in state.get(parameter, {}).items()
        }

    def load_optimizer_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`."""
        self.optimizer.state.clear()
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            parameter = self.parameters[name]
            device = "cpu" if kind == "step" else parameter.device
            is_number = tensor.dtype == torch.int64
            self.optimizer.state[parameter][kind] = int(tensor) if is_number else tensor.to(device, copy=True)


def _optimizer(parameters: list[torch.nn.Parameter], config: UpdateConfig) -> torch.optim.Optimizer:
    """AdamW, or bitsandbytes' where it was asked for; raises LookupError where that is not to be had."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    if parameters[0].device.type != "cuda":
        raise LookupError(
            f"optimizer adamw_8bit needs an NVIDIA GPU and the run is on {parameters[0].device}: choose adamw"
        )
    try:
        library = import_module("bitsandbytes.optim")
    except ImportError as error:
        raise LookupError(
            "optimizer adamw_8bit needs the package bitsandbytes: pip install bitsandbytes, or choose adamw"
        ) from error
    optimizer: torch.optim.Optimizer = library.AdamW8bit(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return optimizer
