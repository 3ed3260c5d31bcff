"""What went into a run and what came of it: its checkpoints, whom they come from, its settings."""

from __future__ import annotations

from dataclasses import dataclass

from storage import ancestry, checkpoints
from storage.ancestry import Step, VotesBehind
from storage.models import Run
from ui import run_words
from ui.components import render
from ui.language import t
from ui.run_files import config_path, config_url, download_name
from ui.services import Services


@dataclass(frozen=True)
class Origin:
    """One step of the line, the base first.

    Attributes:
        run: id of what made it; empty for a base or an imported file.
        facts: (what, how much) that went into it.
    """

    name: str
    run: str
    facts: list[tuple[str, str]]


def about_html(services: Services, run: Run | None) -> str:
    """The section below the samples."""
    if run is None:
        return ""
    db = services.db
    made = [one for one in checkpoints.checkpoints_of_run(db, run.id) if one.state == "committed"]
    newest = made[-1].id if made else run.parent_checkpoint_id
    found = ancestry.lineage_of(db, newest)
    return render(
        "about.html",
        run=run,
        checkpoints=made,
        line=[origin(step) for step in reversed(found.steps)],
        exports=found.exports if made else [],
        followed=found.runs if made else [],
        parent=checkpoints.get_checkpoint(db, run.parent_checkpoint_id),
        setup=run_words.setup(run.config),
        again_needs=[t(f"train.again_{name}") for name in _needs(run)],
        again=f"python app.py run {download_name(run)}",
        file=config_url(run.id) if config_path(db, run.id) else "",
    )


def _needs(run: Run) -> list[str]:
    """What of people a run takes that is not in its file."""
    rewards = {
        name.partition(":")[0] for name, weight in run.config.get("reward_weights", {}).items() if weight
    }
    listens = bool(run.config.get("people")) or "human" in rewards
    return [*(["ratings"] if run.config.get("ratings") else []), *(["people"] if listens else [])]


def origin(step: Step) -> Origin:
    """One step as the card shows it."""
    if step.run is None:
        imported = step.checkpoint.origin
        return Origin(step.checkpoint.name, "", [(t("train.line_file"), str(imported))] if imported else [])
    return Origin(step.checkpoint.name, step.run.id, _facts(step, step.run))


def _facts(step: Step, run: Run) -> list[tuple[str, str]]:
    known = step.prompt_set
    prompts = f"{known.name} v{known.version} ({step.num_prompts})" if known else str(step.num_prompts)
    rewards = ", ".join(f"{name} {weight:g}" for name, weight in step.rewards.items())
    folder = (run.config.get("algorithm") or {}).get("folder")
    facts = [
        (t("train.line_images"), str(folder or "")),
        (t("train.line_prompts"), "" if folder else prompts),
        (t("train.line_rewards"), rewards),
        *((t("train.line_votes"), _votes(votes)) for votes in step.votes),
    ]
    return [(name, value) for name, value in facts if value]


def _votes(votes: VotesBehind) -> str:
    words = t("train.line_vote_words", count=votes.count, hash=votes.hash[:8])
    return f"{words}, {t('train.line_taken_back', count=votes.taken_back)}" if votes.taken_back else words
