"""Says of every reward whether it loads, gives the values that were recorded, and how long it takes.

Each is loaded and asked about the same eight portraits, which are drawn at once. Nothing is fetched.

    python -m flowgrpo.runs.doctor_rewards     records the values of this machine's rewards anew
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flowgrpo.rewards import registry
from flowgrpo.rewards.base import Abstained, ScoreBatch, ScoreResult
from flowgrpo.rewards.cache import image_hash
from flowgrpo.rewards.checks import SCORING, FailedRewardError
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import RewardStack, load_stack
from flowgrpo.rewards.stock import STOCK
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.starter.portraits import caption, render
from flowgrpo.starter.vocabulary import SLOTS, Attributes

T = TypeVar("T")
Level = Literal["ok", "note", "problem"]
Values = tuple[float | None, ...]
GOLDEN: Final = Path(registry.__file__).with_name("golden.json")
LOAD_SECONDS, SCORE_SECONDS = 180.0, 120.0
"""After these a reward is taken to hang."""
PROMPTS, PER_PROMPT = 2, 4
WORDS: Final = ("OPEN", "coffee", "No 42", "closed")
_LIBRARIES: Final = ("torch", "open_clip_torch", "onnxruntime")
_TOLERANCES: Final = {"ocr": 0.05, "safety": 1e-3}
_TOLERANCE: Final = 2e-3
"""Of scores of about 1: other processors and releases round otherwise; other weights are further away."""


@dataclass(frozen=True)
class Checkup:
    """What was found out about one reward.

    Attributes:
        version: Of the reward that was loaded; empty where none was.
        load_seconds, image_seconds: How long it took to load, and for each image; None where it did not come
            so far.
        values: Of the portraits; None where there is none.
        difference: The largest to the recorded values; None where there is nothing to compare with.
        words: What there is to say, without a full stop.
    """

    name: str
    level: Level
    words: str
    version: str = ""
    load_seconds: float | None = None
    image_seconds: float | None = None
    values: Values = ()
    difference: float | None = None

    def __str__(self) -> str:
        sign = {"ok": "ok  ", "note": "note", "problem": "BAD "}[self.level]
        return f"{sign}  {self.name:<18} {_time(self.load_seconds)} {_time(self.image_seconds)}  {self.words}"

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return f"{'-':>8}"
    return f"{seconds:>6.1f} s" if seconds >= 1 else f"{1000 * seconds:>5.1f} ms"


HEADER: Final = f"{'':4}  {'reward':<18} {'load':>8} {'image':>8}"


def examine_rewards(
    options: Options, names: Sequence[str] | None = None, golden: Mapping[str, Any] | None = None
) -> Iterator[Checkup]:
    """A checkup of each reward of the registry, one after the other; nothing is fetched for it.

    Args:
        golden: What was recorded; by default what comes with the studio.
    """
    given = json.loads(GOLDEN.read_text()) if golden is None else golden
    recorded: Mapping[str, Any] = given.get("rewards", {})
    if recorded and given["images_sha256"] != _hashes():
        recorded, words = {}, "they are drawn otherwise here than when values were recorded"
        yield Checkup("(portraits)", "note", f"{words}, so nothing is compared: install requirements.txt")
    for name in registry.names() if names is None else names:
        yield _examined(name, options, recorded.get(name))


def _examined(name: str, options: Options, recorded: Mapping[str, Any] | None) -> Checkup:
    card = registry.card(name, options, LOAD_SECONDS)
    is_ours = bool(card["embedded"])
    if card["state"] != "here" and not is_ours:
        return Checkup(name, "note", str(card["weights"]))
    started = time.perf_counter()
    try:
        stack = _within(LOAD_SECONDS, "load", lambda: _loaded(name, options))
    except FailedRewardError as error:
        return Checkup(name, "problem", str(error))
    loading = time.perf_counter() - started
    if name in stack.unavailable:
        return Checkup(name, "problem" if is_ours else "note", stack.unavailable[name])
    reward = stack.rewards[name]
    with closing(stack):
        try:
            result, seconds = _within(SCORE_SECONDS, "score the images", lambda: _timed(stack, name))
        except FailedRewardError as error:
            return Checkup(name, "problem", str(error), reward.spec.version, loading)
    values = tuple(None if math.isnan(value) else value for value in result.values.tolist())
    level, words, difference = _verdict(reward.spec.version, result, values, recorded)
    return Checkup(name, level, words, reward.spec.version, loading, seconds, values, difference)


def _loaded(name: str, options: Options) -> RewardStack:
    return load_stack([name], options.weights, options.device, replace(options, offline=True))


def _timed(stack: RewardStack, name: str) -> tuple[ScoreResult, float]:
    """The column, and seconds an image; the first time only warms up."""
    stack.score(golden_batch(name))
    batch = golden_batch(name)
    started = time.perf_counter()
    result = stack.score(batch)[name]
    return result, (time.perf_counter() - started) / len(batch)


def _within(seconds: float, what: str, work: Callable[[], T]) -> T:
    """What `work` returns. One that takes too long is left behind in its thread.

    Raises:
        FailedRewardError: It took too long, or ended in an error.
    """
    answers: list[T] = []
    errors: list[str] = []

    def do() -> None:
        try:
            answers.append(work())
        except SCORING as error:
            errors.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=do, name="checkup", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise FailedRewardError(f"it did not {what} within {seconds:g} s")
    if not answers:
        raise FailedRewardError(f"it could not {what}: {errors[0] if errors else 'the error stands above'}")
    return answers[0]


def _verdict(
    version: str, result: ScoreResult, values: Values, recorded: Mapping[str, Any] | None
) -> tuple[Level, str, float | None]:
    failures = [reason for reason in result.reasons if reason and not isinstance(reason, Abstained)]
    if failures:
        return "problem", failures[0], None
    if all(value is None for value in values):
        return "note", f"it has nothing to say of the images: {result.reasons[0]}", None
    if recorded is None:
        return "ok", "it scores; there are no recorded values yet", None
    if recorded["version"] != version:
        return "note", f"it scores; what was recorded is of version {recorded['version']}", None
    difference = _difference(values, recorded["values"])
    if difference is None:
        return "problem", "other images have a value than when it was recorded", None
    if difference > recorded["tolerance"]:
        words = f"its values differ from those recorded by up to {difference:.2g}"
        return "problem", f"{words}, and by {recorded['tolerance']:g} at most they may", difference
    return "ok", f"as recorded, within {recorded['tolerance']:g}", difference


def _difference(values: Values, recorded: Sequence[float | None]) -> float | None:
    """The largest; None where one has a value and the other has none."""
    pairs = list(zip(values, recorded, strict=False))
    if len(values) != len(recorded) or any((one is None) != (other is None) for one, other in pairs):
        return None
    both = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return max(both, default=0.0)


@cache
def _portraits() -> tuple[UInt8[Tensor, "sample 3 height width"], tuple[str, ...]]:
    """Eight portraits of fixed attributes, four each of two prompts; a damaged one last."""
    attributes: list[Attributes] = [
        {slot.name: slot.labels[(shift + place) % len(slot.labels)] for place, slot in enumerate(SLOTS)}
        for shift in range(PROMPTS)
    ]
    drawn = [torch.from_numpy(render(one, seed).copy()) for one in attributes for seed in range(PER_PROMPT)]
    images = torch.stack(drawn).permute(0, 3, 1, 2).contiguous()
    images[-1] = images[-1].flip(0)  # red for blue: what the prompt asks for is not there
    return images, tuple(caption(one) for one in attributes for _ in range(PER_PROMPT))


def _hashes() -> list[str]:
    return [image_hash(image) for image in _portraits()[0]]


@cache
def _signs() -> tuple[UInt8[Tensor, "sample 3 height width"], tuple[str, ...]]:
    """Four signs with a word each; the last one says another than its prompt."""
    drawn = []
    for word in WORDS:
        sign = Image.new("RGB", (256, 96), "white")
        ImageDraw.Draw(sign).text((24, 24), word, "black", ImageFont.load_default(40))
        drawn.append(torch.frombuffer(bytearray(sign.tobytes()), dtype=torch.uint8).reshape(96, 256, 3))
    asked = (*WORDS[:-1], WORDS[0])
    prompts = tuple(f'a sign that says "{word}"' for word in asked)
    return torch.stack(drawn).permute(0, 3, 1, 2).contiguous(), prompts


def golden_batch(name: str) -> ScoreBatch:
    """Portraits with their prompts, each held against the one before; for a reward that reads, signs."""
    images, prompts = _signs() if name == "ocr" else _portraits()
    groups = [index // PER_PROMPT for index in range(len(images))]
    return ScoreBatch(images, prompts, groups, references=images.roll(1, 0))


def record(options: Options) -> dict[str, Any]:
    """What this machine's rewards say about the portraits, with what they were computed by."""
    checkups = [one for one in examine_rewards(options, golden={}) if one.values and one.level == "ok"]
    return {
        "images_sha256": _hashes(),
        "recorded_with": {name: version(name) for name in _LIBRARIES},
        "rewards": {
            one.name: {
                "version": one.version,
                "tolerance": _TOLERANCES.get(one.name, _TOLERANCE),
                "values": [None if value is None else round(value, 6) for value in one.values],
            }
            for one in checkups
            if one.name in STOCK
        },
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(json.dumps(record(Options(WEIGHTS)), indent=1) + "\n")
