"""TRL's side: `DDPOTrainer` of the last release that has it, in an environment of its own.

The settings are the class's or, for `recipe = own`, those of the example script that comes with it, or, for
`tuned`, those that suit the task; float32 instead of float16, since this is a CPU. Nothing is saved or logged
on the way.
"""

from __future__ import annotations

import logging
import random
import warnings
from typing import Any

import torch
from accelerate import PartialState
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from trl import DDPOConfig, DDPOTrainer, DefaultDDPOStableDiffusionPipeline

from benchmarks.peers.sdxl_for_trl import SDXLForTRL
from benchmarks.peers.side import REWARDS, Work, judged, serve

NEVER = 10**9
EXAMPLE: dict[str, Any] = {
    "sample_num_steps": 50, "sample_batch_size": 6, "train_batch_size": 3, "sample_num_batches_per_epoch": 4,
    "train_gradient_accumulation_steps": 1, "per_prompt_stat_tracking": True,
    "per_prompt_stat_tracking_buffer_size": 32,
}  # fmt: skip
"""Of trl/examples/scripts/ddpo.py in the release; the rest are the class's defaults."""


TUNED: dict[str, Any] = {
    "sample_num_steps": 8, "sample_guidance_scale": 3.0, "sample_batch_size": 8, "train_batch_size": 8,
    "sample_num_batches_per_epoch": 4, "train_gradient_accumulation_steps": 2, "train_cfg": True,
    "train_learning_rate": 1e-3,
}  # fmt: skip
"""What suits the starter and a short race: few steps, whole batches, a larger step."""


def equal(work: Work) -> dict[str, Any]:
    """The work in TRL's words: one optimiser step of all images at all trained steps.

    TRL shuffles an image's steps before it takes the first `train_timestep_fraction` of them.
    """
    batches = work.images // work.batch
    return {
        "sample_num_steps": work.num_steps, "sample_guidance_scale": work.guidance,
        "sample_batch_size": work.batch, "sample_num_batches_per_epoch": batches,
        "train_batch_size": work.batch, "train_gradient_accumulation_steps": batches,
        "train_timestep_fraction": (work.trained_steps + 0.5) / work.num_steps,
        "train_cfg": work.guidance > 1, "train_learning_rate": work.learning_rate,
    }  # fmt: skip


class TRL:
    """A trainer and its pipeline."""

    def __init__(self, work: Work) -> None:
        self.work, self.epoch, self.rewards = work, 0, torch.zeros(0)
        self.prompts = random.Random(work.seed)
        PartialState()  # which TRL's own warning about a missing adapter wants, and does not make
        is_xl = work.family == "sdxl"
        self.own_scheduler = DiffusionPipeline.from_pretrained(work.folder).scheduler
        self.pipeline = SDXLForTRL(work.folder) if is_xl else DefaultDDPOStableDiffusionPipeline(work.folder)
        self.pipeline.set_progress_bar_config(disable=True)
        settings = {"own": EXAMPLE, "tuned": TUNED}.get(work.recipe) or equal(work)
        config = DDPOConfig(mixed_precision="no", save_freq=NEVER, seed=work.seed + 1, **settings)
        self.trainer = DDPOTrainer(config, self._score, self._prompt, self.pipeline)
        self.pipeline.set_progress_bar_config(disable=True)
        learning = [one.numel() for one in self.pipeline.unet.parameters() if one.requires_grad]
        logging.warning("%d parameters learn, in %d tensors", sum(learning), len(learning))

    def _prompt(self) -> tuple[str, dict[str, Any]]:
        return self.prompts.choice(self.work.prompts), {}

    def _score(self, images: Tensor, prompts: Any, metadata: Any) -> tuple[Tensor, dict[str, Any]]:
        del prompts, metadata
        scores = REWARDS[self.work.reward](images)
        self.rewards = torch.cat([self.rewards, scores])
        return scores, {}

    def update(self) -> float:
        """One epoch in TRL's words."""
        self.rewards = torch.zeros(0)
        self.trainer.step(self.epoch, self.epoch)
        self.epoch += 1
        return self.rewards.mean().item()

    def held_out(self) -> float:
        self.pipeline.unet.eval()
        return judged(self.pipeline.sd_pipeline, self.work, self.own_scheduler)


def main() -> None:
    warnings.filterwarnings("ignore")
    diffusers_logging.set_verbosity_error()
    serve(TRL)


if __name__ == "__main__":
    main()
