"""Sampling against the bare diffusers pipeline, for every family of bases.

Networks of the real classes with random weights, 5 to 20 million parameters each: large enough that the
arithmetic counts, small enough for two cores. Ours and the pipeline take turns within one run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from benchmarks.common import Line, in_turns, publish
from flowgrpo.policies import load_policy
from flowgrpo.rollout import sample_group
from flowgrpo.runs.device import use_all_cores
from tests.tiny import tiny_sd15, tiny_sdxl
from tests.tiny_flow import tiny_flux, tiny_sd3

GROUP_SIZE, NUM_STEPS, SIDE = 4, 8, 64
_UNET = {"block_out_channels": (128, 256), "norm_num_groups": 32, "attention_head_dim": (8, 8)}
_SD3 = {"num_layers": 6, "num_attention_heads": 6, "attention_head_dim": 32, "caption_projection_dim": 192}
_FLUX = {"num_layers": 3, "num_single_layers": 6, "num_attention_heads": 12}
FAMILIES: dict[str, tuple[Callable[[Path], Path], str, dict[str, Any], float]] = {
    "SD 1.5": (tiny_sd15, "unet", _UNET, 3.0),
    "SDXL": (tiny_sdxl, "unet", _UNET, 3.0),
    "SD3": (tiny_sd3, "transformer", _SD3, 3.0),
    "FLUX.1": (tiny_flux, "transformer", _FLUX, 3.5),
}
"""Name to builder, name of the network, its settings here, guidance."""


def grown(folder: Path, part: str, settings: dict[str, Any]) -> DiffusionPipeline:
    """The pipeline of a folder with a larger network, which is written there too."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    small = getattr(pipeline, part)
    torch.manual_seed(0)
    network = type(small).from_config({**small.config, **settings}).eval()
    pipeline.register_modules(**{part: network})
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def measure(name: str, folder: Path, repeats: int) -> list[Line]:
    """Medians of both, and the median ratio of pairs."""
    make, part, settings, guidance = FAMILIES[name]
    pipeline = grown(make(folder), part, settings)
    policy = load_policy(folder)
    seeds = list(range(1, 1 + GROUP_SIZE))

    def ours() -> None:
        sample_group(
            policy, "red hair", seeds=seeds, num_steps=NUM_STEPS, guidance_scale=guidance, width=SIDE,
            height=SIDE,
        )  # fmt: skip

    def bare() -> None:
        pipeline(
            "red hair", num_images_per_prompt=GROUP_SIZE, num_inference_steps=NUM_STEPS,
            guidance_scale=guidance, width=SIDE, height=SIDE,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )  # fmt: skip

    millions = sum(weight.numel() for weight in policy.network.parameters()) / 1e6
    what = f"{name} ({millions:.0f}M): group of {GROUP_SIZE}, {NUM_STEPS} steps, guidance {guidance:g}"
    return in_turns(what, ours, bare, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    use_all_cores()
    lines: list[Line] = []
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            lines += measure(name, Path(folder) / "pipeline", given.repeats)
    publish("families", lines)


if __name__ == "__main__":
    main()
