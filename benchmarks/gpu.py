"""Published architectures with random weights on this machine's GPU: speed and memory at real sizes.

    python -m benchmarks.gpu [--base ssd-1b ...] [--groups 2]

For each base: a group against the bare diffusers pipeline in turns, and for each preset an update of a few
groups: its seconds, the share of them inside networks, and its peak of memory against what `run --dry-run`
tells. Weights are random, so images are noise; the arithmetic is that of the real ones. T5 has one layer
here: it is idle while a run samples and learns.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from benchmarks.common import Line, in_turns, publish
from benchmarks.speed import NetworkTime, scorers
from flowgrpo import presets
from flowgrpo.budget import Beside, Memory, memory_of
from flowgrpo.config import RunConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import load_policy
from flowgrpo.published import architecture
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rollout import sample_group
from flowgrpo.runs.scoring import DIVERSITY
from flowgrpo.runs.sources import Groups
from flowgrpo.runs.team import make_policy
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.sizes import Sizes
from flowgrpo.update import UpdateMetrics, update
from tests.flowgrpo.variants import judged
from tests.published import PUBLISHED, bare_part, index_of

GROUP_SIZE, NUM_STEPS = 4, 8
PROMPTS = ("red hair", "blue hair, glasses", "a smile", "green background")
DEVICE = torch.device("cuda:0")
DTYPE = torch.bfloat16
BASES: Mapping[str, tuple[presets.Preset, ...]] = {
    "ssd-1b": (presets.ssd1b_24gb, presets.ssd1b_16gb),
    "sdxl": (presets.ssd1b_24gb,),
    "sd15": (presets.ddpo,),
    "sd3.5-medium": (presets.flow_grpo_fast,),
    "flux.1-dev": (presets.mix_grpo,),
}
"""Published architecture to the presets that are measured on it."""


def write(name: str, folder: Path) -> Path:
    """A pipeline folder of a published architecture, its weights random and in half precision."""
    index = json.loads((PUBLISHED / name / "model_index.json").read_text())
    torch.set_default_dtype(DTYPE)
    torch.manual_seed(0)
    try:
        parts = {
            part: bare_part(name, part, "cuda", **_shortened(entry)) if isinstance(entry, list) else entry
            for part, entry in index_of(name).items()
        }
    finally:
        torch.set_default_dtype(torch.float32)
    getattr(diffusers, index["_class_name"])(**parts).save_pretrained(folder)
    return folder


def _shortened(entry: list[str]) -> dict[str, Any]:
    return {"num_layers": 1} if entry[1] == "T5EncoderModel" else {}


def measure_group(name: str, folder: Path, config: RunConfig, repeats: int) -> list[Line]:
    """Ours and the pipeline in turns, both with everything on the device."""
    policy = load_policy(folder, device=DEVICE, dtype=DTYPE)
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=DTYPE).to(DEVICE)
    pipeline.set_progress_bar_config(disable=True)
    rollout, seeds = config.rollout, list(range(1, 1 + GROUP_SIZE))
    scale = max(rollout.guidance_scale, 3.0)
    asked = {"guidance_scale": scale, "width": rollout.width, "height": rollout.height}

    def ours() -> None:
        sample_group(policy, PROMPTS[0], seeds=seeds, num_steps=NUM_STEPS, **asked)  # type: ignore[arg-type]
        torch.cuda.synchronize()

    def bare() -> None:
        pipeline(
            PROMPTS[0], num_images_per_prompt=GROUP_SIZE, num_inference_steps=NUM_STEPS, **asked,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )  # fmt: skip
        torch.cuda.synchronize()

    billions = sum(weight.numel() for weight in policy.network.parameters()) / 1e9
    how = f"at {rollout.width} x {rollout.height}, {NUM_STEPS} steps, guidance {scale:g}"
    return in_turns(f"{name}, {billions:.2f}B: group of {GROUP_SIZE} {how}", ours, bare, repeats)


@dataclass(frozen=True)
class Taken:
    """What an update took, and what was told of its memory.

    peak, held: bytes that tensors took at most, and that the allocator had from the device.
    inside: share of the seconds.
    """

    images: int
    sampling: float
    scoring: float
    learning: float
    inside: float
    peak: int
    held: int
    told: Memory
    ratio_error: float

    @property
    def seconds(self) -> float:
        return self.sampling + self.scoring + self.learning


def measure_update(name: str, folder: Path, config: RunConfig) -> Taken:
    """An update after a smaller one that warms up."""
    sizes = Sizes(architecture(name), config.lora, DTYPE, checkpointing=config.update.gradient_checkpointing)
    policy = make_policy(config, str(folder), {}, DEVICE)
    learner = Learner(policy, config.update, config.algorithm)
    stack = load_stack((*config.reward_weights, DIVERSITY), WEIGHTS, str(DEVICE))
    clock = NetworkTime(wait=torch.cuda.synchronize)
    for network in (policy.network, policy.vae.decoder, *scorers(stack, str(DEVICE))):
        clock.watch(network)
    with clock.watching_backward():
        _update(learner, stack, _small(config))
        clock.forward = clock.backward = 0.0
        _forget()
        torch.cuda.reset_peak_memory_stats()
        times, metrics = _update(learner, stack, config)
    sampling, scoring, learning = (after - before for before, after in pairwise(times))
    return Taken(
        images=config.rollout.group_size * config.rollout.groups_per_update,
        sampling=sampling, scoring=scoring, learning=learning,
        inside=(clock.forward + clock.backward) / (times[-1] - times[0]),
        peak=torch.cuda.max_memory_allocated(),
        held=torch.cuda.max_memory_reserved(),
        told=memory_of(sizes, config, Beside(), on_gpu=True),
        ratio_error=metrics.peaks.get("ratio_error", float("nan")),
    )  # fmt: skip


def _update(learner: Learner, stack: RewardStack, config: RunConfig) -> tuple[list[float], UpdateMetrics]:
    """When it began, had sampled, scored and learned; and what it says of itself."""
    source, times = Groups(config, learner, stack), [_now()]
    rollouts = source.rollouts(1, config.rollout.groups_per_update, config.update.micro_batch_size, _quiet)
    times.append(_now())
    source.score(rollouts, len(rollouts))
    times.append(_now())
    *_, metrics = update(learner, rollouts, judged(rollouts))
    times.append(_now())
    assert isinstance(metrics, UpdateMetrics)
    return times, metrics


def _small(config: RunConfig) -> RunConfig:
    """The same with one group of one micro-batch, a pair at least."""
    size = max(2, config.update.micro_batch_size)
    rollout = config.rollout.model_copy(update={"group_size": size, "groups_per_update": 1})
    return config.model_copy(update={"rollout": rollout})


def _now() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _quiet(phase: str) -> None:
    del phase


def update_lines(name: str, preset: str, whole: RunConfig, taken: Taken) -> list[Line]:
    """What a person wants to know before the run."""
    images = whole.rollout.group_size * whole.rollout.groups_per_update
    each, told = taken.seconds / taken.images, taken.told.peak - taken.told.resident["context"]
    return [
        Line(f"{name}, {preset}: an image sampled, scored and learned from", each, "s"),
        Line(f"an update of {images} images at that", each * images, "s"),
        Line("sampling, of its time", taken.sampling / taken.seconds, ""),
        Line("share inside network forward and backward", taken.inside, "", 0.9, at_least=True),
        Line("largest |ratio - 1| before a step", taken.ratio_error, ""),
        Line("memory that tensors take at the peak", taken.peak / 1e9, "GB"),
        Line("the same as the plan tells", told / 1e9, "GB"),
        Line("memory that the allocator has from the GPU", taken.held / 1e9, "GB"),
    ]


def measure(name: str, repeats: int, num_groups: int) -> list[Line]:
    """Everything of one base."""
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as kept:
        folder = write(name, Path(kept) / "pipeline")
        _forget()
        for number, preset in enumerate(BASES[name]):
            whole = preset(PROMPTS)
            if number == 0:
                lines += measure_group(name, folder, whole, repeats)
                _forget()
            few = whole.rollout.model_copy(update={"groups_per_update": num_groups})
            taken = measure_update(name, folder, whole.model_copy(update={"rollout": few}))
            _forget()
            lines += update_lines(name, preset.__name__, whole, taken)
    return lines


def _forget() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--base", action="append", choices=BASES, help="may be given several times")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--groups", type=int, default=2, help="of the update that is measured")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no NVIDIA GPU here: benchmarks.speed and benchmarks.families measure a CPU")
    lines: list[Line] = []
    for name in given.base or BASES:
        lines += measure(name, given.repeats, given.groups)
        publish("gpu", lines)


if __name__ == "__main__":
    main()
