"""From a source that was found to a pipeline of diffusers in memory; safetensors only."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError

from flowgrpo.policies.source import Source

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
    try:
        if source.is_file:
            return _open_file(pipeline_class, source, dtype, prediction or source.prediction, config)
        known = signature(pipeline_class).parameters.keys()
        parts = {*pipeline_class._optional_components, *_OPTIONAL} & known
        absent = {part: None for part in parts if not (source.index.get(part) or [None])[0]}
        return pipeline_class.from_pretrained(
            source.where, dtype=dtype, use_safetensors=True, revision=source.revision, **absent
        )
    except SafetensorError as error:
        raise ValueError(f"the weights of {name} are damaged: get them again ({error})") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise LookupError(f"a part of {name} could not be had from the hub: {error}") from error
    except OSError as error:
        raise LookupError(f"{name} cannot be loaded: {error}") from error


def _open_file(
    pipeline_class: type[DiffusionPipeline],
    source: Source,
    dtype: torch.dtype,
    prediction: str | None,
    config: str | Path | None,
) -> Any:
    name = Path(source.where).name
    if prediction is None and source.pipeline in _NEEDS_PREDICTION:
        raise ValueError(
            f"{name} does not say what its network predicts: say prediction epsilon (most models) or "
            "v_prediction (the model's page tells)"
        )
    settings = {} if config is None else {"config": str(config)}
    try:
        pipeline = pipeline_class.from_single_file(source.where, dtype=dtype, **settings)
    except SingleFileComponentError as error:
        raise ValueError(
            f"{name} lacks a part of the model ({error}): name a file that holds all of it, or a diffusers "
            "folder"
        ) from error
    if prediction is not None and source.pipeline in _NEEDS_PREDICTION:
        changes = {"prediction_type": prediction}
        if source.is_zero_snr:
            changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}  # type: ignore[dict-item]
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **changes)
    return pipeline
