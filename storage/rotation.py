"""Which backups stay: many of the last hour, one an hour for a day, one a day for longer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Retention:
    """How many stay.

    Attributes:
        newest: of the last ones, all of them.
        hours: hours of which the last one stays.
        days: days (UTC) of which the last one stays.
    """

    newest: int = 12
    hours: int = 24
    days: int = 14

    @property
    def most(self) -> int:
        """No more than this many stay."""
        return self.newest + self.hours + self.days


def kept(times: Iterable[datetime], retention: Retention) -> set[datetime]:
    """Those that stay. Hours and days without a backup are not counted, so that a folder that nobody opened
    for a year has what it had."""
    ordered = sorted(set(times), reverse=True)
    chosen = set(ordered[: retention.newest])
    chosen |= set(_last_of_each(ordered, "%Y-%m-%d %H")[: retention.hours])
    return chosen | set(_last_of_each(ordered, "%Y-%m-%d")[: retention.days])


def _last_of_each(ordered: list[datetime], span: str) -> list[datetime]:
    last: dict[str, datetime] = {}
    for time in ordered:
        last.setdefault(time.strftime(span), time)
    return list(last.values())
