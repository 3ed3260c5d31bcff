"""What holds for all runs here: when one counts as stalled, and which of its checkpoints are kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from storage.engine import Database
from storage.settings import get_setting, put_setting

KEY = "runs"


@dataclass(frozen=True)
class RunRules:
    """Every rule with its unit."""

    stall_minutes: float = 10.0
    """Minutes without progress after which a run counts as stalled; ten times its pace if that is longer."""
    end_stalled: bool = False
    """Whether a stalled run is ended by itself, after as long again; else a person decides."""
    keep_all_up_to: int = 20
    """As long as a run has no more checkpoints than these, all of them stay."""
    keep_last: int = 2
    """Checkpoints of a run, the newest, that always stay; 2 at least."""
    keep_every: int = 10
    """Of the older ones every so manieth stays; 0 for none."""


def run_rules(db: Database) -> RunRules:
    """The rules as they are set here; those that nobody set are as they come."""
    said: dict[str, Any] = get_setting(db, KEY, {})
    known = {field.name for field in fields(RunRules)}
    return RunRules(**{name: value for name, value in said.items() if name in known})


def set_run_rules(db: Database, rules: RunRules, by: str = "local") -> None:
    """Sets all of them, audited; ValueError with a sentence for what no rule can be."""
    if not 0.01 <= rules.stall_minutes <= 24 * 60:
        raise ValueError("the minutes without progress are between 0.01 and 1,440: type another number")
    if not 2 <= rules.keep_last <= 1000:
        raise ValueError("at least the last 2 checkpoints of a run are kept, and at most 1,000 need be")
    if not (0 <= rules.keep_every <= 1000 and 0 <= rules.keep_all_up_to <= 100_000):
        raise ValueError("expected how many checkpoints to keep as a whole number that is not negative")
    put_setting(db, KEY, asdict(rules), by)
