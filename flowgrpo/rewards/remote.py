"""`remote`: a reward that another program computes, asked over HTTP.

GET `<url>/spec` says what it is; POST `<url>/score` takes PNG images in base64 with their prompts and answers
values and reasons. docs/remote_reward/README.md is the protocol, with a server to begin from.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import UInt8
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from flowgrpo.rewards.base import Abstained, Kind, RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.httpjson import NoAnswerError, Server

KINDS: Final[tuple[Kind, ...]] = ("pointwise", "gate", "monitor")
"""What may be asked in pieces: values that depend on the image and its prompt alone."""
_LONGEST_PAUSE: Final = 8.0
_LOOK_SECONDS: Final = 0.2
"""How often one that waits looks whether it still should."""


@dataclass(frozen=True)
class Asking:
    """How a server is asked.

    Attributes:
        timeout: Seconds for an answer.
        retries: Further tries after a failure that may pass.
        pause: Seconds before the first of them; doubled each time, 8 at most.
        batch_size: Images in one request.
        concurrency: Requests at once.
    """

    timeout: float = 30.0
    retries: int = 2
    pause: float = 0.5
    batch_size: int = 16
    concurrency: int = 4


@dataclass(frozen=True)
class _Spec:
    """What `/spec` answers."""

    version: str
    title: str = "remote reward"
    kind: str = "pointwise"
    low: float = 0.0
    high: float = 1.0
    licence: str = "see the server"
    measures: str = ""
    threshold: float | None = None


_SPEC: Final = TypeAdapter(_Spec)


class RemoteReward:
    """Values from a server, for images and their prompts.

    Args:
        url: Where it is: "http://127.0.0.1:8765".
        name: Of the column.

    Raises:
        ValueError: The address or a number cannot be used.
        FailedRewardError: The server does not say what it is.
    """

    def __init__(self, url: str, asking: Asking | None = None, name: str = "remote") -> None:
        self.asking = asking or Asking()
        if min(self.asking.batch_size, self.asking.concurrency) < 1 or self.asking.retries < 0:
            raise ValueError(
                "expected at least one image a request, one request at once and no negative number of "
                f"retries, got {self.asking.batch_size}, {self.asking.concurrency} and {self.asking.retries}"
            )
        self.server = Server(url, self.asking.timeout)
        self._interrupted = threading.Event()
        try:
            self.spec = _read_spec(name, self._insist("spec"))
        except NoAnswerError as error:
            raise FailedRewardError(f"the {name} reward {error}") from error

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """One value per image; NaN with a reason for the images of a request that failed."""
        size, given_up = self.asking.batch_size, threading.Event()
        starts = range(0, len(batch), size)
        with ThreadPoolExecutor(self.asking.concurrency, thread_name_prefix="remote reward") as pool:
            parts = list(pool.map(lambda start: self._piece(batch, start, given_up), starts))
        values = torch.cat([values for values, _ in parts])
        return ScoreResult(values, tuple(reason for _, reasons in parts for reason in reasons))

    def _piece(
        self, batch: ScoreBatch, start: int, given_up: threading.Event
    ) -> tuple[Tensor, Sequence[str | None]]:
        """The values of one request. Once one was in vain, those that have not begun are not sent."""
        images = batch.images[start : start + self.asking.batch_size]
        prompts = list(batch.prompts[start : start + self.asking.batch_size])
        try:
            if given_up.is_set():
                raise NoAnswerError(f"was not asked again: {self.server.url} failed before", is_passing=False)
            said = self._insist("score", {"images": [_png(image) for image in images], "prompts": prompts})
            return self._column(said, len(images))
        except NoAnswerError as error:
            if error.is_passing:
                given_up.set()
            return torch.full((len(images),), float("nan")), [f"the {self.spec.name} reward {error}"] * len(
                images
            )

    def _insist(self, path: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
        """Asks until there is an answer, or no further try is left."""
        for attempt in range(self.asking.retries + 1):
            try:
                return self._ask(path, question)
            except NoAnswerError as error:
                if not error.is_passing or attempt == self.asking.retries:
                    raise
            self._interrupted.wait(min(self.asking.pause * 2**attempt, _LONGEST_PAUSE))
        raise AssertionError("the last try returns or raises")

    def _ask(self, path: str, question: dict[str, Any] | None) -> dict[str, Any]:
        """One try, in a thread that is left to itself when nobody waits for it any more."""
        answers: list[dict[str, Any]] = []
        failures: list[NoAnswerError] = []
        done = threading.Event()

        def ask() -> None:
            try:
                answers.append(self.server.ask(path, question))
            except NoAnswerError as error:
                failures.append(error)
            finally:
                done.set()

        if not self._interrupted.is_set():
            threading.Thread(target=ask, name="remote reward request", daemon=True).start()
        while not (self._interrupted.is_set() or done.wait(_LOOK_SECONDS)):
            pass
        if answers:
            return answers[0]
        if failures:
            raise failures[0]
        said = "was not waited for: the run stops" if self._interrupted.is_set() else "could not be asked"
        raise NoAnswerError(said, is_passing=False)

    def interrupt(self) -> None:
        """Ends all waiting for answers, from another thread; nothing is asked any more."""
        self._interrupted.set()

    def _column(self, said: dict[str, Any], count: int) -> tuple[Tensor, Sequence[str | None]]:
        version, values = said.get("version"), said.get("values")
        if version != self.spec.version:
            raise NoAnswerError(
                f"is version {version} now and was {self.spec.version} when the run began", is_passing=False
            )
        if not isinstance(values, list) or len(values) != count:
            got = f"{len(values)} values" if isinstance(values, list) else "no list of values"
            raise NoAnswerError(f"got {got} for {count} images from {self.server.url}", is_passing=False)
        reasons = [self._reason(said, index, value) for index, value in enumerate(values)]
        numbers = [float(value) if _is_number(value) else float("nan") for value in values]
        return torch.tensor(numbers), reasons

    def _reason(self, said: dict[str, Any], index: int, value: object) -> str | None:
        """The server's, where it gave one for a value that is missing."""
        if _is_number(value):
            return None
        if value is not None:
            return f"the {self.spec.name} reward returned {str(value)[:40]!r}, which is no number"
        reason = _at(said.get("reasons"), index)
        if not isinstance(reason, str) or not reason.strip():
            return f"the {self.spec.name} reward gave neither a value nor a reason"
        return Abstained(reason) if _at(said.get("abstained"), index) is True else reason


def _read_spec(name: str, said: dict[str, Any]) -> RewardSpec:
    try:
        spec = _SPEC.validate_python(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise FailedRewardError(
            f"the {name} reward's /spec is not usable: {where}: {first['msg']}"
        ) from error
    kind = next((kind for kind in KINDS if kind == spec.kind), None)
    if kind is None or not spec.version.strip() or not spec.low < spec.high:
        raise FailedRewardError(
            f"the {name} reward's /spec is not usable: expected a version, low < high and a kind of "
            f"{', '.join(KINDS)}; got {spec.version!r}, {spec.low:g} and {spec.high:g}, {spec.kind!r}"
        )
    if (kind == "gate") != (spec.threshold is not None):
        raise FailedRewardError(
            f"the {name} reward's /spec is not usable: a gate, and only it, has a threshold"
        )
    return RewardSpec(
        name, spec.title, kind, spec.low, spec.high, spec.version, spec.licence, spec.measures,
        threshold=spec.threshold,
    )  # fmt: skip


def _png(image: UInt8[Tensor, "3 height width"]) -> str:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def _is_number(value: object) -> bool:
    """Whether it is one that a float can hold."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**100)


def _at(items: object, index: int) -> object:
    return items[index] if isinstance(items, list) and index < len(items) else None
