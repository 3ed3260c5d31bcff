"""Architectures of well-known bases, from their published configurations: sizes without weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

from flowgrpo import families
from flowgrpo.policies import FAMILIES
from flowgrpo.policies.source import INDEX, find

FOLDER = Path(__file__).parent / "policies" / "published"
DRIVERS = {driver.family: driver for driver in FAMILIES.values()}
FLUX_TOKENS = 512
"""T5's words that diffusers pads a prompt of FLUX.1 to."""


@dataclass(frozen=True)
class Architecture:
    """A base without its weights.

    Attributes:
        name: as published, or the folder's.
        network, vae: their configurations.
        words: (tokens, width, pooled width) of an encoded prompt.
        text_parameters: parameters of the text encoders.
    """

    name: str
    family: str
    network: dict[str, Any]
    vae: dict[str, Any]
    words: tuple[int, int, int]
    text_parameters: int

    def build_network(self) -> nn.Module:
        """The denoiser on the meta device."""
        return _build(self.network)

    def build_vae(self) -> nn.Module:
        """The VAE on the meta device."""
        return _build(self.vae)

    @property
    def vae_factor(self) -> int:
        """Pixels per latent element along one side."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def default_targets(self) -> tuple[str, ...]:
        """What gets an adapter where a configuration names nothing."""
        return DRIVERS[self.family].default_targets


def _build(config: dict[str, Any]) -> nn.Module:
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    with torch.device("meta"):
        network: nn.Module = getattr(diffusers, config["_class_name"])(**settings)
    return network


def known() -> list[str]:
    """Names of the published bases."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def architecture(source: str | Path) -> Architecture:
    """Of a published base by its name, or of a diffusers folder.

    Raises LookupError where there is neither.
    """
    folder = FOLDER / source if str(source) in known() else Path(source)
    if (folder / INDEX).is_file():
        return _of_folder(folder)
    raise LookupError(
        f"there is no folder {source} and no published base of that name: name a diffusers folder, or one "
        f"of {', '.join(known())}"
    )


def architecture_of(source: str, config: str | None = None) -> Architecture:
    """Of a base wherever it is, of which only the configuration is read (and fetched from the hub).

    Args:
        source: a published base's name, a diffusers folder, a hub id or a .safetensors file.
        config: folder or hub id built like the file, where a person has said so.

    Raises LookupError or ValueError where there is none, or the file does not tell how it is built.
    """
    if source in known() or (Path(source) / INDEX).is_file():
        return architecture(source)
    found = find(source)
    told = (config or found.config) if found.is_file else f"{found.where}@{found.revision}"
    if told is None:
        raise LookupError(
            f"{source} does not tell how it is built: add it with --config and a folder or hub id "
            "that is alike"
        )
    return architecture(told if Path(told).is_dir() else _configuration(told))


def _configuration(hub_id: str) -> Path:
    """Every configuration of a hub model, without its weights."""
    name, _, revision = hub_id.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=["*.json"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise LookupError(f"{hub_id} is no model whose configuration the hub gave: {error}") from error


def _of_folder(folder: Path) -> Architecture:
    def read(part: str) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
        return config

    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    pipeline = index["_class_name"]
    if pipeline not in FAMILIES:
        raise LookupError(f"{folder} is a {pipeline}; FlowGRPO can drive {', '.join(FAMILIES)}")
    family = FAMILIES[pipeline].family
    network = read(families.FAMILIES[family].part)
    width = network.get("joint_attention_dim") or network["cross_attention_dim"]
    second = read("text_encoder_2") if "text_encoder_2" in index else {}
    pooled = network.get("pooled_projection_dim") or second.get("projection_dim", 0)
    clip = read("text_encoder").get("max_position_embeddings", 77)
    # T5's words come after CLIP's in SD3 and alone in FLUX, at the lengths that diffusers pads to.
    tokens = {"sd3": clip + 256, "flux": FLUX_TOKENS}.get(family, clip)
    words = (tokens, width, pooled)
    return Architecture(folder.name, family, network, read("vae"), words, _text_parameters(folder, index))


def _text_parameters(folder: Path, index: dict[str, Any]) -> int:
    """Of all text encoders that a folder's index names."""
    total = 0
    for part, entry in index.items():
        if part.startswith("text_encoder") and entry[1]:
            encoder = getattr(transformers, entry[1])
            with torch.device("meta"):
                built = encoder(encoder.config_class.from_pretrained(folder / part))
            total += sum(parameter.numel() for parameter in built.parameters())
    return total
