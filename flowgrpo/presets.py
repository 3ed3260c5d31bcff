"""Named settings of whole runs, each with its source; a preset is a function of the prompts. Without torch.

Those of papers are their smallest published recipe (algorithms.md, section 2), in our terms:

- A published clip is a half-width of the ratio; ours is in nats, so `clip_nats` is theirs times D, the latent
  elements at the preset's resolution. D is 16 * 64 * 64 for SD3.5 at 512 px, 16 * 90 * 90 for FLUX at 720 px
  and 4 * 64 * 64 for SD 1.5 at 512 px.
- Where a recipe makes two updates of one rollout, each sees half of it. Ours samples that half, updates and
  samples again: the same samples an update, all of them on-policy.
- Their rewards are not ours: `reward_weights` says what to learn from.
- Groups are those of a whole cluster. On one GPU cut the prompts, not the group (Flow-GRPO, section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowgrpo.choices import AWM, DDPO, DPO, NFT, RWR, Algorithm, FlowGRPO
from flowgrpo.config import (
    DEFAULT_WEIGHTS,
    AdvantageConfig,
    LoraConfig,
    RatingsConfig,
    RolloutConfig,
    RunConfig,
    UpdateConfig,
)

Prompts = tuple[str, ...]
D_SD35_512, D_FLUX_720, D_SD15_512 = 16 * 64**2, 16 * 90**2, 4 * 64**2
"""Latent elements of an image."""
REWARDS: dict[str, float] = {"clip": 1.0}
"""Of a preset on a base other than the starter, unless told otherwise."""
_SD35: dict[str, Any] = {"width": 512, "height": 512}
_FLUX: dict[str, Any] = {"guidance_scale": 3.5, "width": 720, "height": 720}
_RANK_32 = LoraConfig(rank=32, alpha=64.0)
_GLOBAL = AdvantageConfig(combine="raw_sum", std="global", diversity=False)
_EACH_IN_ITS_GROUP = AdvantageConfig(combine="normalised", std="group", diversity=False)


def _run(
    prompts: Prompts, reward_weights: dict[str, float] | None, algorithm: Algorithm, **sections: Any
) -> RunConfig:
    weights = REWARDS if reward_weights is None else reward_weights
    return RunConfig(prompts=prompts, reward_weights=weights, algorithm=algorithm, **sections)


# On the starter


def smoke(prompts: Prompts) -> RunConfig:
    """Two small updates: does everything work? About 20 s on two cores. Source: ours."""
    return RunConfig(
        prompts=prompts,
        reward_weights=DEFAULT_WEIGHTS,
        num_updates=2,
        checkpoint_every=1,
        sample_every=1,
        samples=4,
        rollout=RolloutConfig(group_size=8, groups_per_update=2),
    )


def fast_and_faithful(prompts: Prompts, num_updates: int = 40) -> RunConfig:
    """Eight steps without guidance, tuned towards what sixteen guided ones show; 7 minutes on two cores.
    Source: ours (docs/benchmarks.md, docs/decisions/0005): two steps of each group from anywhere, each with
    the same say, and the guided base to hold on to there and at one more. Sample the result without guidance.
    """
    return RunConfig(
        prompts=prompts,
        reward_weights=DEFAULT_WEIGHTS,
        algorithm=FlowGRPO(step_weight="inv_kappa"),
        num_updates=num_updates,
        rollout=RolloutConfig(window="random", window_size=2),
        advantages=AdvantageConfig(std="pooled"),
        update=UpdateConfig(
            learning_rate=2e-3, decay="linear", kl_weight=0.03, reference_guidance=3.0, kl_steps=1,
            minibatches=4,
        ),
    )  # fmt: skip


def thorough(prompts: Prompts, num_updates: int = 40) -> RunConfig:
    """Fast and faithful for whom the images count more than the time, 1.7 times its: sixteen prompts an
    update instead of four, in groups of four, held at three more steps instead of one; what ships goes a
    fifth further than what has learned. Source: ours (docs/benchmarks.md, docs/decisions/0005). Sample the
    result without guidance.
    """
    short = fast_and_faithful(prompts, num_updates)
    rollout = short.rollout.model_copy(update={"group_size": 4, "groups_per_update": 16})
    update = short.update.model_copy(update={"reference_guidance": 2.5, "kl_steps": 3, "extrapolation": 0.2})
    return short.model_copy(update={"rollout": rollout, "update": update})


def taste(prompts: Prompts, num_updates: int = 14) -> RunConfig:
    """A short run towards what people like, between two batches of ratings: the preference head leads, as
    loud as it foresees (a half at first, hence its weight), and the verifier holds the prompt; 2 minutes on
    two cores. Source: ours (docs/benchmarks.md, ratings to win).

    All images of a group start from one noise: what a taste is about (grounds, hair, light) differs far more
    between starts than by what two stochastic steps add, and only the latter can be learned from. The base
    that it holds on to is guided less than there: guidance has a taste of its own (docs/decisions/0006).
    """
    base = fast_and_faithful(prompts, num_updates)
    update = base.update.model_copy(update={"kl_weight": 0.006, "reference_guidance": 2.0})
    rollout = base.rollout.model_copy(update={"same_start": True})
    return base.model_copy(
        update={
            "reward_weights": {"human": 2.0, "verifier": 0.6},
            "rollout": rollout,
            "update": update,
            "samples": 4,
            "sample_every": num_updates,
            "checkpoint_every": num_updates,
        }
    )


RATED: dict[str, Algorithm] = {
    "nft": NFT(beta=1.0, levels=2), "awm": AWM(levels=2), "rwr": RWR(levels=2), "dpo": DPO(levels=2),
}  # fmt: skip
"""What learns from ratings alone: losses that are sound on images of whatever checkpoint."""


def rated(
    prompts: Prompts,
    snapshot: str,
    num_updates: int = 60,
    algorithm: str = "nft",
    *,
    drawn_with_guidance: bool = False,
) -> RunConfig:
    """From ratings alone, no new images: the rated groups, whatever made them. Source: ours.

    No reward holds the prompt here, so NFT is held hard to the base, and to the guided one: with less, tastes
    cost 4 to 8 points of fidelity (docs/benchmarks.md). The other algorithms have not been measured.

    Args:
        drawn_with_guidance: the rated images were, and so will the tuned model's be, which is then held to
            the base as it is without.
    """
    held: dict[str, float | None] = {"kl_weight": 1e-3}
    if algorithm == "nft":
        held = {"kl_weight": 0.3, "reference_guidance": None if drawn_with_guidance else 2.0}
    return RunConfig(
        prompts=prompts,
        ratings=RatingsConfig(snapshot=snapshot),
        algorithm=RATED[algorithm],
        num_updates=num_updates,
        checkpoint_every=num_updates,
        sample_every=num_updates,
        samples=4,
        rollout=RolloutConfig(window="none"),
        update=UpdateConfig.model_validate({"learning_rate": 3e-4, "decay": "linear", **held}),
    )


# Ours, on SSD-1B


def ssd1b_24gb(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """SSD-1B at 768 px on one GPU of 24 GB, of which it takes 10 (docs/benchmarks.md); what it learns has not
    been measured. Source: ours (algorithms.md 7.4, column i).
    """
    return _run(
        prompts,
        reward_weights,
        FlowGRPO(step_weight="inv_kappa"),
        num_updates=300,
        rollout=RolloutConfig(
            group_size=16, groups_per_update=8, num_steps=16, guidance_scale=5.0, noise_level=1.0,
            width=768, height=768,
        ),
        update=UpdateConfig(
            learning_rate=1e-4, clip_nats=2.0, kl_weight=1e-3, ema_decay=0.95, micro_batch_size=4,
            gradient_checkpointing=True,
        ),
        lora=LoraConfig(rank=32, alpha=64.0, targets=("to_q", "to_k", "to_v", "to_out.0")),
    )  # fmt: skip


def ssd1b_16gb(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """SSD-1B at 768 px on one GPU of 16 GB: half the micro-batch and the adapter's rank of `ssd1b_24gb`, and
    the same group. It takes 7 GB (docs/benchmarks.md). Source: ours (algorithms.md 7.4, column i).
    """
    larger = ssd1b_24gb(prompts, reward_weights)
    assert larger.lora is not None
    return larger.model_copy(
        update={
            "update": larger.update.model_copy(update={"micro_batch_size": 2}),
            "lora": larger.lora.model_copy(update={"rank": 16, "alpha": 32.0}),
        }
    )


# As published


def flow_grpo(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """Flow-GRPO on SD3.5-M at 512 px: all nine stochastic steps, guided. Source: arXiv 2505.05470 and
    yifan123/flow_grpo, config of the paper (24 x 48 samples an epoch, two updates).

    clip 1e-4 is 6.6 nats. Its KL weight 0.04 is on squares of means over 2 g^2; in the middle of this grid
    that is 6e-4 on squares of velocities.
    """
    return _run(
        prompts,
        reward_weights,
        FlowGRPO(),
        rollout=RolloutConfig(
            group_size=24, groups_per_update=24, num_steps=10, guidance_scale=4.5, kernel="flow_sde",
            noise_level=0.7, window="all", **_SD35,
        ),
        advantages=_GLOBAL,
        update=UpdateConfig(
            learning_rate=3e-4, clip_nats=1e-4 * D_SD35_512, kl_weight=6e-4, ema_decay=0.9, micro_batch_size=8
        ),
        lora=_RANK_32,
    )  # fmt: skip


def flow_grpo_fast(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """Flow-GRPO-Fast on SD3.5-M at 512 px: three CPS steps from the first half, no guidance, no KL. Source:
    yifan123/flow_grpo, the fast configs without guidance (24 x 48 samples an epoch, two updates).

    clip 1e-5 is 0.66 nats. Its log_prob leaves out 1 / (2 std^2); ours is the whole Gaussian.
    """
    return _run(
        prompts,
        reward_weights,
        FlowGRPO(),
        rollout=RolloutConfig(
            group_size=24, groups_per_update=24, num_steps=10, kernel="cps", noise_level=0.8,
            window="early_random", window_size=3, **_SD35,
        ),
        advantages=_GLOBAL,
        update=UpdateConfig(
            learning_rate=3e-4, clip_nats=1e-5 * D_SD35_512, kl_weight=0, ema_decay=0.9, micro_batch_size=8
        ),
        lora=_RANK_32,
    )  # fmt: skip


def dance_grpo(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """DanceGRPO on FLUX.1 at 720 px with an adapter: one noise for a group, 60% of the steps, an update for
    each group of 12. Source: arXiv 2505.07818 and XueZeyue/DanceGRPO, its FLUX LoRA script.

    clip 1e-4 is 13 nats.
    """
    return _run(
        prompts,
        reward_weights,
        FlowGRPO(),
        rollout=RolloutConfig(
            group_size=12, groups_per_update=1, num_steps=12, kernel="dance_sde", noise_level=0.3,
            window="all", trained_share=0.6, same_start=True, **_FLUX,
        ),
        advantages=_EACH_IN_ITS_GROUP,
        update=UpdateConfig(
            learning_rate=3e-4, clip_nats=1e-4 * D_FLUX_720, kl_weight=0, ema_decay=0, micro_batch_size=1
        ),
        lora=LoraConfig(rank=128, alpha=256.0),
    )  # fmt: skip


def mix_grpo(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """MixGRPO on FLUX.1 at 720 px: a window of four of 25 steps that moves on every 25 rollouts. Source:
    arXiv 2507.21802 and Tencent-Hunyuan/MixGRPO (32 GPUs, three groups' shares accumulated).

    It trains all weights at 1e-5; ours is an adapter, at DanceGRPO's rate. clip 1e-4 is 13 nats.
    """
    return _run(
        prompts,
        reward_weights,
        FlowGRPO(),
        rollout=RolloutConfig(
            group_size=12, groups_per_update=8, num_steps=25, kernel="flow_sde", noise_level=0.7,
            window="progressive", window_size=4, window_every=25, **_FLUX,
        ),
        advantages=_EACH_IN_ITS_GROUP,
        update=UpdateConfig(
            learning_rate=3e-4, clip_nats=1e-4 * D_FLUX_720, kl_weight=0, ema_decay=0, micro_batch_size=1
        ),
        lora=LoraConfig(rank=128, alpha=256.0),
    )  # fmt: skip


def diffusion_nft(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """DiffusionNFT on SD3.5-M at 512 px: images of a second-order solver, every level of its grid, no
    guidance. Source: arXiv 2509.16117 and NVlabs/DiffusionNFT (24 x 48 samples an update, beta 1).
    """
    return _run(
        prompts,
        reward_weights,
        NFT(beta=1.0, levels=10, noisiest=1.0, old_rate=0.001, old_max=0.5),
        rollout=RolloutConfig(
            group_size=24, groups_per_update=48, num_steps=10, window="none", solver="dpmpp_2m", **_SD35
        ),
        advantages=_GLOBAL,
        update=UpdateConfig(learning_rate=3e-4, kl_weight=1e-4, ema_decay=0.9, micro_batch_size=8),
        lora=_RANK_32,
    )  # fmt: skip


def awm(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """Advantage-weighted matching on SD3.5-M at 512 px: six levels of the first 90% of 14 steps, no guidance.
    Source: arXiv 2509.25050 and scxue/advantage_weighted_matching (24 x 72 samples an update).

    Its solver is SA-Solver without noise; ours is the second-order DPM-Solver++.
    """
    return _run(
        prompts,
        reward_weights,
        AWM(levels=6, noisiest=0.9, power=0.25, ratio_clip=1.0, ema_kl_weight=1.0, ema_kl_decay=0.3),
        rollout=RolloutConfig(
            group_size=24, groups_per_update=72, num_steps=14, window="none", solver="dpmpp_2m", **_SD35
        ),
        advantages=_GLOBAL,
        update=UpdateConfig(learning_rate=3e-4, kl_weight=1e-3, ema_decay=0.99, micro_batch_size=8),
        lora=_RANK_32,
    )  # fmt: skip


def ddpo(prompts: Prompts, reward_weights: dict[str, float] | None = None) -> RunConfig:
    """DDPO on SD 1.5 at 512 px: DDIM with eta 1 at all of 50 steps, guided, both halves learn, statistics of
    each prompt. Source: arXiv 2305.13301 and kvablack/ddpo-pytorch (256 images an epoch, two updates).

    A prompt comes twice an update, since a group has two images at least. clip 1e-4 is 1.6 nats.
    """
    return _run(
        prompts,
        reward_weights,
        DDPO(unconditional_gradient=True),
        rollout=RolloutConfig(
            group_size=2, groups_per_update=64, num_steps=50, guidance_scale=5.0, kernel="ddim",
            noise_level=1.0, window="all", width=512, height=512,
        ),
        advantages=AdvantageConfig(
            combine="raw_sum", std="running", buffer_size=32, min_count=16, diversity=False
        ),
        update=UpdateConfig(
            learning_rate=3e-4, clip_nats=1e-4 * D_SD15_512, kl_weight=0, ema_decay=0, micro_batch_size=8
        ),
        lora=LoraConfig(rank=4, alpha=4.0, targets=("to_q", "to_k", "to_v", "to_out.0")),
    )  # fmt: skip


Preset = Callable[[Prompts], RunConfig]
STARTER_PRESETS: dict[str, Preset] = {
    "smoke": smoke,
    "fast and faithful": fast_and_faithful,
    "thorough": thorough,
    "your taste": taste,
}
"""Those that make sense on the starter: what the Train page offers."""
PRESETS: dict[str, Preset] = {
    **STARTER_PRESETS,
    "SSD-1B, 24 GB": ssd1b_24gb,
    "SSD-1B, 16 GB": ssd1b_16gb,
    "flow_grpo": flow_grpo,
    "Flow-GRPO-Fast": flow_grpo_fast,
    "DanceGRPO": dance_grpo,
    "MixGRPO": mix_grpo,
    "DiffusionNFT": diffusion_nft,
    "AWM": awm,
    "DDPO": ddpo,
}
"""Every preset by its name."""
