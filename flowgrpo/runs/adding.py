"""The job "base": looks at a base, gets the files of a hub model, and notes it, as `app.py base` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from flowgrpo.policies import FAMILIES, source
from flowgrpo.runs import hub
from flowgrpo.runs.bases import add_base
from flowgrpo.runs.jobs import Bench

KIND: Final = "base"
_SHOWN = "fetching"


def base_job(bench: Bench) -> dict[str, Any]:
    """Looks at the source of the job, or adds it.

    Returns {"looked": true, "family", "size", "left", "licence", "gated"}, sizes in bytes and `left` those
    that are not on this machine, or {"looked": false, "checkpoint": id of the base's own, "name"}.

    Raises what `Bench.tick` raises, and ValueError or LookupError with a sentence for who asked.
    """
    asked = bench.job.payload
    where = str(asked["source"])
    bench.tick("looking at it", 0, 0)
    model = hub.look(where) if hub.is_hub_id(where) else None
    if asked.get("look"):
        return {"looked": True} | (_of_hub(model) if model else _of_disk(where))
    if model is not None:
        hub.fetch(model, lambda here: bench.tick(_SHOWN, here, model.size))
        where = f"{model.name}@{model.commit}"
    told = {key: asked.get(key) for key in ("name", "prediction", "config")}
    made = add_base(bench.db, where, **told)
    return {"looked": False, "checkpoint": made.id, "name": made.name}


def _of_hub(model: hub.HubModel) -> dict[str, Any]:
    """The index alone is fetched, which says what it is; a gated one does not give it to everybody."""
    left = sum(size for _, size in model.missing)
    family = "" if model.is_gated else _family(source.find(f"{model.name}@{model.commit}"))
    facts = {"size": model.size, "left": left, "licence": model.licence, "gated": model.is_gated}
    return {"family": family} | facts


def _of_disk(where: str) -> dict[str, Any]:
    found = source.find(where)
    path = Path(where)
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    size = sum(one.stat().st_size for one in files)
    return {"family": _family(found), "size": size, "left": 0, "licence": "", "gated": False}


def _family(found: source.Source) -> str:
    """Raises ValueError for a model that FlowGRPO does not drive."""
    if found.pipeline not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(
            f"{found.where} is a {found.pipeline}; FlowGRPO can drive {known}: choose such a model"
        )
    return FAMILIES[found.pipeline].family
