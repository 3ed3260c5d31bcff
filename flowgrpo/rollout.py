"""sample_group: a prompt in, the images of a group out, with what the update needs to replay them.

Inside the window of steps the sampler is stochastic and every transition is kept; outside it is the
deterministic sampler that people will use. Samples do not depend on their neighbours' seeds, and a run's
noise follows from counters.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Required, TypedDict, Unpack

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flowgrpo import kernels, solvers
from flowgrpo import seeds as seeding
from flowgrpo.config import RolloutConfig
from flowgrpo.flow import Latents
from flowgrpo.policies.base import Conditioning, Policy
from flowgrpo.windows import held_of, window_of


@dataclass(frozen=True)
class StoredTransition:
    """A stochastic step as it was done: the very tensors and the very times, nothing to derive again."""

    step: int
    t: float
    s: float
    std: float
    latents: Latents
    """RF latents at time t in the storage dtype; the network's input is a function of them alone."""
    next_latents: Latents
    """RF latents at time s in the storage dtype."""
    log_prob: Float[Tensor, " sample"]
    form: kernels.Form = "marginal"
    unconditional: Tensor | None = None
    """What the network predicted without the prompt, float32, rows as of the latents; None where guidance did
    not ask it. Where that half does not learn, it is a constant of the rollout.
    """


@dataclass(frozen=True)
class Visit:
    """Where a sampler came by: the KL is measured there, and nothing is replayed."""

    step: int
    t: float
    latents: Latents
    """RF latents at time t in the storage dtype."""
    unconditional: Tensor | None = None
    """As of a stored transition."""


@dataclass(frozen=True)
class Anchor:
    """What the images of a rollout are held against, one each."""

    images: UInt8[Tensor, "sample 3 height width"]
    is_finite: Bool[Tensor, " sample"]
    """False where the image broke; nothing is held against it."""


@dataclass(frozen=True)
class Rollout:
    """The tensors of some samples, in memory; of one group, the prompts are all the same."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: Float[Tensor, "sample 3 height width"]
    """In [0, 1], rounded to 8 bits: what is scored is what people see."""
    latents: Latents
    """Clean latents, time 0."""
    transitions: tuple[StoredTransition, ...]
    """The trained steps."""
    conditioning: Conditioning
    guidance_scale: float
    micro_batch_size: int
    times: tuple[float, ...] = ()
    """The sampler's grid, from noise to 0."""
    visits: tuple[Visit, ...] = ()
    """Further steps that the policy is held to its reference at."""
    anchor: Anchor | None = None
    """For rewards of kind reference."""

    @property
    def images_uint8(self) -> UInt8[Tensor, "sample 3 height width"]:
        """The images in 0..255; a broken sample is black."""
        return (self.images.nan_to_num(0.0) * 255).round().to(torch.uint8)

    @property
    def is_finite(self) -> Bool[Tensor, " sample"]:
        """False where a sample broke (an overflow); its rewards are NaN and it teaches nothing."""
        return self.images.flatten(1).isfinite().all(1) & self.latents.flatten(1).isfinite().all(1)

    @property
    def micro_batches(self) -> list[slice]:
        """The rows that went through the network together; the update replays them together."""
        return micro_batches(len(self.seeds), self.micro_batch_size)


@dataclass(frozen=True)
class Progress:
    """`done` of `total` network calls; the last one of a rollout carries it."""

    done: int
    total: int
    rollout: Rollout | None = None
    is_halfway: bool = False
    """Whether an update has begun to change the weights and is not done: no place to stop."""


class SampleSettings(TypedDict, total=False):
    """Keyword arguments of `denoise`, `sample` and `sample_group`; meaning and defaults in `Sampler`."""

    num_steps: Required[int]
    guidance_scale: Required[float]
    width: Required[int]
    height: Required[int]
    negative_prompt: str
    window: Sequence[int] | None
    trained: Sequence[int] | None
    held: Sequence[int]
    kernel: kernels.KernelName
    noise_level: float
    solver: str
    same_start: bool
    micro_batch_size: int
    keeps_negative: bool
    run_key: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How noise becomes an image."""

    num_steps: int
    guidance_scale: float
    """1 means no guidance."""
    width: int
    height: int
    negative_prompt: str = ""
    window: Sequence[int] | None = None
    """The steps that are stochastic, ascending; None is the deterministic sampler."""
    trained: Sequence[int] | None = None
    """Those of the window that are kept for the update; None keeps them all."""
    held: Sequence[int] = ()
    """Steps whose latents are kept for the KL alone."""
    kernel: kernels.KernelName = "exact"
    """Of the stochastic steps."""
    noise_level: float = 2**0.5
    """a or eta of that kernel."""
    solver: str = "euler"
    """Of the deterministic steps: euler or dpmpp_2m."""
    same_start: bool = False
    """Whether all samples start from the first one's noise."""
    micro_batch_size: int = 32
    """Samples per network call."""
    keeps_negative: bool = False
    """Whether the rollout carries the negative half for the update though it samples without guidance."""
    run_key: tuple[int, ...] = ()
    """Counters of the window's noise, completed by the sample's seed and the step."""

    def __post_init__(self) -> None:
        last = self.num_steps - 1
        if self.window and not 0 <= self.window[0] <= self.window[-1] < last:
            raise ValueError(
                f"the window must lie before step {last}, the last, which has no noise; got {self.window}"
            )
        if self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}")

    def is_kept(self, step: int) -> bool:
        """Whether the update will replay this stochastic step."""
        return self.trained is None or step in self.trained

    def noise(self, shape: Sequence[int], seeds: Sequence[int], step: int) -> Tensor:
        """The noise of one stochastic step, a row per sample."""
        return torch.stack([seeding.noise(shape, *self.run_key, seed, step) for seed in seeds])


def denoise(
    policy: Policy, prompts: Sequence[str], *, seeds: Sequence[int], **settings: Unpack[SampleSettings]
) -> Generator[Progress, None, None]:
    """Samples one image per (prompt, seed); yields a Progress after each network call.

    Raises ValueError for counts, sizes, steps or windows that do not fit.
    """
    sampler = Sampler(**settings)
    if not seeds or len(prompts) != len(seeds):
        raise ValueError(
            f"expected one prompt per seed and at least one, got {len(prompts)} for {len(seeds)}"
        )
    shape = policy.latent_shape(sampler.width, sampler.height)
    conditioning = policy.encode(
        prompts,
        sampler.negative_prompt,
        guided=sampler.guidance_scale > 1 or sampler.keeps_negative,
        width=sampler.width,
        height=sampler.height,
    )
    slices = micro_batches(len(seeds), sampler.micro_batch_size)
    total = len(slices) * sampler.num_steps
    ends: list[Latents] = []
    kept: list[_Kept] = []
    for rows in slices:
        first = [seeds[0]] * len(seeds[rows]) if sampler.same_start else seeds[rows]
        start = torch.stack([seeding.initial_latents(seed, shape) for seed in first])
        kept.append(_Kept())
        steps = _steps(policy, sampler, start, conditioning.rows(rows), seeds[rows], kept[-1])
        for done, latents in enumerate(steps, start=1 + len(ends) * sampler.num_steps):
            end = latents
            if done < total:
                yield Progress(done, total)
        ends.append(end)
    images = torch.cat([policy.decode(latents) for latents in ends])
    rollout = Rollout(
        prompts=tuple(prompts),
        seeds=tuple(seeds),
        images=(images * 255).round() / 255,
        latents=torch.cat(ends),
        transitions=tuple(_joined(p) for p in zip(*(one.transitions for one in kept), strict=True)),
        conditioning=conditioning,
        guidance_scale=sampler.guidance_scale,
        micro_batch_size=sampler.micro_batch_size,
        times=policy.grid(sampler.num_steps, sampler.width, sampler.height),
        visits=tuple(_joined_visits(p) for p in zip(*(one.visits for one in kept), strict=True)),
    )
    yield Progress(total, total, rollout)


@dataclass(frozen=True)
class _Kept:
    """What the update needs of one micro-batch's steps."""

    transitions: list[StoredTransition] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)


def _steps(
    policy: Policy,
    sampler: Sampler,
    start: Tensor,
    conditioning: Conditioning,
    seeds: Sequence[int],
    kept: _Kept,
) -> Iterator[Latents]:
    """Yields the latents of one micro-batch after each step, and adds to `kept` what the update needs."""
    times = policy.grid(sampler.num_steps, sampler.width, sampler.height)
    latents = (start * policy.schedule.start_scale(times[0])).to(policy.device, policy.dtype)
    before: solvers.Memory | None = None
    for step, (t, s) in enumerate(pairwise(times)):
        with torch.no_grad():  # not around the yield: the caller would be without gradients too
            velocity, half = policy.velocity_and_half(latents, t, conditioning, sampler.guidance_scale)
            if step in sampler.held:
                kept.visits.append(Visit(step, t, latents, half))
            if sampler.window and step in sampler.window:
                noise = sampler.noise(start.shape[1:], seeds, step).to(policy.device)
                stored = _draw(sampler, step, (t, s, times[1]), latents, velocity, noise)
                if sampler.is_kept(step):
                    kept.transitions.append(replace(stored, unconditional=half))
                latents, before = stored.next_latents, None
            elif sampler.solver == "dpmpp_2m":
                latents, before = solvers.multistep(latents, velocity, t, s, before)
            else:
                latents = kernels.transition(latents, velocity, t, s).next_latents
        yield latents


def _draw(
    sampler: Sampler,
    step: int,
    times: tuple[float, float, float],
    latents: Latents,
    velocity: Latents,
    noise: Tensor,
) -> StoredTransition:
    """A stochastic step from t to s; times are (t, s, the grid's second time)."""
    t, s, second = times
    std = kernels.kernel_std(sampler.kernel, t, s, sampler.noise_level, second)
    form = kernels.form_of(sampler.kernel)
    drawn = kernels.transition(latents, velocity, t, s, std, form=form, noise=noise)
    assert drawn.log_prob is not None
    return StoredTransition(step, t, s, std, latents, drawn.next_latents, drawn.log_prob, form)


def _joined(parts: Sequence[StoredTransition]) -> StoredTransition:
    """One stored transition of all samples from those of the micro-batches."""
    latents, next_latents, log_prob = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "next_latents", "log_prob")
    )
    halves = [part.unconditional for part in parts if part.unconditional is not None]
    unconditional = torch.cat(halves) if halves else None
    # A broken sample is masked in the update, where 0 times NaN would still be NaN.
    broken = ~(latents.flatten(1).isfinite().all(1) & next_latents.flatten(1).isfinite().all(1))
    for tensor in (latents, next_latents, log_prob, *([] if unconditional is None else [unconditional])):
        tensor[broken] = 0
    return replace(
        parts[0],
        latents=latents,
        next_latents=next_latents,
        log_prob=log_prob,
        unconditional=unconditional,
    )


def _joined_visits(parts: Sequence[Visit]) -> Visit:
    """One visit of all samples from those of the micro-batches; a broken sample is masked in the update."""
    latents = torch.cat([part.latents for part in parts])
    broken = ~latents.flatten(1).isfinite().all(1)
    latents[broken] = 0
    halves = [part.unconditional for part in parts if part.unconditional is not None]
    if not halves:
        return replace(parts[0], latents=latents)
    unconditional = torch.cat(halves)
    unconditional[broken] = 0
    return replace(parts[0], latents=latents, unconditional=unconditional)


def micro_batches(num_samples: int, size: int) -> list[slice]:
    """Consecutive slices of at most `size` rows."""
    return [slice(start, min(start + size, num_samples)) for start in range(0, num_samples, size)]


def sample(
    policy: Policy, prompts: Sequence[str], *, seeds: Sequence[int], **settings: Unpack[SampleSettings]
) -> Rollout:
    """One image per (prompt, seed): `denoise` run to its end, with its settings."""
    *_, last = denoise(policy, prompts, seeds=seeds, **settings)
    assert last.rollout is not None
    return last.rollout


def sample_group(
    policy: Policy, prompt: str, *, seeds: Sequence[int], **settings: Unpack[SampleSettings]
) -> Rollout:
    """The group of one prompt, one image per seed; settings are the fields of `Sampler`, by name."""
    return sample(policy, [prompt] * len(seeds), seeds=seeds, **settings)


def rollout_settings(
    config: RolloutConfig,
    micro_batch_size: int,
    run_seed: int,
    update: int,
    group: int,
    *,
    keeps_negative: bool = False,
    kl_steps: int = 0,
) -> SampleSettings:
    """How a run samples a group: with the window and the noise that follow from (run_seed, update, group)."""
    window, trained = window_of(config, run_seed, update, group)
    return SampleSettings(
        num_steps=config.num_steps,
        guidance_scale=config.guidance_scale,
        width=config.width,
        height=config.height,
        window=window,
        trained=trained,
        held=held_of(config, kl_steps, run_seed, update, group),
        kernel=config.kernel,
        noise_level=config.noise_level,
        solver=config.solver,
        same_start=config.same_start,
        micro_batch_size=micro_batch_size,
        keeps_negative=keeps_negative,
        run_key=(run_seed, update, group),
    )


def rows_of(stored: StoredTransition, rows: slice) -> StoredTransition:
    """Some rows of a stored transition."""
    half = stored.unconditional
    return replace(
        stored,
        latents=stored.latents[rows],
        next_latents=stored.next_latents[rows],
        log_prob=stored.log_prob[rows],
        unconditional=half if half is None else half[rows],
    )


def rescore(stored: StoredTransition, velocity: Latents) -> kernels.Transition:
    """The stored transition under another velocity: same latents, same times, same kernel."""
    return kernels.transition(
        stored.latents, velocity, stored.t, stored.s, stored.std,
        form=stored.form, next_latents=stored.next_latents,
    )  # fmt: skip
