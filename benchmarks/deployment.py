"""What drawing costs where nobody trains: an adapter in the weights or beside them, a cold engine or a warm
one, and how few steps are as good as sixteen.

    python -m benchmarks.deployment [--repeats 9] [--prompts 64]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import Line, publish, ratios, seconds_of, turns
from flowgrpo import lora
from flowgrpo.config import LoraConfig, SamplingConfig
from flowgrpo.evaluation import Evaluator, kernel_distance
from flowgrpo.metrics.intervals import draws, mean_of
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, sample, sample_group
from flowgrpo.runs.device import use_all_cores
from flowgrpo.runs.headless import engine, images_of
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.starter.dataset import portraits
from flowgrpo.starter.portraits import caption
from storage import checkpoints, groups
from storage.engine import Database, open_database

PROMPT, GROUP_SIZE, NUM_STEPS, GUIDANCE, SIDE = "red hair", 8, 8, 3.0, 64
RANKS = (4, 16)
STARTS = 3
STEPS = (16, 12, 8, 4, 2)
"""The first is what the others are held against."""
NUM_SEEDS, NUM_REFERENCES, AT_ONCE = 2, 256, 64


def measure_adapters(repeats: int) -> list[Line]:
    """The starter alone, with an adapter in its weights, and with one beside them, in turns."""
    base = load_policy(WEIGHTS / "pipeline")
    lines = []
    for rank in RANKS:
        beside, fused = _with_adapter(rank)
        works = {
            "base": partial(_draw, base),
            "fused": partial(_draw, fused),
            "beside": partial(_draw, beside),
        }
        taken = turns(works, repeats)
        apart = (_draw(fused).latents - _draw(beside).latents).abs().max().item()
        lines += [
            Line(
                f"rank {rank}, in the weights: group of {GROUP_SIZE}, {NUM_STEPS} steps",
                _median(taken["fused"]),
                "s",
            ),
            _ratio("the same, to the base alone", taken["fused"], taken["base"]),
            _ratio("the same beside the weights, to in the weights", taken["beside"], taken["fused"]),
            Line("the same: latents of the two apart by at most", apart, "", 1e-3),
        ]
    return lines


def _with_adapter(rank: int) -> tuple[Policy, Policy]:
    """The starter with one random adapter, beside its weights and in them."""
    beside, fused = (load_policy(WEIGHTS / "pipeline") for _ in range(2))
    beside.attach_lora(LoraConfig(rank=rank, alpha=float(rank)))
    generator = torch.Generator().manual_seed(rank)
    tensors = beside.trainable_parameters()
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor.data.copy_(0.01 * torch.randn(tensor.shape, generator=generator))
    assert beside.lora_config is not None
    with tempfile.TemporaryDirectory() as folder:
        lora.save(Path(folder), beside.lora_config, ema=tensors)
        fused.load_adapter(Path(folder))
    return beside, fused


def _draw(policy: Policy) -> Rollout:
    size = {"num_steps": NUM_STEPS, "guidance_scale": 1.0, "width": SIDE, "height": SIDE}
    return sample_group(policy, PROMPT, seeds=range(GROUP_SIZE), **size)  # type: ignore[arg-type]


def _ratio(what: str, one: list[float], other: list[float]) -> Line:
    found = ratios(one, other)
    return Line(f"{what} ({min(found):.2f} to {max(found):.2f} by turn)", statistics.median(found), "")


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def measure_starts() -> list[Line]:
    """From the start of the engine's process to the first image, and the image after it."""
    cold, warm = [], []
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(Path(folder) / "home")
        source = str(WEIGHTS / "pipeline")
        base = checkpoints.register_base(db, name="starter", source=source, family="sdxl").id
        for seed in range(STARTS):
            began = time.perf_counter()
            with engine(db, WEIGHTS):
                _asked(db, base, seed)
                cold.append(time.perf_counter() - began)
                warm.append(seconds_of(partial(_asked, db, base, STARTS + seed)))
        db.close()
    return [
        Line("a cold engine: from its start to the first image", _median(cold), "s"),
        Line("a warm one: from the request to the image", _median(warm), "s"),
        _ratio("cold to warm", cold, warm),
    ]


def _asked(db: Database, base: str, seed: int) -> None:
    """One image by the engine, as a page asks for it."""
    config = SamplingConfig().model_dump()
    group = groups.request_group(db, prompt=PROMPT, checkpoint_id=base, config=config, seeds=[seed])
    images_of(db, group.id)


def measure_steps(num_prompts: int) -> list[Line]:
    """Judge and KID of the base in fewer steps; differences are paired, with their interval over prompts."""
    with tempfile.TemporaryDirectory() as folder:
        renders = portraits(Path(folder), "held_out", max(NUM_REFERENCES, num_prompts))
    evaluator, policy = Evaluator(WEIGHTS, renders.images), load_policy(WEIGHTS / "pipeline")
    prompts = [caption(attributes) for attributes in renders.attributes[:num_prompts]]
    texts = [prompt for prompt in prompts for _ in range(NUM_SEEDS)]
    lines, first = [], None
    for num_steps in STEPS:
        began = time.perf_counter()
        drawn = sample(
            policy, texts, seeds=range(len(texts)), num_steps=num_steps, guidance_scale=GUIDANCE,
            width=SIDE, height=SIDE, micro_batch_size=AT_ONCE,
        )  # fmt: skip
        seconds = (time.perf_counter() - began) / len(texts)
        images = drawn.images_uint8.unflatten(0, (num_prompts, NUM_SEEDS))
        found = evaluator.measure(images, prompts)
        judge = found.columns["judge"]
        first = judge if first is None else first
        level, change = (mean_of(column, draws(num_prompts)).figure() for column in (judge, judge - first))
        kid = kernel_distance(found.features.flatten(0, 1), evaluator.reference)
        against = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f}) against {STEPS[0]}"
        lines += [
            Line(f"{num_steps} steps, guidance {GUIDANCE:g}: judge; {against}", level.value, ""),
            Line(f"the same: KID ({kid.low:.3f} to {kid.high:.3f})", kid.value, ""),
            Line("the same: an image", seconds, "s"),
        ]
    return lines


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deployment", description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--prompts", type=int, default=64)
    given = parser.parse_args()
    use_all_cores()
    lines = measure_adapters(given.repeats) + measure_starts() + measure_steps(given.prompts)
    publish("deployment", lines)


if __name__ == "__main__":
    main()
