"""A new base: looked at once, pinned, and noted in the data folder, so that it can be chosen everywhere."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from flowgrpo.policies import FAMILIES, source
from flowgrpo.policies.onefile import ONE_FILE
from flowgrpo.policies.opening import home_of
from flowgrpo.trust import check_folder
from storage import checkpoints
from storage.engine import Database
from storage.models import Checkpoint


def add_base(
    db: Database,
    where: str,
    *,
    name: str | None = None,
    prediction: str | None = None,
    config: str | None = None,
) -> Checkpoint:
    """Notes a diffusers folder, a .safetensors file or a hub id (`owner/name`, `owner/name@revision`).

    A hub id is pinned to the commit that its revision is at now. Weights are not loaded, so that a file whose
    tensors are damaged is found when something is first drawn with it.

    Args:
        name: shown in lists; by default that of the folder, the file or the model.
        prediction: what a single file's network predicts, epsilon or v_prediction, where it does not say.
        config: diffusers folder or hub id whose configuration a single file has. A file of SD3 or FLUX.1 has
            those parts from there that it lacks.

    Raises:
        LookupError, ValueError: there is nothing, or nothing that can be a base, or the name is taken.
    """
    found = source.find(where)
    if found.pipeline not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{where} is a {found.pipeline}; FlowGRPO can drive {known}: choose such a model")
    _check_files(found)
    _check_prediction(found, prediction)
    pinned = _pinned(found)
    shown = name or _name_of(found)
    other = checkpoints.other_base(db, shown, pinned)
    if other:
        raise ValueError(
            f"a base named {shown} is known already, from {other}: give this one another name, so that the "
            "checkpoints of the two are not mixed up"
        )
    options = {"prediction": prediction, "config": _home(found, config)}
    return checkpoints.register_base(
        db,
        name=shown,
        source=pinned,
        family=FAMILIES[found.pipeline].family,
        options={key: value for key, value in options.items() if value},
    )


def _check_files(found: source.Source) -> None:
    """Looks at what is on this machine; of a hub model that is what was fetched of its commit."""
    folder = Path(found.where)
    if found.revision:
        index = try_to_load_from_cache(found.where, source.INDEX, revision=found.revision)
        folder = Path(index).parent if isinstance(index, str) else folder
    if folder.is_dir():
        check_folder(folder, found.where)


def _check_prediction(found: source.Source, prediction: str | None) -> None:
    if prediction is not None and prediction not in source.PREDICTIONS:
        raise ValueError(f"prediction is epsilon or v_prediction, got {prediction!r}")
    has_one_answer = found.pipeline in ONE_FILE
    if found.is_file and has_one_answer and prediction is not None:
        raise ValueError(
            f"{Path(found.where).name} is a flow, which predicts a velocity: leave --prediction out"
        )
    if found.is_file and not has_one_answer and found.prediction is None and prediction is None:
        raise ValueError(
            f"{Path(found.where).name} does not say what its network predicts: say --prediction epsilon "
            "(most models) or --prediction v_prediction (the model's page tells)"
        )


def _home(found: source.Source, config: str | None) -> str | None:
    """Pinned as the base is: a file takes its configuration from there, one of SD3 or FLUX.1 weights too."""
    if found.is_file and found.pipeline in ONE_FILE:
        home = home_of(found, config)
        _check_files(home)
        return _pinned(home)
    if config is None or Path(config).expanduser().exists():
        return config and _absolute(config)
    return _pinned(source.find(config))


def _pinned(found: source.Source) -> str:
    if found.revision:
        return f"{found.where}@{found.revision}"
    return _absolute(found.where)


def _absolute(where: str) -> str:
    """A path that stays right whatever folder the program is started in; a hub id as it is."""
    path = Path(where).expanduser()
    return str(path.resolve()) if path.exists() else where


def _name_of(found: source.Source) -> str:
    last = found.where.rstrip("/").rpartition("/")[2]
    return last.removesuffix(".safetensors")
