"""Says what this machine and this data folder have, and what to do where something is amiss."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open

from flowgrpo.runs.device import describe, resolve
from flowgrpo.runs.doctor_folder import examine_folder
from flowgrpo.runs.doctor_rewards import HEADER, Checkup, examine_rewards
from flowgrpo.runs.findings import Finding
from flowgrpo.runs.reward_options import options_for
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.starter.sums import wrong_sums
from storage import checkpoints
from storage.engine import Database

NEEDED = (
    "torch", "diffusers", "transformers", "peft", "accelerate", "open_clip_torch", "lpips", "gradio",
    "argon2-cffi", "prometheus-client",
)  # fmt: skip
OPTIONAL = {
    "bitsandbytes": "the optimiser adamw_8bit, on NVIDIA GPUs",
    "psycopg": "a PostgreSQL database instead of SQLite",
}
"""Package to what needs it."""
LITTLE_MEMORY = 3 * 10**9
"""Bytes below which a run on the starter may not find room."""
NVIDIA = Path("/proc/driver/nvidia/version")
"""Where the driver says what it is, while it is loaded."""


def report(db: Database, say: Callable[[str], object], *, rewards: bool, as_json: bool) -> bool:
    """Says what is found, line by line as it is found; or as one JSON list.

    Args:
        rewards: Load and try each reward instead of looking at machine and folder.

    Returns:
        Whether there is no problem.
    """
    found: list[Finding | Checkup] = []
    options = options_for(db, WEIGHTS, str(resolve("auto")))
    if rewards and not as_json:
        say(HEADER)
    for one in examine_rewards(options) if rewards else examine(db):
        found.append(one)
        if not as_json:
            say(str(one))
    if as_json:
        say(json.dumps([one.to_json() for one in found], indent=1))
    return all(one.level != "problem" for one in found)


def examine(db: Database, weights: Path = WEIGHTS) -> Iterator[Finding]:
    """All that a run needs, one after the other; a problem is what would keep the studio from working."""
    yield Finding("ok", f"Python {sys.version.split()[0]} on {sys.platform}")
    yield from _packages()
    yield from _devices()
    yield from _memory()
    yield from examine_folder(db)
    yield from _weights(weights)
    yield from _bases(db)
    yield from _hub()


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        try:
            yield Finding("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("problem", f"{name} is missing", "pip install -r requirements.txt")
    for name, use in OPTIONAL.items():
        if find_spec(name) is None:
            yield Finding("note", f"{name} is not here", f"only {use} needs it")


def _devices() -> Iterator[Finding]:
    if not torch.cuda.is_available() and NVIDIA.exists():
        driver = NVIDIA.read_text(errors="replace").partition("\n")[0]
        advice = f"get a driver for CUDA {torch.version.cuda}, or a PyTorch for this one (pytorch.org)"
        yield Finding("problem", f"a GPU whose driver PyTorch cannot use: {driver}", advice)
    elif not torch.cuda.is_available():
        yield Finding(
            "note", f"no GPU, {os.cpu_count()} CPU cores",
            "the starter learns on the CPU; larger bases want an NVIDIA GPU of 16 GB or more",
        )  # fmt: skip
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = describe(torch.device("cuda", index))
        yield Finding("ok", f"GPU {index}: {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA "
                      f"{torch.version.cuda}")  # fmt: skip


def _memory() -> Iterator[Finding]:
    free = psutil.virtual_memory().available
    told = f"{free / 1e9:.1f} GB of memory free"
    is_enough = free >= LITTLE_MEMORY
    yield Finding("ok", told) if is_enough else Finding("note", told, "end other programs before a run")


def _weights(weights: Path) -> Iterator[Finding]:
    files = sorted(weights.rglob("*.safetensors"))
    if not (weights / "pipeline" / "model_index.json").is_file() or not files:
        advice = "get the repository again, or build them: python -m flowgrpo.starter.build"
        yield Finding("problem", f"the starter's weights are not in {weights}", advice)
        return
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            yield Finding("problem", f"{path} is damaged ({error})", "get the repository again")
            return
    if odd := wrong_sums(weights):
        yield Finding(
            "problem", f"not as they were shipped: {', '.join(odd[:3])}", "get the repository again"
        )
        return
    size = sum(path.stat().st_size for path in files) / 1e6
    yield Finding("ok", f"the starter: {len(files)} files of weights, {size:.0f} MB")


def _bases(db: Database) -> Iterator[Finding]:
    for one in checkpoints.list_checkpoints(db):
        if one.path is None:
            source = checkpoints.base_of(db, one).source
            is_gone = Path(source).is_absolute() and not Path(source).exists()
            advice = "put it back, or add it again from where it is now" if is_gone else ""
            told = f"{source} is gone" if is_gone else source
            yield Finding("note" if is_gone else "ok", f"base {one.name}: {told}", advice)


def _hub() -> Iterator[Finding]:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        yield Finding("note", "HF_HUB_OFFLINE is set", "bases are taken from the hub's cache alone")
