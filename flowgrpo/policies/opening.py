"""From a source that was found to a pipeline of diffusers in memory; safetensors only."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from diffusers.loaders.single_file_utils import SingleFileComponentError
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from flowgrpo.policies.source import PREDICTIONS, Source
from flowgrpo.tensorfile import PICKLES

_OPTIONAL = ("text_encoder_3", "tokenizer_3")
"""Parts that SD3 goes without, though diffusers does not list them as optional."""
_NEEDS_PREDICTION = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


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
        config: diffusers folder or hub id with the configuration of a file's model, its weights not needed;
            by default the hub's for that kind of file.

    Raises LookupError where something is missing, ValueError where weights are damaged or incomplete.
    """
    name = Path(source.where).name
    if not source.is_file and (prediction or config):
        raise ValueError(f"{name} is no single file: its own files say what it predicts and how it is built")
    try:
        if source.is_file:
            return _open_file(pipeline_class, source, dtype, prediction, config)
        return _open_folder(pipeline_class, source, dtype)
    except SafetensorError as error:
        raise ValueError(f"the weights of {name} are damaged: get them again ({error})") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise LookupError(f"a part of {name} could not be had from the hub: {error}") from error
    except OSError as error:
        raise LookupError(f"{name} cannot be loaded: {error}") from error


def _open_folder(pipeline_class: type[DiffusionPipeline], source: Source, dtype: torch.dtype) -> Any:
    known = signature(pipeline_class).parameters.keys()
    parts = {*pipeline_class._optional_components, *_OPTIONAL} & known
    absent = {part: None for part in parts if not (source.index.get(part) or [None])[0]}
    variant = _checked_variant(Path(source.where))
    return pipeline_class.from_pretrained(
        source.where, dtype=dtype, use_safetensors=True, revision=source.revision, variant=variant, **absent
    )


def _checked_variant(folder: Path) -> str | None:
    """The `fp16` of `diffusion_pytorch_model.fp16.safetensors` where a local folder has no other weights.

    Raises ValueError for weights that are pickles, SafetensorError for a file that was cut short.
    """
    weights = list(folder.glob("*/*.safetensors"))
    for path in weights:
        _refuse_cut(path)
    network = [path for path in weights if path.parent.name in ("unet", "transformer")]
    pickles = [path.name for path in folder.glob("*/*") if path.suffix in PICKLES]
    if folder.is_dir() and pickles and not network:
        raise ValueError(
            f"{pickles[0]} of {folder.name} is a pickle, which can run programs when it is opened; FlowGRPO "
            "reads safetensors only: get the model as .safetensors"
        )
    return "fp16" if network and all(".fp16." in path.name for path in network) else None


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
    name = Path(source.where).name
    predicts = _checked_prediction(source, prediction)
    if config is None and not source.is_known:
        raise ValueError(
            f"{name} is an SDXL network of another depth than SDXL and SSD-1B: name a diffusers folder or "
            "hub id of the same model as config"
        )
    told = config or source.config
    try:
        settings = {} if told is None else {"config": str(told)}
        pipeline = pipeline_class.from_single_file(source.where, dtype=dtype, **settings)
    except SingleFileComponentError as error:
        raise ValueError(
            f"{name} lacks a part of the model ({error}): name a file that holds all of it, or a diffusers "
            "folder"
        ) from error
    except LocalEntryNotFoundError as error:
        raise LookupError(
            f"{name} holds weights only; how its parts are built stands in the files of "
            f"{told or 'its published model'}, which are not on this machine and could not be had from the "
            "hub: name a diffusers folder of the same kind of model as config"
        ) from error
    except (ValueError, KeyError, NotImplementedError) as error:  # another shape; a tensor that is not there
        raise ValueError(
            f"{name} does not fit the configuration of {told or 'its published model'}: it is incomplete, or "
            f"another model is meant ({error})"
        ) from error
    if predicts is not None:
        pipeline.scheduler = _scheduler(pipeline.scheduler, predicts, source.is_zero_snr)
    return pipeline


def _checked_prediction(source: Source, prediction: str | None) -> str | None:
    """What the network predicts, as diffusers' schedulers call it; None for families that have one answer."""
    if source.pipeline not in _NEEDS_PREDICTION:
        return None
    if prediction is not None and prediction not in PREDICTIONS:
        raise ValueError(f"prediction is epsilon or v_prediction, got {prediction!r}")
    if prediction is None and source.prediction is None:
        raise ValueError(
            f"{Path(source.where).name} does not say what its network predicts: say prediction epsilon (most "
            "models) or v_prediction (the model's page tells)"
        )
    return PREDICTIONS[prediction] if prediction else source.prediction


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
