"""Rewards that others wrote: packages that name a `Plugin` under the entry point group `flowgrpo.rewards`.

Finding them reads metadata alone. What a plug-in says of itself, and every score, comes from a child process
of its own (`flowgrpo.rewards.isolated`), so a broken one is a sentence and breaks nothing.
docs/extending/reward.md shows how to write one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from flowgrpo.rewards.base import Reward, RewardSpec

GROUP: Final = "flowgrpo.rewards"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TARGET: Final = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True)
class Plugin:
    """What an entry point of the group names.

    Attributes:
        spec: What the reward is, told before anything is loaded; its name is the entry point's.
        load: Makes the reward from its options (checked, with defaults) and a device such as "cuda:0". May
            take its time and raise; the sentence is shown.
        options: JSON Schema of the options, as far as `flowgrpo.rewards.options` understands it.
    """

    spec: RewardSpec
    load: Callable[[Mapping[str, Any], str], Reward]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundPlugin:
    """An entry point of the group, seen and not imported.

    Attributes:
        package: The distribution that it comes from, with its version: "warmth 0.2.0".
        target: "package.module:attribute".
        reason: Why it cannot be used, without a full stop; None where nothing speaks against it yet.
    """

    name: str
    package: str
    target: str
    reason: str | None = None

    def version_of(self, spec: RewardSpec, options: Mapping[str, Any]) -> str:
        """A version that changes with the reward's own, its package's and its options."""
        parts = [spec.version, self.package.rpartition(" ")[2]]
        if options:
            said = json.dumps(options, sort_keys=True).encode()
            parts.append(hashlib.sha256(said).hexdigest()[:8])
        return "/".join(parts)


def find_plugins(taken: Iterable[str] = ()) -> dict[str, FoundPlugin]:
    """Every plug-in that is installed here, by name, in order.

    Args:
        taken: Names of the studio's own rewards.
    """
    own = set(taken)
    by_name: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        by_name.setdefault(point.name, []).append(point)
    return {name: _found(name, by_name[name], is_taken=name in own) for name in sorted(by_name)}


def _found(name: str, points: list[EntryPoint], *, is_taken: bool) -> FoundPlugin:
    packages = sorted({_package(point) for point in points})
    if is_taken:
        reason: str | None = f"the studio has its own {name}: {packages[0]} must name its reward otherwise"
    elif len(packages) > 1:
        reason = f"{' and '.join(packages)} both bring a reward {name}: uninstall one of them"
    elif len(points) > 1 and len({point.value for point in points}) > 1:
        reason = f"{packages[0]} names {name} twice"
    elif not _NAME.fullmatch(name):
        reason = "a name has small letters, digits and _, a letter first, and 40 characters at most"
    elif not _TARGET.fullmatch(points[0].value):
        reason = f"{packages[0]} names {points[0].value} instead of package.module:attribute"
    else:
        reason = None
    return FoundPlugin(name, packages[0], points[0].value, reason)


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package 0"
