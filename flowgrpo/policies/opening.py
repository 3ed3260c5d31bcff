"""From a source that was found to a pipeline of diffusers in memory; safetensors only."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from diffusers.loaders.single_file_utils import SingleFileComponentError
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from flowgrpo.policies.onefile import ONE_FILE, held_parts, lacking, read_parts
from flowgrpo.policies.source import PREDICTIONS, Source, find
from flowgrpo.trust import hub_id, refuse_pickles

_OPTIONAL = ("text_encoder_3", "tokenizer_3")
"""Parts that SD3 goes without, though diffusers does not list them as optional."""


def open_pipeline(
    pipeline_class: type[DiffusionPipeline],
    source: Source,
    dtype: torch.dtype,
    *,
    prediction: str | None = None,
    config: str | Path | None = None,
) -> Any:
    """The pipeline with all its weights on the CPU.

    Args:
        prediction: epsilon or v_prediction, for a file that does not say.
        config: diffusers folder or hub id with the configuration of a file's model, by default the hub's for
            that kind of file. Its weights are needed of those parts of SD3 and FLUX.1 that the file lacks.

    Raises LookupError where something is missing, ValueError where weights are damaged or incomplete.
    """
    name = Path(source.where).name
    if not source.is_file and (prediction or config):
        raise ValueError(f"{name} is no single file: its own files say what it predicts and how it is built")
    with _named(name):
        if not source.is_file:
            return _open_folder(pipeline_class, source, dtype)
        if source.pipeline in ONE_FILE:
            if prediction:
                raise ValueError(f"{name} is a flow, which predicts a velocity: leave prediction out")
            return _open_parts(pipeline_class, source, dtype, config)
        return _open_file(pipeline_class, source, dtype, prediction, config)


def home_of(source: Source, config: str | Path | None) -> Source:
    """The folder or hub id, pinned, that says how the parts of an SD3 or FLUX.1 file are built and has those
    that the file lacks.

    Raises LookupError where it cannot be had or has no weights of such a part, ValueError where it is of
    another family. Of a hub id the weights are not asked for here.
    """
    name, told = Path(source.where).name, _told(source, config)
    try:
        home = find(told)
    except LookupError as error:
        raise LookupError(
            f"{name} holds weights only; how its parts are built, and the parts that it lacks, stand in the "
            f"files of {told}, which could not be had ({error}): name a diffusers folder of the same kind of "
            "model as config"
        ) from error
    if home.is_file or home.pipeline != source.pipeline:
        raise ValueError(
            f"{name} is a {source.pipeline} and does not fit the configuration of {told}: name a diffusers "
            "folder or hub id of the same kind of model as config"
        )
    missing = lacking(held_parts(source), home)
    if missing:
        raise LookupError(
            f"{name} does not hold the {' and the '.join(missing)}, and {told} has no weights of them as "
            "safetensors: name as config a diffusers folder or hub id that has"
        )
    return home


def _told(source: Source, config: str | Path | None) -> str:
    told = config or source.config
    if told is None:
        raise ValueError(
            f"{Path(source.where).name} is a network of another depth than the published ones of its family: "
            "name a diffusers folder or hub id of the same model as config"
        )
    return str(told)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors inside become sentences about `name`."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"the weights of {name} are damaged: get them again ({error})") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise LookupError(f"a part of {name} could not be had from the hub: {error}") from error
    except OSError as error:
        raise LookupError(f"{name} cannot be loaded: {error}") from error


def _open_folder(
    pipeline_class: type[DiffusionPipeline], source: Source, dtype: torch.dtype, **given: Any
) -> Any:
    """given: parts that come from elsewhere, by name; None for one that the model goes without."""
    known = signature(pipeline_class).parameters.keys()
    parts = {*pipeline_class._optional_components, *_OPTIONAL} & known
    absent = {part: None for part in parts if not (source.index.get(part) or [None])[0]}
    variant = _checked_variant(Path(source.where), given)
    return pipeline_class.from_pretrained(
        source.where,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        revision=source.revision,
        variant=variant,
        **absent | given,
    )


def _open_parts(
    pipeline_class: type[DiffusionPipeline], source: Source, dtype: torch.dtype, config: str | Path | None
) -> Any:
    """The parts of one file, in a pipeline whose other parts are those of its home."""
    home = home_of(source, config)
    name, told = Path(source.where).name, home.where
    try:
        read = read_parts(source, home, dtype)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} does not fit the configuration of {told}: it is incomplete, or another model is "
            f"meant ({error})"
        ) from error
    with _named(told):
        return _open_folder(pipeline_class, home, dtype, **read)


def _checked_variant(folder: Path, given: Collection[str] = ()) -> str | None:
    """The `fp16` of `diffusion_pytorch_model.fp16.safetensors` where a local folder has no other weights.

    given: parts that are not read from the folder.

    Raises ValueError for weights that are pickles, SafetensorError for a file that was cut short.
    """
    weights = [path for path in folder.glob("*/*.safetensors") if path.parent.name not in given]
    for path in weights:
        _refuse_cut(path)
    network = [path for path in weights if path.parent.name in ("unet", "transformer")]
    if not given:
        refuse_pickles(folder)
    telling = weights if given else network
    return "fp16" if telling and all(".fp16." in path.name for path in telling) else None


def _refuse_cut(path: Path) -> None:
    """Reads the header, which says how long the file is; diffusers would call a cut file a missing one."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise SafetensorError(f"{path.parent.name}/{path.name}: {error}") from error


def _open_file(
    pipeline_class: type[DiffusionPipeline],
    source: Source,
    dtype: torch.dtype,
    prediction: str | None,
    config: str | Path | None,
) -> Any:
    name, told = Path(source.where).name, _told(source, config)
    predicts = _checked_prediction(source, prediction)
    place, revision = hub_id(told) or (told, None)
    if Path(told).is_dir():
        place, revision = told, None
    try:
        pipeline = pipeline_class.from_single_file(source.where, dtype=dtype, config=place, revision=revision)
    except SingleFileComponentError as error:
        raise ValueError(
            f"{name} lacks a part of the model ({error}): name a file that holds all of it, or a diffusers "
            "folder"
        ) from error
    except LocalEntryNotFoundError as error:
        raise LookupError(
            f"{name} holds weights only; how its parts are built stands in the files of "
            f"{told}, which are not on this machine and could not be had from the "
            "hub: name a diffusers folder of the same kind of model as config"
        ) from error
    except (ValueError, KeyError, NotImplementedError) as error:  # another shape; a tensor that is not there
        raise ValueError(
            f"{name} does not fit the configuration of {told}: it is incomplete, or "
            f"another model is meant ({error})"
        ) from error
    pipeline.scheduler = _scheduler(pipeline.scheduler, predicts, source.is_zero_snr)
    return pipeline


def _checked_prediction(source: Source, prediction: str | None) -> str:
    """What the network predicts, as diffusers' schedulers call it."""
    if prediction is not None and prediction not in PREDICTIONS:
        raise ValueError(f"prediction is epsilon or v_prediction, got {prediction!r}")
    predicts = PREDICTIONS[prediction] if prediction else source.prediction
    if predicts is None:
        raise ValueError(
            f"{Path(source.where).name} does not say what its network predicts: say prediction epsilon (most "
            "models) or v_prediction (the model's page tells)"
        )
    return predicts


def _scheduler(scheduler: Any, prediction: str, is_zero_snr: bool) -> Any:
    """The configuration's, told what the network predicts. Where noise ends at zero signal it is Euler's,
    since not every scheduler can, and trailing, since the last level is the point of it (arXiv 2305.08891).
    """
    if not is_zero_snr:
        return type(scheduler).from_config(scheduler.config, prediction_type=prediction)
    known = signature(EulerDiscreteScheduler).parameters
    config = {key: value for key, value in scheduler.config.items() if key in known}
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "steps_offset": 0}
    return EulerDiscreteScheduler(**config | zero | {"prediction_type": prediction})
