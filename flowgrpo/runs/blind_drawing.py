"""The job "blind": draws what a blind test lacks, then creates the test under the job's own id."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from flowgrpo.config import Prompt, SamplingConfig
from flowgrpo.runs.evaluation_images import Drawer, Entry
from flowgrpo.runs.jobs import Bench
from flowgrpo.strict import Config
from storage import blind, checkpoints


class BlindRequest(Config):
    """What is asked; the payload of the job."""

    checkpoints: tuple[str, ...] = Field(min_length=2, max_length=8)
    """Ids."""
    prompts: tuple[Prompt, ...] = Field(min_length=1)
    """Verbatim."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """The same for every prompt and checkpoint."""
    config: SamplingConfig = SamplingConfig()
    """How images are drawn."""
    name: str = ""
    """Of the test; its number where this is empty."""


def blind_job(bench: Bench) -> dict[str, Any]:
    """Does the job; the test that it makes has the job's id, so that a second worker makes no second test.

    Raises what `Bench.tick` raises, and ValueError or LookupError with a sentence for who asked.
    """
    asked = _checked(bench.job.payload)
    rows = [checkpoints.get_checkpoint(bench.db, one) for one in asked.checkpoints]
    drawer = Drawer(bench, asked.prompts, asked.seeds, len(rows))
    for row in rows:
        drawer.pictures(Entry(row, asked.config))
    bench.tick("making the pairs", drawer.total, drawer.total)
    test = blind.create_blind_test(
        bench.db,
        checkpoint_ids=asked.checkpoints,
        prompts=asked.prompts,
        seeds=asked.seeds,
        config=asked.config.model_dump(),
        name=asked.name,
        created_by=bench.job.created_by,
        test_id=bench.job.id,
    )
    return {"test": test.id}


def _checked(payload: dict[str, Any]) -> BlindRequest:
    try:
        return BlindRequest.model_validate(payload)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the blind test"
        raise ValueError(f"{where} cannot be used: {first['msg']}, got {str(first['input'])[:80]}") from error
