"""Rewards in a process of their own: one that hangs, crashes or talks nonsense costs its scores and no more.

The process starts with the reward and again after it has died, a few times in a row; it ends with the one
that started it. What goes over the pipes is JSON and raw bytes (`flowgrpo.rewards.wire`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.children import Child, child_command
from flowgrpo.rewards.options import check_schema, with_defaults
from flowgrpo.rewards.plugins import FoundPlugin
from flowgrpo.rewards.wire import Header, batch_message, read_result

_SPEC: Final = TypeAdapter(RewardSpec)


@dataclass(frozen=True)
class Limits:
    """What a child may take."""

    load_seconds: float = 300.0
    """To start and to load the reward."""
    batch_seconds: float = 60.0
    """To score a batch, however small."""
    image_seconds: float = 2.0
    """What each image adds to that."""
    failures: int = 3
    """Ends in a row, by a crash or a limit, after which it rests."""
    rest_seconds: float = 600.0
    """How long it then is not started again."""


@dataclass(frozen=True)
class Described:
    """What a plug-in says of itself before it loads."""

    spec: RewardSpec
    options: Mapping[str, Any]


def describe(
    plugin: FoundPlugin, limits: Limits | None = None, command: Sequence[str] | None = None
) -> Described:
    """Asks a plug-in, in a process of its own, what it is.

    Raises:
        FailedRewardError: It cannot be used; the text says why.
    """
    if plugin.reason is not None:
        raise FailedRewardError(plugin.reason)
    child = Child(plugin.name, command or child_command())
    try:
        return described_by(child, plugin, (limits or Limits()).load_seconds)
    finally:
        child.end()


def described_by(child: Child, plugin: FoundPlugin, seconds: float) -> Described:
    """The same, from a process that is there already."""
    header, _ = child.ask({"op": "describe", "target": plugin.target}, seconds=seconds)
    _refuse_failure(plugin, header)
    spec, options = _spec_of(plugin, header), header.get("options")
    if not isinstance(options, dict):
        raise FailedRewardError(f"{plugin.package} describes the options of {plugin.name} by no JSON object")
    try:
        check_schema(options)
    except (ValueError, AttributeError, TypeError) as error:
        raise FailedRewardError(f"{plugin.package} cannot offer {plugin.name}: {error}") from error
    return Described(spec, options)


def _refuse_failure(plugin: FoundPlugin, header: Header) -> None:
    if header.get("ok") is not True:
        raise FailedRewardError(f"{plugin.package} could not load {plugin.name}: {header.get('reason')}")


def _spec_of(plugin: FoundPlugin, header: Header) -> RewardSpec:
    """The spec of a message.

    Raises:
        FailedRewardError: It is none that a page could show.
    """
    try:
        spec: RewardSpec = _SPEC.validate_python(header.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise FailedRewardError(
            f"{plugin.package} has no usable spec for {plugin.name}: {where}: {first['msg']}"
        ) from error
    complaint = spec_complaint(spec, plugin.name)
    if complaint:
        raise FailedRewardError(f"{plugin.package} has no usable spec for {plugin.name}: {complaint}")
    return spec


def spec_complaint(spec: RewardSpec, name: str) -> str | None:
    """What keeps a spec from being used, or None."""
    if spec.name != name:
        return f"it calls itself {spec.name}"
    if not (spec.title.strip() and spec.version.strip()):
        return "title and version must say something"
    if not spec.low < spec.high:
        return f"its scale must have low < high, got {spec.low:g} and {spec.high:g}"
    if (spec.kind == "gate") != (spec.threshold is not None):
        return "a gate, and only a gate, has a threshold"
    return None


class IsolatedReward:
    """A plug-in that scores in a process of its own.

    Args:
        options: Of the plug-in; defaults are filled in.
        name: Of the column, where it is not the plug-in's.
        command: Another way to start the child.

    Attributes:
        make_room: Called when memory ran out in the child; true where somebody has left the device for it,
            and the batch is worth another try.

    Raises:
        FailedRewardError: It cannot be loaded; the text says why.
    """

    make_room: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        plugin: FoundPlugin,
        options: Mapping[str, Any] | None = None,
        device: str = "cpu",
        limits: Limits | None = None,
        command: Sequence[str] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        if plugin.reason is not None:
            raise FailedRewardError(plugin.reason)
        self.plugin, self.given, self.device = plugin, dict(options or {}), device
        self.limits, self.command = limits or Limits(), command
        self.name = name or plugin.name
        self._lock = threading.Lock()
        self._failures, self._rests_until, self._last_reason = 0, 0.0, ""
        self._child: Child | None = None
        self._newest: Child | None = None
        self._is_interrupted = False
        self.spec = self._start()

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """One value per image.

        Raises:
            FailedRewardError: The process gave none; the text says why.
        """
        with self._lock:
            child = self._running()
            header, data = batch_message(batch)
            seconds = self.limits.batch_seconds + self.limits.image_seconds * len(batch)
            try:
                said, values = child.ask({"op": "score", **header}, data, seconds=seconds)
                if said.get("is_short") is True and self.make_room():
                    said, values = child.ask({"op": "score", **header}, data, seconds=seconds)
                result = self._read(said, values)
            except FailedRewardError as error:
                self._refuse_when_interrupted()
                self._note(str(error))
                raise
            self._failures = 0
        if result is None:
            raise FailedRewardError(str(said.get("reason")))
        return result

    def close(self) -> None:
        """Ends the process; the next batch starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def interrupt(self) -> None:
        """Ends what is being scored or loaded, from another thread; nothing is scored any more."""
        self._is_interrupted = True
        if self._newest is not None:
            self._newest.kill()

    def _refuse_when_interrupted(self) -> None:
        if self._is_interrupted:
            raise FailedRewardError(f"the {self.spec.name} reward was not waited for: the run stops")

    def _read(self, said: Header, values: bytes) -> ScoreResult | None:
        """The column; None where the child says that there is none."""
        if said.get("ok") is not True:
            return None
        try:
            return read_result(said, values)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise FailedRewardError(
                f"the {self.spec.name} reward sent no column that can be read: {why}"
            ) from error

    def _note(self, reason: str) -> None:
        """The child is of no use any more."""
        self.close()
        self._failures += 1
        self._last_reason = reason
        if self._failures >= self.limits.failures:
            self._failures, self._rests_until = 0, time.monotonic() + self.limits.rest_seconds

    def _running(self) -> Child:
        self._refuse_when_interrupted()
        if self._child is None:
            if time.monotonic() < self._rests_until:
                raise FailedRewardError(
                    f"{self._last_reason}, {self.limits.failures} times in a row: it is tried again after "
                    f"{self.limits.rest_seconds:g} s"
                )
            try:
                spec = self._start()
            except FailedRewardError as error:
                self._note(str(error))
                raise
            if spec.version != self.spec.version:
                self.close()
                raise FailedRewardError(
                    f"the {spec.name} reward is another version now ({spec.version} instead of "
                    f"{self.spec.version}): restart what scores with it"
                )
        assert self._child is not None
        return self._child

    def _start(self) -> RewardSpec:
        """Starts a child and loads the plug-in in it."""
        plugin, seconds = self.plugin, self.limits.load_seconds
        child = self._newest = Child(plugin.name, self.command or child_command())
        if self._is_interrupted:
            child.kill()
        try:
            described = described_by(child, plugin, seconds)
            options = with_defaults(described.options, self.given)
            load = {"op": "load", "target": plugin.target, "options": options, "device": self.device}
            header, _ = child.ask(load, seconds=seconds)
            _refuse_failure(plugin, header)
            spec = _spec_of(plugin, header)
        except ValueError as error:
            child.end()
            raise FailedRewardError(f"the {plugin.name} reward cannot be set up: {error}") from error
        except FailedRewardError:
            child.end()
            raise
        self._child = child
        return replace(spec, name=self.name, version=plugin.version_of(spec, options))
