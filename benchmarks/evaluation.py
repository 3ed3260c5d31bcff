"""An evaluation of four checkpoints of the starter, through the job that the studio does: the first time, and
a second time from what the first one kept.

    python -m benchmarks.evaluation [--prompts 64] [--seeds 4] [--home FOLDER]

The checkpoints are the starter itself and three small random adapters, written by the code that writes those
of a run. Sixteen guided steps, as people look at images: 32 evaluations of the network an image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Line, publish
from flowgrpo.checkpoint import save_checkpoint
from flowgrpo.config import LoraConfig, RunConfig, SamplingConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import load_policy
from flowgrpo.runs import layout
from flowgrpo.runs.device import use_all_cores
from flowgrpo.runs.process import boot_id, host_of
from flowgrpo.runs.worker import WEIGHTS, Worker
from flowgrpo.starter.dataset import plan
from flowgrpo.starter.portraits import caption
from storage import checkpoints, jobs, runs
from storage.engine import Database, open_database
from storage.evaluations import request_evaluation
from storage.models import Checkpoint

FIRST_BUDGET, SECOND_BUDGET = 600.0, 10.0
NUM_CHECKPOINTS = 4


def random_adapters(db: Database, base: Checkpoint, count: int) -> list[Checkpoint]:
    """Checkpoints of a run that never ran: adapters small enough that portraits stay portraits."""
    config = RunConfig(prompts=("portrait",), reward_weights={"clip": 1.0}, lora=LoraConfig(rank=4))
    run = runs.create_run(
        db, name="random adapters", owner_id="local", parent_checkpoint_id=base.id,
        config=config.model_dump(mode="json"),
    )  # fmt: skip
    claimed = runs.claim_run(db, host=host_of(db.home), boot_id=boot_id())
    assert claimed is not None
    policy = load_policy(WEIGHTS / "pipeline")
    policy.attach_lora(config.lora or LoraConfig())
    made = []
    for update in range(1, 1 + count):
        generator = torch.Generator().manual_seed(update)
        learner = Learner(policy, config.update)
        for which in learner.weights.values():
            for name, tensor in which.items():
                if "lora_B" in name:
                    tensor.data.copy_(0.02 * update * torch.randn(tensor.shape, generator=generator))
        folder = layout.checkpoints_folder(db.home, run.id) / f"{update:06d}"
        sha256 = save_checkpoint(folder, learner, {})
        made.append(
            checkpoints.commit_checkpoint(
                db, run_id=run.id, attempt=claimed.attempt, update=update, name=f"random {update}",
                path=str(folder.relative_to(db.home)), sha256=sha256,
            )
        )  # fmt: skip
    for to, states in (("running", ("starting",)), ("completed", ("running",))):
        runs.move(db, run.id, to=to, from_states=states, attempt=claimed.attempt)  # type: ignore[arg-type]
    return made


def done(worker: Worker, payload: dict[str, Any]) -> tuple[float, str]:
    """Seconds of one job from its request to its result, and its id."""
    began = time.perf_counter()
    asked = request_evaluation(worker.db, payload)
    claimed = jobs.claim_job(worker.db, worker.name)
    assert claimed is not None
    worker.do(claimed)
    seconds = time.perf_counter() - began
    job = jobs.get_job(worker.db, asked.id)
    if job.state != "done":
        raise SystemExit(f"the job {job.state}: {job.reason}")
    return seconds, asked.id


def _prompts(count: int) -> list[str]:
    """Held-out captions, each once: a plan names some twice."""
    found = list(dict.fromkeys(caption(attributes) for attributes in plan("held_out", 2 * count)))
    if len(found) < count:
        raise ValueError(
            f"there are {len(found)} held-out captions, fewer than {count}: ask for fewer prompts"
        )
    return found[:count]


def measure(home: Path, num_prompts: int, num_seeds: int, config: SamplingConfig) -> list[Line]:
    db = open_database(home)
    base = checkpoints.register_base(db, name="starter", source=str(WEIGHTS / "pipeline"), family="sdxl")
    rows = [base, *random_adapters(db, base, NUM_CHECKPOINTS - 1)]
    payload = {
        "checkpoints": [row.id for row in rows],
        "prompts": _prompts(num_prompts),
        "seeds": list(range(num_seeds)),
        "config": config.model_dump(),
    }
    worker = Worker(db, "cpu", WEIGHTS)
    worker.warm_up()
    first, _ = done(worker, payload)
    second, job_id = done(worker, payload)
    worker.beacon.end()
    print((layout.evaluation_folder(home, job_id) / "table.md").read_text())
    db.close()
    what = (
        f"{NUM_CHECKPOINTS} checkpoints x {num_prompts} prompts x {num_seeds} seeds, {config.num_steps} steps"
    )
    return [
        Line(f"{what}, guidance {config.guidance_scale:g}", first, "s", FIRST_BUDGET),
        Line("the same a second time", second, "s", SECOND_BUDGET),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--home", type=Path, help="keep the data folder here")
    given = parser.parse_args()
    use_all_cores()
    config = SamplingConfig(num_steps=given.steps, guidance_scale=given.guidance)
    with tempfile.TemporaryDirectory(prefix="flowgrpo-evaluation-") as folder:
        lines = measure((given.home or Path(folder) / "home").resolve(), given.prompts, given.seeds, config)
    publish("evaluation", lines)


if __name__ == "__main__":
    main()
