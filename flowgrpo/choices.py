"""The algorithms and their own knobs, without torch. One field of a run, `algorithm`, holds one of them.

What several share (rates, KL weight, clip, average) is in `UpdateConfig`; how images come about is in
`RolloutConfig`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowgrpo.strict import Config
from flowgrpo.tags import TagOptions


class Trajectory(Config):
    """What the policy gradients along the sampler's own steps share."""

    ratio: Literal["full", "guard"] = "full"
    """exp of the difference of log_probs, or GRPO-Guard's exp(mean(e * delta)), free of its bias."""
    step_weight: Literal["one", "tau", "inv_kappa"] = "one"
    """Weight of a step among the trained ones: equal, by its noise (TempFlow), or by 1 / (its gradient's
    scale).
    """
    unconditional_gradient: bool = False
    """With guidance: whether the unconditional half learns too."""


class FlowGRPO(Trajectory):
    """Clipped policy gradient with group-relative advantages (arXiv 2505.05470)."""

    name: Literal["flow_grpo"] = "flow_grpo"


class DDPO(Trajectory):
    """Clipped policy gradient with per-prompt running statistics (arXiv 2305.13301)."""

    name: Literal["ddpo"] = "ddpo"


class _Forward(Config):
    """What the losses on re-noised final images share."""

    levels: int = Field(4, ge=1, le=150)
    """Noise levels per image and update, taken from the sampler's own grid."""
    noisiest: float = Field(0.5, gt=0, le=1)
    """Share of the grid, from its noisy end, that levels are drawn from."""


class NFT(_Forward):
    """DiffusionNFT: contrast of an implicit better and worse policy (arXiv 2509.16117)."""

    name: Literal["nft"] = "nft"
    beta: float = Field(1.0, gt=0, le=10)
    """Strength of the trust region around the old policy; 0.1 is faster and less stable."""
    old_rate: float = Field(0.001, gt=0, le=1)
    """The old policy's decay grows by this much a rollout ..."""
    old_max: float = Field(0.5, ge=0, lt=1)
    """... up to this much."""
    adaptive: bool = True
    """Divide each error by its own size, as the paper does."""


class AWM(_Forward):
    """Advantage-weighted matching (arXiv 2509.25050)."""

    name: Literal["awm"] = "awm"
    power: float = Field(0.25, gt=0, le=1)
    """p of the generalised Huber weight; 1 is the plain squared error."""
    ratio_clip: float = Field(1.0, gt=0, le=10)
    """Half-width of the ratio's clip."""
    ema_kl_weight: float = Field(1.0, ge=0, le=100)
    """Weight of mean (v - v_average)^2 to a moving average of the policy."""
    ema_kl_decay: float = Field(0.3, ge=0, lt=1)
    """Decay of that average."""


class RWR(_Forward):
    """Reward-weighted regression: the flow-matching loss on each image, weighted by exp(A / temperature)."""

    name: Literal["rwr"] = "rwr"
    temperature: float = Field(1.0, gt=0, le=100)
    """Advantages that one e-fold of weight takes; small values keep the best of a group alone."""


class DPO(_Forward):
    """Direct preference optimisation of diffusion models (arXiv 2311.12908), online: best against worst."""

    name: Literal["dpo"] = "dpo"
    beta: float = Field(2000.0, gt=0, le=100_000)
    """Sharpness of the preference, on errors that are means over latent elements."""
    refresh_every: int = Field(40, ge=0, le=100_000)
    """Rollouts after which the reference becomes the current policy; 0 keeps the base."""
    noisiest: float = Field(1.0, gt=0, le=1)
    """Share of the grid, from its noisy end, that levels are drawn from."""


class SFT(Config):
    """Stage 1: the model's own training loss on a folder of captioned images (LoRA or all weights)."""

    name: Literal["sft"] = "sft"
    folder: str = Field(min_length=1, max_length=4096)
    """Images with .txt captions beside them, or with a metadata.jsonl."""
    batch_size: int = Field(32, ge=1, le=4096)
    """Images per update."""
    tags: TagOptions = TagOptions()
    """What is done to a caption each time that its image is learned from."""
    max_ratio: float = Field(2.0, ge=1, le=8)
    """Longer side over the shorter of the shapes that images are cut to; rollout.width x rollout.height is
    their area.
    """
    flip: bool = False
    """Mirror half of the images, by chance; not for tags that tell left from right."""
    weighting: Literal["debiased", "uniform"] = "debiased"
    """Weight of a noise level's error: 1 / sqrt(SNR), at least 1, or 1."""


Algorithm = Annotated[FlowGRPO | DDPO | NFT | AWM | RWR | DPO | SFT, Field(discriminator="name")]
"""One of the algorithms, told apart by its name."""
