"""Every knob of sampling and tuning, in one place, without torch (the web process reads it too).

Models are frozen and refuse unknown keys and non-finite numbers; a preset is a function that returns one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

MAX_PROMPT_LENGTH = 2_000
"""Characters; a longer prompt would be cut silently by every text encoder."""
MAX_GROUP_SIZE = 64
"""Images in one request from the browser."""
MAX_SEED = 2**32 - 1
"""Seeds are unsigned 32-bit, as in A1111 and ComfyUI."""

Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_PROMPT_LENGTH)]


class Config(BaseModel):
    """What every configuration has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SamplingConfig(Config):
    """How a group is drawn for people to look at: the deterministic sampler, as it will be deployed."""

    negative_prompt: str = Field("", max_length=MAX_PROMPT_LENGTH)
    """What guidance steers away from; unused at guidance 1."""
    num_steps: int = Field(16, ge=1, le=150)
    """Denoising steps; each costs one network evaluation an image, two with guidance."""
    guidance_scale: float = Field(3.0, ge=1, le=30)
    """Classifier-free guidance weight; 1 means none."""
    width: int = Field(64, ge=16, le=2048)
    """Pixels; a multiple of the base's VAE factor."""
    height: int = Field(64, ge=16, le=2048)
    """Pixels; a multiple of the base's VAE factor."""


class RolloutConfig(Config):
    """How the groups of an update are sampled."""

    group_size: int = Field(16, ge=2, le=256)
    """Samples per prompt; below 16 the group statistics are noisy (algorithms.md, finding 6)."""
    groups_per_update: int = Field(4, ge=1, le=256)
    """Prompts per update."""
    num_steps: int = Field(8, ge=2, le=150)
    """Denoising steps of a rollout."""
    guidance_scale: float = Field(1.0, ge=1, le=30)
    """Guidance in rollout and update alike; 1 trains the policy to do without it."""
    kernel: Literal["exact"] = "exact"
    """Transition kernel of the stochastic steps."""
    noise_level: float = Field(1.4142135623730951, gt=0, le=4)
    """a of Flow-GRPO's g = a sqrt(t / (1 - t)); sqrt(2) is the memoryless choice (DDIM eta 1)."""
    window: Literal["early_random"] = "early_random"
    """Which steps are stochastic and trained: `window_size` in a row, from a random one in the first half."""
    window_size: int = Field(3, ge=1, le=150)
    """Stochastic, trained steps per sample."""
    width: int = Field(64, ge=16, le=2048)
    """Pixels."""
    height: int = Field(64, ge=16, le=2048)
    """Pixels."""

    @model_validator(mode="after")
    def _window_fits(self) -> RolloutConfig:
        if self.window_size > self.num_steps - 1:
            raise ValueError(
                f"window_size must be at most num_steps - 1 (the last step is never stochastic), "
                f"got {self.window_size} with {self.num_steps} steps"
            )
        return self


class LoraConfig(Config):
    """The adapter that learns."""

    rank: int = Field(16, ge=1, le=256)
    """Rank of each update matrix."""
    alpha: float = Field(16.0, gt=0, le=1024)
    """Scale times rank: the adapter's output is multiplied by alpha / rank."""
    targets: tuple[str, ...] = (
        "to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "proj_out",
        "ff.net.0.proj", "ff.net.2",
    )  # fmt: skip
    """Suffixes of the module names that get an adapter."""


class UpdateConfig(Config):
    """The policy-gradient step."""

    learning_rate: float = Field(1e-3, gt=0, le=1)
    """AdamW's rate."""
    weight_decay: float = Field(1e-4, ge=0, le=1)
    """AdamW's decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this global norm."""
    clip_nats: float = Field(2.0, gt=0, le=100)
    """Trust region of the ratio in nats per transition; divided by the number of latent elements."""
    kl_weight: float = Field(1e-3, ge=0, le=100)
    """Weight of mean (v - v_reference)^2; 0 skips the reference pass."""
    updates_per_rollout: int = Field(1, ge=1, le=16)
    """Optimiser steps per rollout; at 1 the ratio is exactly 1 and the clip never acts."""
    micro_batch_size: int = Field(32, ge=1, le=1024)
    """Samples per forward, in rollout and update alike."""
    ema_decay: float = Field(0.9, ge=0, lt=1)
    """Decay per update of the averaged adapter, which evaluates and ships."""
    advantage_clip: float = Field(5.0, gt=0, le=100)
    """Advantages are clipped to this many standard units."""


class RunConfig(Config):
    """Everything that one FlowGRPO run does; stored with the run, word for word."""

    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=100_000)
    """Training prompts; drawn without replacement, reshuffled by (seed, epoch)."""
    held_out_prompts: tuple[Prompt, ...] = ()
    """Never trained on; the sample grid shows the first of them, or of `prompts` when there are none."""
    reward_weights: dict[str, float]
    """Reward name to weight; at least one is not zero."""
    num_updates: int = Field(60, ge=1, le=100_000)
    """Optimiser updates of the run."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Every noise of the run follows from (seed, update, group, member)."""
    checkpoint_every: int = Field(20, ge=1)
    """Updates between checkpoints; the last update always makes one."""
    sample_every: int = Field(10, ge=1)
    """Updates between sample grids."""
    samples: int = Field(8, ge=0, le=64)
    """Images of a sample grid, at fixed prompts and seeds."""
    rollout: RolloutConfig = RolloutConfig()
    update: UpdateConfig = UpdateConfig()
    lora: LoraConfig = LoraConfig()

    @field_validator("reward_weights")
    @classmethod
    def _some_weight(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError(
                "all reward weights are zero, so there is nothing to learn: give at least one a weight"
            )
        return weights


DEFAULT_WEIGHTS: dict[str, float] = {"verifier": 0.5, "clip": 0.3, "quality": 0.2}
"""The embedded rewards of a run on the starter (rewards.md 7.1)."""


def smoke(prompts: tuple[str, ...]) -> RunConfig:
    """Two small updates: does everything work? About 20 s on two cores."""
    return RunConfig(
        prompts=prompts,
        reward_weights=DEFAULT_WEIGHTS,
        num_updates=2,
        checkpoint_every=1,
        sample_every=1,
        samples=4,
        rollout=RolloutConfig(group_size=8, groups_per_update=2),
    )


def fast_and_faithful(prompts: tuple[str, ...], num_updates: int = 60) -> RunConfig:
    """Eight steps without guidance, tuned towards what sixteen guided ones show; 8 minutes on two cores."""
    return RunConfig(prompts=prompts, reward_weights=DEFAULT_WEIGHTS, num_updates=num_updates)


PRESETS = {"smoke": smoke, "fast and faithful": fast_and_faithful}
"""Preset name to function of the prompts."""
