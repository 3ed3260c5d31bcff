"""Every knob of sampling and tuning, in one place, without torch (the web process reads it too).

Models are frozen and refuse unknown keys and non-finite numbers; presets are in `flowgrpo/presets.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from flowgrpo.choices import Algorithm, FlowGRPO, Trajectory
from flowgrpo.strict import Config

MAX_PROMPT_LENGTH = 2_000
"""Characters; a longer prompt would be cut silently by every text encoder."""
MAX_GROUP_SIZE = 64
"""Images in one request from the browser."""
MAX_SEED = 2**32 - 1
"""Seeds are unsigned 32-bit, as in A1111 and ComfyUI."""

Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_PROMPT_LENGTH)]


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
    kernel: Literal["exact", "cps", "ddim", "flow_sde", "dance_sde"] = "exact"
    """Transition kernel of the stochastic steps (docs/algorithm.md, section 2)."""
    noise_level: float = Field(1.4142135623730951, ge=0, le=4)
    """How much noise a stochastic step renews: a of Flow-GRPO's g = a sqrt(t / (1 - t)) for exact and
    flow_sde, eta for cps, ddim and dance_sde; sqrt(2) with exact is the memoryless choice (DDIM eta 1).
    """
    window: Literal["early_random", "first", "progressive", "all", "random", "none"] = "early_random"
    """Which steps are stochastic: `window_size` in a row from a random one in the first half, or the first
    ones, where noise decides the most, or from a random one anywhere, or from one that moves on as the run
    goes (MixGRPO), or all but the last, or none, for algorithms that learn from final images.
    """
    window_size: int = Field(3, ge=1, le=150)
    """Stochastic steps per sample; unused by the windows `all` and `none`."""
    window_every: int = Field(25, ge=1, le=10_000)
    """Rollouts after which the progressive window moves on by one step."""
    trained_share: float = Field(1.0, gt=0, le=1)
    """Share of the stochastic steps that the update trains, drawn anew for each group (DanceGRPO: 0.6)."""
    solver: Literal["euler", "dpmpp_2m"] = "euler"
    """The deterministic steps: Euler (DDIM eta 0), or the second-order multistep DPM-Solver++."""
    same_start: bool = False
    """True starts all samples of a group from one noise (DanceGRPO); only the window tells them apart."""
    width: int = Field(64, ge=16, le=2048)
    """Pixels."""
    height: int = Field(64, ge=16, le=2048)
    """Pixels."""

    @model_validator(mode="after")
    def _window_fits(self) -> RolloutConfig:
        if self.window not in ("all", "none") and self.window_size > self.num_steps - 1:
            raise ValueError(
                f"window_size must be at most num_steps - 1 (the last step is never stochastic), "
                f"got {self.window_size} with {self.num_steps} steps"
            )
        return self

    @model_validator(mode="after")
    def _noise_fits(self) -> RolloutConfig:
        if self.kernel in ("cps", "ddim") and self.noise_level > 1:
            raise ValueError(
                f"noise_level is eta for the kernel {self.kernel} and at most 1, got {self.noise_level}"
            )
        return self


class AdvantageConfig(Config):
    """How the rewards of a group become advantages (docs/algorithm.md, section 4)."""

    combine: Literal["normalised", "raw_sum", "gdpo", "winrate"] = "normalised"
    """Normalise each reward inside its group, then weigh. Or as published code does: weigh raw rewards and
    normalise their sum (Flow-GRPO); normalise, weigh, add and normalise over the whole rollout (GDPO, arXiv
    2601.05242); count which share of its group an image beats by each reward (Pref-GRPO, arXiv 2508.20751).
    """
    std: Literal["calibrated", "pooled", "group", "global", "running"] = "calibrated"
    """What a reward is divided by: its group's std with a floor from groups of the base; the root mean square
    of the groups' stds; the group's own; that of all rewards of the rollout; a running one of the prompt
    (DDPO, which also subtracts the prompt's running mean).
    """
    buffer_size: int = Field(32, ge=2, le=4096)
    """Rewards that the running statistics of a prompt remember."""
    min_count: int = Field(16, ge=2, le=4096)
    """Rewards of a prompt below which the running statistics are those of the rollout."""
    diversity: bool = True
    """Praise what is unlike its group more (rewards.md 7.2)."""
    caps: dict[str, float] = Field(default_factory=dict)
    """Reward name to the value, in the reward's own unit, above which an image gains nothing more."""
    cap_at_base: bool = False
    """Cap every reward of positive weight at the 99th percentile of the base's own images, measured before
    the first update; a number in `caps` goes before it.
    """

    @model_validator(mode="after")
    def _statistics_exist(self) -> AdvantageConfig:
        if self.combine in ("gdpo", "winrate") and self.std != "group":
            raise ValueError(
                f"{self.combine} is defined by the statistics of each group: choose std group, got {self.std}"
            )
        if self.combine == "raw_sum" and self.std == "calibrated":
            raise ValueError(
                "each reward is calibrated alone, so a raw_sum has no calibrated std: "
                "choose pooled, group, global or running, or combine normalised"
            )
        if self.min_count > self.buffer_size:
            raise ValueError(
                f"min_count must be at most buffer_size, got {self.min_count} with {self.buffer_size}"
            )
        return self


class LoraConfig(Config):
    """The adapter that learns."""

    rank: int = Field(16, ge=1, le=256)
    """Rank of each update matrix."""
    alpha: float = Field(16.0, gt=0, le=1024)
    """Scale times rank: the adapter's output is multiplied by alpha / rank."""
    targets: tuple[str, ...] | None = Field(None, min_length=1)
    """Suffixes of the module names that get an adapter; null leaves it to the base's family."""


class UpdateConfig(Config):
    """The policy-gradient step."""

    learning_rate: float = Field(1e-3, gt=0, le=1)
    """AdamW's rate."""
    decay: Literal["none", "linear"] = "none"
    """Whether the rate falls, in a straight line, to 0 after the last update: what noise has taught goes."""
    weight_decay: float = Field(1e-4, ge=0, le=1)
    """AdamW's decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this global norm."""
    clip_nats: float = Field(2.0, gt=0, le=100)
    """Trust region of the ratio in nats per transition; divided by the number of latent elements."""
    kl_weight: float = Field(1e-3, ge=0, le=100)
    """Weight of mean (v - v_reference)^2; 0 skips the reference pass."""
    reference_guidance: float | None = Field(None, gt=1, le=30)
    """Guidance of that reference where it is not the rollout's: held to a guided base, a policy that samples
    without guidance learns what guidance does (arXiv 2210.03142), while the rewards say what is wanted.
    """
    kl_steps: int = Field(0, ge=0, le=150)
    """Steps of each group, drawn anew from those that are not trained, at which the KL is measured too: what
    the trained steps teach reaches the others, since one network serves all.
    """
    updates_per_rollout: int = Field(1, ge=1, le=16)
    """Passes over a rollout; with one, and one minibatch, the ratio is exactly 1 and the clip never acts."""
    minibatches: int = Field(1, ge=1, le=64)
    """Optimiser steps of a pass, each on its share of samples and steps, at the price of one; from the
    second on the ratio is measured against the sampler.
    """
    micro_batch_size: int = Field(32, ge=1, le=1024)
    """Samples per forward, in rollout and update alike."""
    ema_decay: float = Field(0.9, ge=0, lt=1)
    """Decay per update of the averaged adapter, which evaluates and ships."""
    extrapolation: float = Field(0.0, ge=0, le=1)
    """How much further from the run's start that average lies than what it averages, as a share of the way:
    a short run stops on the way to where its rewards and its reference lead (ExPO, arXiv 2404.16792).
    """
    advantage_clip: float = Field(5.0, gt=0, le=100)
    """Advantages are clipped to this many standard units."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """AdamW, or bitsandbytes' with moments in 8 bits where a GPU and the library are there."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, several times less memory."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the base's weights and activations; the adapter is float32 always. Auto: float32 on a CPU, bfloat16
    on a GPU that has it, else float16.
    """

    @model_validator(mode="after")
    def _reference_is_asked(self) -> UpdateConfig:
        if self.reference_guidance is not None and self.kl_weight == 0:
            raise ValueError(
                "reference_guidance says what the KL holds the policy to, and kl_weight is 0: "
                "give it a weight, or leave reference_guidance out"
            )
        if self.kl_steps and self.kl_weight == 0:
            raise ValueError(
                "kl_steps says where the KL is measured, and kl_weight is 0: give it a weight, "
                "or leave kl_steps out"
            )
        return self


class RatingsConfig(Config):
    """A run that learns from groups which people have rated, and samples none of its own."""

    snapshot: str = Field(min_length=1, max_length=36)
    """Id of the frozen votes that it learns from."""


class PeopleConfig(Config):
    """A run that has people rate its own groups before each update."""

    weight: float = Field(1.0, gt=0, le=10)
    """What is said of an image counts as a reward of this weight, beside the others."""
    timeout_minutes: float = Field(60.0, gt=0, le=10_080)
    """After which the rewards decide alone about the groups that nobody rated."""
    min_groups: int | None = Field(None, ge=1)
    """Groups of a rollout that must be rated before the run goes on; null for all of them."""


OFF_POLICY = ("nft", "awm", "rwr", "dpo")
"""Algorithms that are sound on images of whatever checkpoint."""


class RunConfig(Config):
    """Everything that one FlowGRPO run does; stored with the run, word for word."""

    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=100_000)
    """Training prompts; drawn without replacement, reshuffled by (seed, epoch)."""
    held_out_prompts: tuple[Prompt, ...] = ()
    """Never trained on; the sample grid shows the first of them, or of `prompts` when there are none."""
    reward_weights: dict[str, float] = Field(default_factory=dict)
    """Reward name to weight; at least one is not zero, except for SFT, which needs no reward."""
    weights_from: str | None = None
    """Id of the fit to people's votes that the weights were taken from; null where somebody chose them."""
    gates: tuple[str, ...] = ()
    """Rewards of kind gate: an image below one's threshold is never praised, whatever its rewards."""
    monitors: tuple[str, ...] = ()
    """Rewards that are scored and shown, and that teach nothing."""
    judges: tuple[str, ...] = ()
    """Rewards that score the sample grids alone: the hacking guard holds the run against them. Empty leaves
    the choice to the studio (docs/rewards.md).
    """
    reference: Literal["base_seed"] = "base_seed"
    """What rewards of kind reference hold an image against where `references` names nothing else: the one
    that the base makes of the same prompt, seed and noise. Drawn, at the price of a second rollout, only
    where such a reward has a weight or is watched.
    """
    references: str | None = Field(None, min_length=1, max_length=4096)
    """A folder of captioned images, as for SFT, to hold images against instead: one whose caption is a
    prompt, word for word, is wanted for that prompt; of several the nearest counts, and without one there is
    no score.
    """
    algorithm: Algorithm = FlowGRPO()
    """What is done with the rewarded images."""
    ratings: RatingsConfig | None = None
    """Votes to learn from instead of new images."""
    people: PeopleConfig | None = None
    """Whether people rate the run's own groups, between sampling and update."""
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
    advantages: AdvantageConfig = AdvantageConfig()
    update: UpdateConfig = UpdateConfig()
    lora: LoraConfig | None = LoraConfig()
    """The adapter; null trains all weights of the network (SFT only)."""

    @model_validator(mode="after")
    def _fits_the_algorithm(self) -> RunConfig:
        is_sft = self.algorithm.name == "sft"
        if not is_sft and self.ratings is None and not any(self.reward_weights.values()):
            raise ValueError(
                "all reward weights are zero, so there is nothing to learn: give at least one a weight"
            )
        if isinstance(self.algorithm, Trajectory) and self.rollout.window == "none":
            raise ValueError(
                f"{self.algorithm.name} learns from stochastic steps and rollout.window is none: "
                "choose early_random, progressive, random or all"
            )
        if self.algorithm.name == "dpo" and self.update.reference_guidance is not None:
            raise ValueError(
                "dpo compares with its reference as the images were made: leave update.reference_guidance out"
            )
        if self.update.kl_steps and not isinstance(self.algorithm, Trajectory):
            raise ValueError(
                f"{self.algorithm.name} learns from noise levels, not from the sampler's steps: "
                "leave update.kl_steps out"
            )
        if getattr(self.algorithm, "ratio", "full") == "guard" and self.update.minibatches > 1:
            raise ValueError(
                "ratio guard measures against the policy's mean before the first optimiser step, which later "
                "minibatches never saw: choose ratio full, or one minibatch"
            )
        if self.lora is None and self.update.kl_weight > 0:
            raise ValueError(
                "without an adapter there is no base left to stay close to: set update.kl_weight to 0"
            )
        if self.lora is None and not is_sft:
            raise ValueError(
                f"{self.algorithm.name} needs an adapter, whose absence is its reference: "
                "give lora its fields, or choose sft"
            )
        return self

    @model_validator(mode="after")
    def _references_are_looked_at(self) -> RunConfig:
        if self.references is not None and (self.algorithm.name == "sft" or self.ratings is not None):
            raise ValueError(
                "this run scores no images, so there is nothing to hold to references: leave them out"
            )
        return self

    @model_validator(mode="after")
    def _roles_fit(self) -> RunConfig:
        if self.algorithm.name == "sft" and (self.gates or self.monitors):
            raise ValueError("sft scores no images, so it has neither gates nor monitors: leave them out")
        named = [
            *(name for name, weight in self.reward_weights.items() if weight),
            *self.gates,
            *self.monitors,
            *self.judges,
        ]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(
                f"{twice[0]} is named twice among reward_weights, gates, monitors and judges: "
                "a reward has one part"
            )
        if self.judges and self.samples == 0:
            raise ValueError(
                "judges look at the sample grids, and samples is 0: give samples a number, "
                "or leave judges out"
            )
        for name in self.advantages.caps:
            if self.reward_weights.get(name, 0.0) <= 0:
                raise ValueError(
                    f"advantages.caps names {name}, which has no positive weight: there is no gain to cap"
                )
        return self

    @model_validator(mode="after")
    def _fits_the_ratings(self) -> RunConfig:
        if self.ratings is not None and self.algorithm.name not in OFF_POLICY:
            raise ValueError(
                f"{self.algorithm.name} learns from images that it samples itself, and this run learns from "
                f"rated ones: choose {', '.join(OFF_POLICY[:-1])} or {OFF_POLICY[-1]}"
            )
        if self.people is not None and (self.ratings is not None or self.algorithm.name == "sft"):
            raise ValueError(
                "people rate what a run samples, and this one samples nothing: leave people out, or choose "
                "another algorithm and leave ratings out"
            )
        if self.ratings is not None and any(self.reward_weights.values()):
            raise ValueError(
                "ratings are what this run learns from, so its rewards would not be asked: leave "
                "reward_weights out, or leave ratings out"
            )
        return self

    def learning_rate_at(self, update: int) -> float:
        """The rate of the update that follows after `update` others."""
        rate = self.update.learning_rate
        if self.update.decay == "none":
            return rate
        return rate * max(0.0, 1 - update / self.num_updates)


DEFAULT_WEIGHTS: dict[str, float] = {"verifier": 0.5, "clip": 0.3, "quality": 0.2}
"""The embedded rewards of a run on the starter (rewards.md 7.1)."""
