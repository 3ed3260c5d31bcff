"""What both sides of a race have alike: the work, the reward, the pictures that judge them, how they talk.

Both environments import this, so it needs nothing but torch, Pillow, psutil. A side is a process that reads
a task as JSON from its arguments, then a word a line from its standard input, and answers each with a line of
JSON.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import torch
from PIL import Image
from torch import Tensor

SAMPLER = {"num_inference_steps": 16, "guidance_scale": 3.0}
"""Of the pictures that judge: as the studio draws by default; neither side learns in it."""
JPEG_QUALITY = 95
CLEAR_PEAK = "5"
"""What Linux takes as the order to forget a process's highest memory so far (proc(5), clear_refs)."""


@dataclass(frozen=True)
class Work:
    """One task, the same for both sides.

    Attributes:
        folder: of a pipeline of diffusers.
        family: sd15 or sdxl.
        recipe: "equal" for equal settings; "own" for each one's own defaults, "tuned" for TRL's of this task,
            which both leave alone what stands below it.
        images: of an update.
        batch: images that go through the network together, in sampling and in learning.
        trained_steps: of `num_steps`, that each image is learned from.
        guidance: 1 means none.
        both_halves: with guidance, whether ours learns in the unconditional half too, as TRL cannot but do.
        reward: a name among `REWARDS`.
    """

    folder: str
    family: str
    prompts: tuple[str, ...]
    held_out: tuple[str, ...]
    seed: int = 0
    recipe: str = "equal"
    reward: str = "compressible"
    side: int = 64
    images: int = 16
    batch: int = 8
    num_steps: int = 8
    trained_steps: int = 7
    guidance: float = 5.0
    both_halves: bool = False
    rank: int = 4
    learning_rate: float = 3e-4

    @staticmethod
    def read(text: str) -> Work:
        """The inverse of `json.dumps(asdict(work))`."""
        given = json.loads(text)
        return Work(**{**given, "prompts": tuple(given["prompts"]), "held_out": tuple(given["held_out"])})


class Side(Protocol):
    """One of the two."""

    def update(self) -> float:
        """Samples, scores and learns once; returns the mean reward of what it sampled."""
        ...

    def held_out(self) -> float:
        """The mean reward of held-out prompts and seeds under what has been learned."""
        ...


def compressible(images: Tensor) -> Tensor:
    """Minus the bits a pixel of a JPEG of each image: DDPO's own task (arXiv 2305.13301, section 5.1).

    images: (sample, 3, height, width) in [0, 1].
    """
    pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
    return torch.tensor([-_jpeg_bits(one) for one in pixels])


def _jpeg_bits(image: Tensor) -> float:
    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return 8 * buffer.tell() / (image.shape[0] * image.shape[1])


def bright(images: Tensor) -> Tensor:
    """The mean brightness of each image, 0 to 1."""
    return images.detach().float().flatten(1).mean(1).cpu()


def warm(images: Tensor) -> Tensor:
    """Mean red minus mean blue of each image, -1 to 1."""
    channels = images.detach().float().mean((2, 3)).cpu()
    return channels[:, 0] - channels[:, 2]


REWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "compressible": compressible,
    "bright": bright,
    "warm": warm,
}


@torch.no_grad()
def judged(pipeline: Any, work: Work, scheduler: Any) -> float:
    """The mean reward of one image per held-out prompt, drawn by diffusers' own pipeline with this scheduler;
    the seed of a prompt is its number.
    """
    before, pipeline.scheduler = pipeline.scheduler, scheduler
    total = 0.0
    for first in range(0, len(work.held_out), work.batch):
        prompts = list(work.held_out[first : first + work.batch])
        seeds = [torch.Generator().manual_seed(10_000 + first + n) for n in range(len(prompts))]
        images = pipeline(
            prompts, generator=seeds, width=work.side, height=work.side, output_type="pt", **SAMPLER
        ).images
        total += REWARDS[work.reward](images).sum().item()
    pipeline.scheduler = before
    return total / len(work.held_out)


def serve(make: Callable[[Work], Side]) -> None:
    """Answers until its input ends: update, held_out, memory."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else speaks, speaks into the log
    work, imported = Work.read(sys.argv[1]), _resident()
    side = make(work)
    tell = {"imported": imported, "loaded": _resident()}
    answers.write(json.dumps({"threads": torch.get_num_threads()} | tell) + "\n")
    for word in map(str.strip, sys.stdin):
        if word == "memory":
            answer: dict[str, Any] = tell | {"peak": _peak()}
        elif word == "forget":
            answer = {"forgot": _forget_peak()}
        else:
            answer = _timed(side.update if word == "update" else side.held_out)
        answers.write(json.dumps(answer) + "\n")


def _timed(act: Callable[[], float]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    reward = act()
    return {"reward": reward, "seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _forget_peak() -> bool:
    """Has the peak begin anew from what is resident now; False where this machine cannot."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write(CLEAR_PEAK)
    except OSError:
        return False
    return True


def _peak() -> int:
    """Bytes that were resident at most."""
    try:
        with open("/proc/self/status") as file:
            highest = next(line for line in file if line.startswith("VmHWM"))
        return int(highest.split()[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
