"""What a complete run is followed by: where there are annotators, a blind test of what it made.

Part of the shim, which stays small: a run's settings are read as they are stored, without flowgrpo.config.
"""

from __future__ import annotations

from storage import blind_requests, checkpoints, runs, users
from storage.engine import Database
from storage.models_judging import Job

MAX_PROMPTS = 24
"""Held-out ones, the first: more pairs than people judge in a sitting."""
SEEDS = (7, 8)
_AS_THE_RUN_DREW = ("num_steps", "guidance_scale", "width", "height")


def ask_annotators(db: Database, run_id: str) -> Job | None:
    """Queues a blind test of the run's last checkpoint against what it began from, on its held-out prompts
    and with its own steps and guidance; the engine draws the images, then the test is open to everybody.

    Returns:
        None where nobody is an annotator, nothing was saved or no prompt was held out.
    """
    run = runs.get_run(db, run_id)
    made = [one for one in checkpoints.checkpoints_of_run(db, run_id) if one.state == "committed"]
    if not (made and _has_annotators(db)):
        return None
    held_out = list(dict.fromkeys(run.config["held_out_prompts"]))
    if not held_out:
        return None
    sampling = {name: run.config["rollout"][name] for name in _AS_THE_RUN_DREW}
    payload = {
        "checkpoints": [run.parent_checkpoint_id, made[-1].id],
        "prompts": held_out[:MAX_PROMPTS],
        "seeds": list(SEEDS),
        "config": sampling | {"negative_prompt": ""},
    }
    return blind_requests.request_blind_test(db, payload, run.owner_id)


def _has_annotators(db: Database) -> bool:
    return any(one.role == "annotator" for one in users.list_users(db, active_only=True))
