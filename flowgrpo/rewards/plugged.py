"""The entries of rewards that others compute: plug-ins, each in its process, and `remote`, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from flowgrpo.rewards.base import Reward, RewardSpec
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.entry import Entry
from flowgrpo.rewards.fetch import Options, Weights
from flowgrpo.rewards.httpjson import Server
from flowgrpo.rewards.isolated import Described, IsolatedReward, Limits, describe
from flowgrpo.rewards.options import read_options
from flowgrpo.rewards.plugins import FoundPlugin, find_plugins
from flowgrpo.rewards.remote import RemoteReward

NO_ADDRESS: Final = "it needs an address behind a colon, such as remote:http://127.0.0.1:8765"
_REMOTE: Final = RewardSpec(
    "remote", "remote reward", "pointwise", 0.0, 1.0, version="", licence="see the server",
    measures="what another program computes, asked over HTTP",
)  # fmt: skip
CARD_SECONDS: Final = 20.0
"""A plug-in may take to say what it is for its card; for one that is to be loaded, people wait longer."""
_HOW: Final = "its options as name=value, with commas between them"


def plugin_entries(taken: Iterable[str]) -> dict[str, Entry]:
    """Name -> entry of every installed plug-in; nothing is imported for it.

    Args:
        taken: Names of the studio's own rewards. A plug-in of such a name is disabled, and stands beside the
            reward with its package's name added.
    """
    own = set(taken)
    found = find_plugins(own).items()
    named = {f"{name}@{plugin.package}" if name in own else name: plugin for name, plugin in found}
    return {name: _Plugged(plugin).entry() for name, plugin in named.items()}


class _Plugged:
    """One plug-in, asked once what it is; where it gave no answer, again by who waits longer for one."""

    def __init__(self, plugin: FoundPlugin) -> None:
        self.plugin = plugin
        self._answer: Described | FailedRewardError | None = None
        self._waited = 0.0
        self._lock = threading.Lock()

    def entry(self) -> Entry:
        return Entry(self.card, self.load, self.needs, options=_HOW, ask=self.described)

    def described(self, seconds: float = Limits.load_seconds) -> Described:
        """Raises FailedRewardError where it is broken, or says nothing within so many seconds."""
        with self._lock:
            if not isinstance(self._answer, Described) and seconds > self._waited:
                self._waited = seconds
                try:
                    self._answer = describe(self.plugin, Limits(load_seconds=seconds))
                except FailedRewardError as error:
                    self._answer = error
        if not isinstance(self._answer, Described):
            raise FailedRewardError(str(self._answer))
        return self._answer

    def card(self, name: str, option: str) -> RewardSpec:
        """Raises FailedRewardError where it is broken, LookupError for options that it does not take."""
        described = self.described()
        try:
            if option:  # without any, what it needs is a matter of its standing
                read_options(described.options, option)
        except ValueError as error:
            raise LookupError(f'the reward "{name}" does not take "{option}": {error}') from error
        return replace(described.spec, name=f"{name}:{option}" if option else name, version="")

    def needs(self, option: str, options: Options) -> Sequence[Weights]:
        """No files that the studio knows of; ValueError where an option has to be set."""
        read_options(self.described().options, option)
        return ()

    def load(self, card: RewardSpec, option: str, options: Options) -> Reward:
        given = read_options(self.described().options, option)
        return IsolatedReward(self.plugin, given, options.device, name=card.name)


def disabled(name: str, reason: str) -> dict[str, object]:
    """The card of a plug-in that is broken, with the keys of `registry.card`."""
    return _blank(name) | {"direction": "disabled", "state": "unavailable", "weights": f"disabled: {reason}"}


def unasked(name: str) -> dict[str, object]:
    """The card of a plug-in that has not said yet what it is, with the same keys."""
    words = "it has not said yet what it is"
    return _blank(name) | {"direction": "not known yet", "state": "not asked", "weights": words}


def _blank(name: str) -> dict[str, object]:
    return {
        "name": name, "title": name, "kind": "pointwise", "measures": "", "low": 0.0, "high": 1.0,
        "needs": [], "threshold": None, "licence": "", "size_mb": 0.0, "embedded": False, "device": "cpu",
        "missing": [], "options": "", "notice": "", "notice_sha256": "", "accepted": True,
    }  # fmt: skip


def _remote_card(name: str, option: str) -> RewardSpec:
    if not option:
        return _REMOTE
    try:
        Server(option)
    except ValueError as error:
        raise LookupError(f'the reward "{name}" cannot ask "{option}": {error}') from error
    return replace(_REMOTE, name=f"{name}:{option}", title=f"remote reward at {option}")


def _remote_needs(option: str, options: Options) -> Sequence[Weights]:
    if not option:
        raise ValueError(NO_ADDRESS)
    return ()


def _load_remote(card: RewardSpec, option: str, options: Options) -> Reward:
    if not option:
        raise LookupError(NO_ADDRESS)
    return RemoteReward(option, name=card.name)


REMOTE: Final = Entry(
    _remote_card, _load_remote, _remote_needs, device="cpu", options="the server's address: http://host:port"
)
