"""A plug-in that does what its first prompt says, and others that are none. Only children import it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from flowgrpo.rewards.base import Abstained, Reward, RewardSpec, ScoreBatch, ScoreResult, scored, unscored
from flowgrpo.rewards.plugins import Plugin
from tests.given import brightness

SPEC = RewardSpec("misbehaving", "does as told", "pointwise", 0.0, 1.0, "1", "Apache-2.0", needs=("prompt",))


class UncommonError(Exception):
    """Nothing that a program would expect."""


def fail(_: ScoreBatch) -> ScoreResult:
    raise RuntimeError("the service is gone")


def fail_uncommonly(_: ScoreBatch) -> ScoreResult:
    raise UncommonError("nobody expects this")


def kill(_: ScoreBatch) -> ScoreResult:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def leave(_: ScoreBatch) -> ScoreResult:
    os._exit(3)


def chatter(batch: ScoreBatch) -> ScoreResult:
    print("FGRW says the plug-in")
    os.write(1, b"raw bytes on standard output\n")
    subprocess.run([sys.executable, "-c", "print('from a child of the child')"], check=True)
    assert sys.stdin.read() == ""
    return scored(torch.ones(len(batch)))


def against_references(batch: ScoreBatch) -> ScoreResult:
    assert batch.references is not None
    return scored((batch.images != batch.references).float().mean(dim=(1, 2, 3)))


def exhaust(_: ScoreBatch) -> ScoreResult:
    raise torch.OutOfMemoryError("tried to allocate 2 GiB")


def exhaust_once(batch: ScoreBatch) -> ScoreResult:
    _tries.append(1)
    if len(_tries) % 2:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")
    return scored(torch.ones(len(batch)))


_tries: list[int] = []


def abstain(batch: ScoreBatch) -> ScoreResult:
    return unscored(len(batch), Abstained("nothing to say"))


DEEDS: Mapping[str, Callable[[ScoreBatch], Any]] = {
    "nan": lambda batch: scored(torch.full((len(batch),), float("nan"))),
    "short": lambda batch: scored(torch.ones(len(batch) - 1)),
    "matrix": lambda batch: scored(torch.ones(len(batch), 1)),
    "nothing": lambda batch: None,
    "list": lambda batch: ScoreResult([0.0] * len(batch), (None,) * len(batch)),  # type: ignore[arg-type]
    "reasons": lambda batch: ScoreResult(torch.ones(len(batch)), ()),
    "raise": fail,
    "raise uncommonly": fail_uncommonly,
    "hang": lambda batch: time.sleep(600),
    "hang in native code": lambda batch: ctypes.PyDLL(None).sleep(600),
    "crash": lambda batch: ctypes.string_at(0),
    "kill": kill,
    "leave": leave,
    "print": chatter,
    "exhaust": exhaust,
    "exhaust once": exhaust_once,
    "abstain": abstain,
    "references": against_references,
}


class Misbehaving:
    spec = SPEC

    def score(self, batch: ScoreBatch) -> ScoreResult:
        deed: Callable[[ScoreBatch], ScoreResult] = DEEDS.get(batch.prompts[0], brightness)
        return deed(batch)


def load(options: Mapping[str, Any], device: str) -> Reward:
    assert device == "cpu"
    if options["fails"]:
        raise LookupError("its weights are not here")
    return Misbehaving()


OPTIONS = {"type": "object", "properties": {"fails": {"type": "boolean", "default": False}}}
plugin = Plugin(SPEC, load, OPTIONS)
other_name = Plugin(RewardSpec("other", "t", "pointwise", 0.0, 1.0, "1", "Apache-2.0"), load)
upside_down = Plugin(RewardSpec("misbehaving", "t", "pointwise", 1.0, 0.0, "1", "Apache-2.0"), load)
gate_without_threshold = Plugin(RewardSpec("misbehaving", "t", "gate", 0.0, 1.0, "1", "Apache-2.0"), load)
strange_kind = Plugin(
    RewardSpec("misbehaving", "t", "sometimes", 0.0, 1.0, "1", "Apache-2.0"),  # type: ignore[arg-type]
    load,
)
no_spec = Plugin("a reward", load)  # type: ignore[arg-type]
no_factory = Plugin(SPEC, None)  # type: ignore[arg-type]
no_reward = Plugin(SPEC, lambda options, device: "a reward")  # type: ignore[arg-type,return-value]
bad_options = Plugin(SPEC, load, {"type": "object", "properties": {"x": {"type": "array"}}})
