"""A group against the bare diffusers pipeline on the same work, and one FlowGRPO update with where its time
goes.

Ours and the pipeline take turns within one run, so that a busy machine is unfair to both alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor, nn

from benchmarks.common import Line, in_turns, publish
from flowgrpo.advantages import calibrate, combine
from flowgrpo.config import DEFAULT_WEIGHTS, LoraConfig, RolloutConfig, RunConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.preferences.head import data_of, fit
from flowgrpo.preferences.votes import Comparison
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.encoders import clip_in_folder
from flowgrpo.rewards.eye import Eye
from flowgrpo.rewards.human import NAME as HUMAN
from flowgrpo.rewards.human import HumanReward
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rollout import Rollout, rollout_settings, sample_group
from flowgrpo.runs.scoring import DIVERSITY, score
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.seeds import group_seeds
from flowgrpo.starter.dataset import plan
from flowgrpo.starter.features import load_backbone
from flowgrpo.starter.portraits import caption
from flowgrpo.update import UpdateMetrics, update

GROUP_SIZE, NUM_STEPS, GUIDANCE, SIDE = 8, 16, 3.0, 64


class NetworkTime:
    """Seconds inside networks: forwards by hooks on the outermost modules, backwards by autograd's own
    call.

    wait: until the device has done what it was told; a CPU has.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self.forward = self.backward = 0.0
        self._wait = wait
        self._depth = 0
        self._since = 0.0

    def watch(self, network: nn.Module) -> None:
        network.register_forward_pre_hook(self._enter)
        network.register_forward_hook(self._leave, always_call=True)

    def _enter(self, *_: object) -> None:
        if self._depth == 0:
            self._since = self._now()
        self._depth += 1

    def _leave(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.forward += self._now() - self._since

    def _now(self) -> float:
        self._wait()
        return time.perf_counter()

    @contextmanager
    def watching_backward(self) -> Iterator[None]:
        original: Callable[..., None] = Tensor.backward

        def timed(tensor: Tensor, *args: object, **keywords: object) -> None:
            began = self._now()
            original(tensor, *args, **keywords)
            self.backward += self._now() - began

        with patch.object(Tensor, "backward", timed):
            yield


def scorers(stack: RewardStack, device: str = "cpu") -> Iterator[nn.Module]:
    """The networks of a stack, the backbone that several rewards read among them."""
    yield load_backbone(device)
    for reward in stack.rewards.values():
        for owner in (reward, getattr(reward, "encoder", None)):
            for key in ("network", "model", "head"):
                if isinstance(found := getattr(owner, key, None), nn.Module):
                    yield found


def measure_group(source: Path, prompt: str, repeats: int) -> list[Line]:
    """Medians of both, and the ratio of every pair."""
    policy = load_policy(source)
    pipeline = StableDiffusionXLPipeline.from_pretrained(source, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    seeds = list(range(1, 1 + GROUP_SIZE))

    def ours() -> None:
        settings = {"num_steps": NUM_STEPS, "guidance_scale": GUIDANCE, "width": SIDE, "height": SIDE}
        sample_group(policy, prompt, seeds=seeds, **settings)  # type: ignore[arg-type]

    def bare() -> None:
        pipeline(
            prompt, num_images_per_prompt=GROUP_SIZE, num_inference_steps=NUM_STEPS, guidance_scale=GUIDANCE,
            width=SIDE, height=SIDE, generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )  # fmt: skip

    what = f"group of {GROUP_SIZE}, {NUM_STEPS} steps, guidance {GUIDANCE:g}, warm"
    group, *rest = in_turns(what, ours, bare, repeats)
    return [replace(group, budget=4.0), *rest]


def measure_update(source: Path, stack: RewardStack, prompts: list[str], repeats: int) -> list[Line]:
    """Rollout, scoring and optimiser step of 4 groups of 16; the first round warms up and calibrates."""
    config = RunConfig(prompts=tuple(prompts), reward_weights=DEFAULT_WEIGHTS, rollout=RolloutConfig())
    policy = load_policy(source)
    policy.attach_lora(config.lora or LoraConfig())
    learner = Learner(policy, config.update)
    clock = NetworkTime()
    decoder = (policy.vae.decoder, policy.pipeline.text_encoder, policy.pipeline.text_encoder_2)
    for network in (policy.network, *decoder, *scorers(stack)):
        clock.watch(network)
    stds = calibrate(score(stack, _rollouts(policy, config, 0)).rewards)
    totals, inside, scoring = [], [], []
    for number in range(1, 1 + repeats):
        clock.forward = clock.backward = 0.0
        began = time.perf_counter()
        rollouts = _rollouts(policy, config, number)
        sampled = time.perf_counter()
        columns = score(stack, rollouts)
        scoring.append(time.perf_counter() - sampled)
        advantages = combine(
            columns.rewards, config.reward_weights, stds, diversity=columns.rewards.get(DIVERSITY)
        )
        with clock.watching_backward():
            steps = [
                step for step in update(learner, rollouts, advantages) if isinstance(step, UpdateMetrics)
            ]
        assert len(steps) == 1
        totals.append(time.perf_counter() - began)
        inside.append((clock.forward + clock.backward) / totals[-1])
    return [
        Line("one update: 4 groups of 16, 8 steps, no guidance", statistics.median(totals), "s", 30.0),
        Line("share of it inside network forward and backward", statistics.median(inside), "", 0.9, True),
        Line("of it, scoring 64 images by every embedded reward", statistics.median(scoring), "s"),
    ]


WHOLE_STACK = (*DEFAULT_WEIGHTS, DIVERSITY, "pixel_stats")
"""Every reward that comes with the studio and needs no reference; the preference head beside them."""


def measure_scoring(source: Path, weights: Path, prompt: str, repeats: int) -> list[Line]:
    """Scoring a group with all that is embedded, against generating it, in turns."""
    policy = load_policy(source)
    settings = {"num_steps": NUM_STEPS, "guidance_scale": GUIDANCE, "width": SIDE, "height": SIDE}
    seeds = list(range(1, 1 + GROUP_SIZE))
    images = sample_group(policy, prompt, seeds=seeds, **settings).images_uint8.cpu()  # type: ignore[arg-type]
    stack = load_stack(WHOLE_STACK, weights)
    batch = partial(ScoreBatch, images, [prompt] * GROUP_SIZE, [0] * GROUP_SIZE)
    stack.rewards[HUMAN] = _head_of(batch(), weights)
    generating, scoring = [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        sample_group(policy, prompt, seeds=seeds, **settings)  # type: ignore[arg-type]
        drawn = time.perf_counter()
        stack.score(batch())
        generating.append(drawn - began)
        scoring.append(time.perf_counter() - drawn)
    ratios = [one / other for one, other in zip(scoring[1:], generating[1:], strict=True)]
    return [
        Line("scoring a group of 8 with the whole embedded stack", statistics.median(scoring[1:]), "s"),
        Line("the same, share of generating it", statistics.median(ratios), "", 0.25),
    ]


def _head_of(batch: ScoreBatch, weights: Path) -> HumanReward:
    """A head of somebody who likes the first image best."""
    eye = Eye(clip_in_folder(weights / "clip"))
    seen, widths = eye.see(batch)
    ids = [str(row) for row in range(len(batch))]
    liked = [Comparison("g", "p", "a", "0", other, 1.0) for other in ids[1:]]
    data = data_of(liked, {name: row for row, name in enumerate(ids)}, ["g"] * len(ids))
    return HumanReward(fit(seen, widths, data), eye)


def _rollouts(policy: Policy, config: RunConfig, number: int) -> list[Rollout]:
    rollout, made = config.rollout, []
    for group in range(rollout.groups_per_update):
        settings = rollout_settings(rollout, config.update.micro_batch_size, config.seed, number, group)
        seeds = group_seeds(config.seed, number, group, rollout.group_size)
        prompt = config.prompts[(number * rollout.groups_per_update + group) % len(config.prompts)]
        made.append(sample_group(policy, prompt, seeds=seeds, **settings))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="TRL and all families too: benchmarks.peers")
    given = parser.parse_args()
    prompts = [caption(attributes) for attributes in plan("bench", 24)]
    source = given.weights / "pipeline"
    stack = load_stack([*DEFAULT_WEIGHTS, DIVERSITY], given.weights)
    lines = measure_group(source, prompts[0], given.repeats)
    lines += measure_update(source, stack, prompts, max(2, given.repeats // 2))
    lines += measure_scoring(source, given.weights, prompts[0], given.repeats)
    publish("speed", lines)
    if given.peers:
        for module in ("benchmarks.families", "benchmarks.peers"):
            subprocess.run([sys.executable, "-m", module], check=True)


if __name__ == "__main__":
    main()
