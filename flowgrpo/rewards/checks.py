"""What a reward may answer, and what becomes of an answer that it may not give: a gap with its reason."""

from __future__ import annotations

import sys
from typing import Final

import torch
from torch import Tensor

from flowgrpo.rewards.base import Reward, ScoreBatch, ScoreResult, unscored

# What code of others may raise while it scores. Running out of memory, although a RuntimeError, and being
# interrupted are not a reward's failure.
SCORING: Final[tuple[type[Exception], ...]] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


_PLAIN: Final = ("onnxruntime.capi.onnxruntime_pybind11_state", "safetensors")
"""Modules of libraries whose errors are nothing more special than an Exception."""


def foreign_errors() -> tuple[type[Exception], ...]:
    """The errors of those libraries, as far as they are loaded: what they raise is a reward's failure too."""
    loaded = [vars(sys.modules[name]).values() for name in _PLAIN if name in sys.modules]
    return tuple(
        one for names in loaded for one in names
        if isinstance(one, type) and issubclass(one, Exception) and one is not Exception
    )  # fmt: skip


class FailedRewardError(RuntimeError):
    """A reward has no column for a batch; the text is the whole reason, a sentence without its full stop."""


def checked(reward: Reward, batch: ScoreBatch) -> ScoreResult:
    """The reward's column, NaN with a reason wherever it is no number. Never raises for the reward's sake.

    Raises:
        torch.OutOfMemoryError: Not the reward but the size of the batch is to blame.
    """
    name = reward.spec.name
    try:
        result: object = reward.score(batch)
    except torch.OutOfMemoryError:
        raise
    except FailedRewardError as error:
        return unscored(len(batch), str(error))
    except (*SCORING, *foreign_errors()) as error:
        return unscored(len(batch), f"the {name} reward failed: {type(error).__name__}: {error}")
    complaint = _complaint(result, len(batch))
    if complaint is not None or not isinstance(result, ScoreResult):
        return unscored(len(batch), f"the {name} reward {complaint}")
    return _with_gaps(name, result)


def _complaint(result: object, count: int) -> str | None:
    """What is wrong with the form of an answer."""
    if not isinstance(result, ScoreResult):
        return f"returned a {type(result).__name__} instead of a ScoreResult"
    values: object = result.values
    if not isinstance(values, Tensor):
        return f"returned its values as a {type(values).__name__} instead of a tensor"
    if values.shape != (count,):
        got = "x".join(map(str, values.shape)) or "1"
        return f"returned {got} values for {count} images"
    if len(result.reasons) != count:
        return f"returned {len(result.reasons)} reasons for {count} images"
    return None


def _with_gaps(name: str, result: ScoreResult) -> ScoreResult:
    values = result.values.detach().float().cpu()
    missing = ~values.isfinite()
    reasons = tuple(
        (reason or f"the {name} reward returned a value that is no number") if gone else None
        for reason, gone in zip(result.reasons, missing.tolist(), strict=True)
    )
    values = values.masked_fill(missing, float("nan"))
    return ScoreResult(values, reasons, result.details, result.warning or constant_warning(name, values))


def constant_warning(name: str, values: Tensor) -> str | None:
    """A warning when a reward cannot tell the images apart."""
    present = values[~values.isnan()]
    if len(present) < 2 or bool((present != present[0]).any()):
        return None
    same = f"the same value, {present[0]:.4g}"
    return f"the {name} reward gave all {len(present)} images {same}: it teaches nothing here"


def own_warning(name: str, result: ScoreResult) -> str | None:
    """What a reward says of its column itself: without the warning that it cannot tell the images apart."""
    return result.warning if result.warning != constant_warning(name, result.values) else None
