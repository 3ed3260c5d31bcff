"""What a run will take, told before it starts: memory, disk, time and money; for `app.py run --dry-run`.

Memory is counted on the real modules without their weights. Time is measured by a probe where base and device
are here, or follows from a speed that the person names. Where neither is there, the plan says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import psutil
import torch

from flowgrpo.budget import Beside, Disk, Memory, disk_of, memory_of
from flowgrpo.config import RunConfig
from flowgrpo.live import counted
from flowgrpo.published import architecture_of, known
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.runs import roles, samples
from flowgrpo.runs.device import describe, resolve
from flowgrpo.runs.memory import ERRORS, is_shortage
from flowgrpo.runs.probe import Duration, Probe, duration_of, probe
from flowgrpo.runs.repeating import read_file, start_of
from flowgrpo.runs.reward_options import options_for
from flowgrpo.runs.team import precision
from flowgrpo.runs.wanted import hold_to_wanted
from flowgrpo.sizes import Sizes
from flowgrpo.starter.package import WEIGHTS
from flowgrpo.work import Work, rows_of, work_of
from storage import checkpoints
from storage.engine import Database

HOUR = 3600.0
_INDENT = " " * 10
_LESS = "halve update.micro_batch_size, turn update.gradient_checkpointing on, or make the images smaller"
_UNITS = (("quintillion", 10**18), ("quadrillion", 10**15), ("trillion", 10**12), ("billion", 10**9), ("", 1))


@dataclass(frozen=True)
class Wishes:
    """What a person says besides the run's settings.

    Attributes:
        device: `auto`, `cpu`, or `cuda` for a GPU whether or not there is one here.
        teraflops: sustained speed of a GPU that is not here; 0 where nobody says.
        rate: money per hour.
        probes: whether a micro-batch is measured.
    """

    device: str = "auto"
    teraflops: float = 0.0
    rate: float = 0.0
    probes: bool = True


@dataclass(frozen=True)
class Plan:
    """What is known of a run that has not started; None where something cannot be known here."""

    base: str
    device: str
    precision: str
    work: Work
    operations: int
    memory: Memory
    free_memory: int | None
    disk: Disk
    free_disk: int
    measured: Probe | None
    duration: Duration | None
    seconds: float | None
    rate: float

    @property
    def fits(self) -> bool:
        """Whether device and disk have what the run takes; true where that is not known."""
        return _has_room(self.memory, self.free_memory) and self.disk.total <= self.free_disk

    @property
    def cost(self) -> float | None:
        """Money at the rate, where there are a time and a rate."""
        return None if self.seconds is None or not self.rate else self.seconds / HOUR * self.rate

    def to_json(self) -> dict[str, Any]:
        """For `--json`: bytes, seconds, and the unit of money that the rate is in."""
        own = {"fits": self.fits, "cost": self.cost, "evaluations": self.work.evaluations}
        peak = {"peak_bytes": self.memory.peak, "during": self.memory.during}
        return asdict(self) | own | {"memory": asdict(self.memory) | peak}


def told(db: Database, file: Path, base: str | None, wishes: Wishes, *, as_json: bool) -> tuple[str, bool]:
    """The plan of a run in words or as JSON, and whether the run fits.

    Args:
        base: what it starts from, where that is not what the file says.

    Raises what `read_file`, `start_of` and `make_plan` raise.
    """
    read = read_file(file)
    plan = make_plan(db, read.config, base or start_of(db, read).id, WEIGHTS, wishes)
    words = json.dumps(plan.to_json(), indent=1) if as_json else "\n".join(lines(plan))
    return words, plan.fits


def make_plan(db: Database, config: RunConfig, base: str, weights: Path, wishes: Wishes) -> Plan:
    """Everything that can be told of a run on a base: a checkpoint's name, or a published base's.

    Raises LookupError, ValueError or OSError with a sentence where base or settings cannot be used.
    """
    name, source, options = _base(db, base)
    rewards = options_for(db, weights)
    is_gpu, device = _device(wishes.device)
    built = architecture_of(source, options.get("config"))
    wanted = config.update.precision
    dtype = torch.bfloat16 if is_gpu and device is None and wanted == "auto" else precision(
        wanted, device or torch.device("cpu")
    )  # fmt: skip
    sizes = Sizes(built, config.lora, dtype, checkpointing=config.update.gradient_checkpointing)
    memory = memory_of(sizes, config, _beside(name, config, rewards, is_gpu=is_gpu), on_gpu=is_gpu)
    free = _free_memory(device)
    work = work_of(config, guidance_costs=not sizes.has_guidance_input)
    measured = None
    if wishes.probes and device is not None and source not in known() and _has_room(memory, free):
        measured = _measured(config, source, options, device, rewards)
    duration = duration_of(config, measured) if measured else None
    operations = operations_of(sizes, config, work)
    return Plan(
        base=built.name if source in known() else name,
        device=describe(device) if device else "a GPU that is not here",
        precision=str(dtype).removeprefix("torch."),
        work=work,
        operations=operations,
        memory=memory,
        free_memory=free,
        disk=disk_of(config, sizes.adapter_bytes),
        free_disk=shutil.disk_usage(db.home).free,
        measured=measured,
        duration=duration,
        seconds=duration.total if duration else _at_speed(operations, wishes.teraflops),
        rate=wishes.rate,
    )


def _base(db: Database, name: str) -> tuple[str, str, Mapping[str, str]]:
    """Name, source and options of a checkpoint's base, or of a published base that nobody has added."""
    try:
        base = checkpoints.base_of(db, checkpoints.named_checkpoint(db, name))
    except LookupError as error:
        if name in known():
            return name, name, {}
        words = f"{str(error).rstrip('.')}; published bases are {', '.join(known())}"
        raise LookupError(words) from error
    return base.name, base.source, base.options or {}


def _device(wanted: str) -> tuple[bool, torch.device | None]:
    """Whether it is a GPU, and the device where it is here."""
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        return True, None
    device = resolve(wanted)
    return device.type == "cuda", device


def _free_memory(device: torch.device | None) -> int | None:
    if device is None:
        return None
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def _has_room(memory: Memory, free: int | None) -> bool:
    """True where what is free is not known."""
    return free is None or memory.peak <= free


def _measured(
    config: RunConfig, source: str, options: Mapping[str, str], device: torch.device, rewards: Options
) -> Probe:
    try:
        return probe(config, source, options, device, rewards)
    except ERRORS as error:
        if not is_shortage(error):
            raise
        raise ValueError(f"The device ran out of memory on one micro-batch: {_LESS}.") from error


def _at_speed(operations: int, teraflops: float) -> float | None:
    return operations / (teraflops * 1e12) if teraflops else None


def operations_of(sizes: Sizes, config: RunConfig, work: Work) -> int:
    """Floating-point operations of denoiser and decoder, a whole run."""
    rows, _ = rows_of(config)
    size = (config.rollout.width, config.rollout.height)
    plain = sizes.denoise(rows, *size, learns=False).flops * work.plain
    learned = sizes.denoise(rows, *size, learns=True).flops * work.learned
    pass_through = sizes.encode if config.algorithm.name == "sft" else sizes.decode
    return (plain + learned + pass_through(rows, *size).flops * work.images) // rows


def _beside(base: str, config: RunConfig, options: Options, *, is_gpu: bool) -> Beside:
    """What rewards and program take: loaded here, and one scoring counted."""
    process = psutil.Process()
    empty = process.memory_info().rss
    if config.algorithm.name == "sft":
        return Beside(process=0 if is_gpu else empty)
    stack = load_stack(roles.loaded(config), options.weights, options=options)
    for name in roles.needed(config):
        if name in stack.unavailable:
            raise LookupError(f"{stack.unavailable[name]}.")
    hold_to_wanted(config, stack)
    judges = samples.judges_of(base, config, options)
    _check_judges(config, judges)
    loaded = process.memory_info().rss - empty
    del judges
    rollout = config.rollout
    images = torch.zeros(
        rollout.group_size * rollout.groups_per_update, 3, rollout.height, rollout.width, dtype=torch.uint8
    )
    groups = [index // rollout.group_size for index in range(len(images))]
    prompts = [config.prompts[group % len(config.prompts)] for group in groups]
    with torch.no_grad(), counted([images]) as (live, _):
        references = images if roles.holds_to_references(config, stack) else None
        stack.score(ScoreBatch(images, prompts, groups, references))
    return Beside(0 if is_gpu else empty, max(loaded, 0), live.peak)


def _check_judges(config: RunConfig, judges: RewardStack) -> None:
    """Raises LookupError or ValueError where a judge that the run names cannot judge it."""
    for name in config.judges:
        if name in judges.unavailable:
            raise LookupError(f"{judges.unavailable[name]}.")
    if config.judges:
        roles.check_judges(judges)


def lines(plan: Plan) -> Iterator[str]:
    """The plan as a person reads it."""
    work, memory = plan.work, plan.memory
    yield f"{plan.base} on {plan.device}, {plan.precision}. Nothing was started."
    yield (
        f"  work    {work.images:,} images, {work.evaluations:,} network evaluations, "
        f"{_operations(plan.operations)} operations"
    )
    free = f", {_gb(plan.free_memory)} are free" if plan.free_memory is not None else ""
    yield f"  memory  {_gb(memory.peak)} at the peak{free}"
    yield from _wrapped(f"{_listed(memory.resident)} stay")
    yield from _wrapped(f"{_listed(memory.phases)} besides, each in its phase")
    disk = plan.disk
    yield (
        f"  disk    {_gb(disk.total)}: {disk.num_checkpoints} checkpoints of {_gb(disk.checkpoint)}, "
        f"{disk.num_pictures} sample images; {_gb(plan.free_disk)} are free"
    )
    yield f"  time    {_time(plan)}"
    if plan.cost is not None:
        yield f"  cost    {plan.cost:.2f} at {plan.rate:g} an hour"
    yield from _advice(plan)


def _time(plan: Plan) -> str:
    if plan.seconds is None:
        return "not known, for nothing was measured; --teraflops says how fast the device computes"
    if plan.duration is None or plan.measured is None:
        return f"{_span(plan.seconds)} at the speed that you named, network alone"
    each = ", ".join(f"{name} {seconds:.1f}" for name, seconds in plan.duration.update.items() if seconds)
    return (
        f"{_span(plan.seconds)}; {sum(plan.duration.update.values()):.1f} s an update ({each}), "
        f"measured on {plan.measured.images} images"
    )


def _advice(plan: Plan) -> Iterator[str]:
    if not _has_room(plan.memory, plan.free_memory):
        yield f"It does not fit into memory: {_LESS}."
    if plan.disk.total > plan.free_disk:
        yield "It does not fit onto the disk: raise checkpoint_every, or set FLOWGRPO_HOME to another disk."


def _wrapped(words: str) -> Iterator[str]:
    yield from wrap(words, 100, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_gb(size)}" for name, size in parts.items() if size)


def _operations(number: int) -> str:
    """Floating-point operations as a person reads them."""
    name, unit = next((name, unit) for name, unit in _UNITS if number >= unit or unit == 1)
    return f"{number / unit:,.3g} {name}".rstrip()


def _gb(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size:,} B"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"
