"""Whose reward weights a new run starts with: those fitted to people's votes once they are applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowgrpo.config import RunConfig
from storage import snapshots
from storage.engine import Database
from ui.components import render


@dataclass(frozen=True)
class FittedWeights:
    """Weights from votes, the id of the fit, and a sentence that says which votes those are."""

    fit: str
    weights: Mapping[str, float]
    words: str


def fitted(db: Database, shown: tuple[str, ...] | None = None) -> FittedWeights | None:
    """Those that are applied; None where none are, and the program's own count.

    Args:
        shown: the rewards that a form has a field for; the sentence names what it leaves out.
    """
    fit = snapshots.applied_fit(db, "weights")
    if fit is None:
        return None
    weights = {str(name): round(float(value), 4) for name, value in fit.detail["weights"].items() if value}
    people = int(fit.detail["annotators"])
    words = (
        f"These weights follow {fit.num_pairs:,} choices of {people} {'person' if people == 1 else 'people'} "
        f"(snapshot {str(fit.detail['snapshot_hash'])[:8]}); they foresee {fit.accuracy or 0:.0%} of those "
        "that they were not fitted to."
    )
    others = sorted(set(weights) - set(shown)) if shown is not None else []
    if others:
        words += f" This form has no field for {', '.join(others)}: start_run of the API takes them all."
    return FittedWeights(fit.id, weights, words)


def words_html(found: FittedWeights | None) -> str:
    """Whose votes the weights follow, as a line of the page; empty where nobody's."""
    return render("weights.html", words=found.words if found else "")


def named(db: Database, config: RunConfig) -> RunConfig:
    """The config with the fit that its weights are from, where they are those that are applied."""
    found = fitted(db)
    if found is None or config.reward_weights != found.weights:
        return config
    return config.model_copy(update={"weights_from": found.fit})
