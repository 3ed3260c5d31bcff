"""Networks that several rewards read: loaded once a process, run once a batch. And fingerprints of weights.

The pool is keyed (architecture, weights, device): one ViT-L/14 of OpenAI feeds `clip`, both aesthetic heads,
a preference head and the diversity of its embeddings; one EfficientNet-Lite0 feeds `quality`, `diversity` and
`perceptual_ref`. What a batch's forward gave lies in `ScoreBatch.shared`. PickScore and HPS are both CLIP-H,
but each with weights of its own, so they share nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import open_clip

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.clip_encoder import OPENAI_VOCABULARY, ClipEncoder
from flowgrpo.rewards.fetch import HubFile, Options, obtain
from flowgrpo.starter import features
from flowgrpo.starter.features import Taps
from flowgrpo.torchfile import read_torch


def taps(batch: ScoreBatch, *, smooth: bool, device: str) -> Taps:
    """The batch's EfficientNet-Lite0 taps; `smooth` for distances, not for technical quality."""
    return batch.shared(
        ("efflite0", smooth), lambda: features.taps_of(batch.images, smooth=smooth, device=device)
    )


FOLDER: Final = "local-dir:"
_pool: WeakValueDictionary[tuple[str, str, str], ClipEncoder] = WeakValueDictionary()


def pooled(architecture: str, weights: str, device: str, make: Callable[[], ClipEncoder]) -> ClipEncoder:
    """The one encoder of this process for these three; it lives for as long as a reward holds it."""
    key = (architecture, weights, device)
    encoder = _pool.get(key) or make()
    _pool[key] = encoder
    return encoder


def clip_for(option: str, options: Options) -> ClipEncoder:
    """The encoder that stands behind a colon in a reward's name.

    Args:
        option: Nothing for the starter's tiny CLIP; `local-dir:<path>` for a folder in open_clip's layout;
            otherwise "architecture/pretrained tag".
    """
    if not option:
        return clip_in_folder(options.weights / "clip", options.device)
    if option.startswith(FOLDER):
        return clip_in_folder(Path(option.removeprefix(FOLDER)), options.device)
    return clip_of_hub(option, options)


def clip_in_folder(folder: Path, device: str = "cpu") -> ClipEncoder:
    """The model of a folder in open_clip's `local-dir:` layout.

    Raises:
        LookupError: A file is missing.
        ValueError: The model would silently compute wrong embeddings.
    """
    config_path = require(folder / "open_clip_config.json", "clip")
    weights_path = require(folder / "open_clip_model.safetensors", "clip")
    text = json.loads(config_path.read_text())["model_cfg"]["text_cfg"]
    if text.get("pool_type", "argmax") == "argmax" and text.get("vocab_size") != OPENAI_VOCABULARY:
        raise ValueError(
            f"{folder.name}/open_clip_config.json pools text at its highest token id, which ends a text only "
            'in OpenAI\'s vocabulary; an own tokenizer needs "pool_type": "eos" and "eos_id" in text_cfg'
        )
    name, version = f"local-dir:{folder}", fingerprint(config_path, weights_path)
    return pooled(name, version, device, partial(_opened, name, None, f"CLIP {folder.name}", version, device))


def clip_of_hub(source: str, options: Options) -> ClipEncoder:
    """A model that open_clip knows by name, from the hub.

    Args:
        source: "architecture/pretrained tag", such as `ViT-L-14-quickgelu/openai`.

    Raises:
        LookupError: Its weights are not here and cannot be fetched.
        ValueError: There is no such model or tag, or it would silently compute wrong embeddings.
    """
    name, tag, config = tagged(source)
    path = obtain(hub_file(source), options)
    version = f"{source}@{path.parent.name[:7]}"
    make = partial(_opened, name, str(path), f"CLIP {name} {tag}", version, options.device, config)
    return pooled(name, version, options.device, make)


def tagged(source: str) -> tuple[str, str, dict[str, Any]]:
    """Architecture, tag and open_clip's entry for them.

    Raises:
        ValueError: There is no such model or tag, or the two do not belong together.
    """
    name, _, tag = source.partition("/")
    if not tag:
        raise ValueError(f'expected an open_clip model as "architecture/pretrained tag", got "{source}"')
    config: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ValueError(f'open_clip knows no weights "{tag}" for "{name}"; it knows {known}')
    if config.get("quick_gelu") and not open_clip.get_model_config(name).get("quick_gelu"):
        raise ValueError(
            f'these weights were trained with QuickGELU: name the model "{name}-quickgelu/{tag}"'
        )
    return name, tag, config


def hub_file(source: str, size_mb: float = 0.0, licence: str = "see the model's card") -> HubFile:
    """Where open_clip keeps the weights of a model."""
    _, _, config = tagged(source)
    repository, _, name = config["hf_hub"].rpartition("/")
    stem = (name or "open_clip_pytorch_model.bin").rpartition(".")[0]
    safe = "open_clip_model.safetensors" if not name else f"{stem}.safetensors"
    return HubFile(f"CLIP {source}", repository, (safe, name or f"{stem}.bin"), size_mb, licence)


def clip_from_checkpoint(
    architecture: str, path: Path, version: str, device: str = "cpu", *, resize_mode: str
) -> ClipEncoder:
    """An architecture of open_clip with the `state_dict` of somebody's checkpoint, as HPS comes.

    Args:
        resize_mode: How images become square (`clip_encoder.prepared`).

    Raises:
        RuntimeError: The weights are of another architecture.
    """

    def make() -> ClipEncoder:
        squares = {"resize_mode": resize_mode}
        model = open_clip.create_model(architecture, load_weights=False, force_preprocess_cfg=squares)
        checkpoint = read_torch(path)
        model.load_state_dict(checkpoint["state_dict"])
        tokenize = open_clip.get_tokenizer(architecture)
        return ClipEncoder(model, tokenize, f"CLIP {architecture}", version, device)

    return pooled(architecture, version, device, make)


def _opened(
    name: str,
    pretrained: str | None,
    title: str,
    version: str,
    device: str,
    preprocessing: dict[str, Any] | None = None,
) -> ClipEncoder:
    model = open_clip.create_model(name, pretrained=pretrained, force_preprocess_cfg=preprocessing)
    return ClipEncoder(model, open_clip.get_tokenizer(name), title, version, device)


def fingerprint(*paths: Path) -> str:
    """Twelve hex digits of the SHA-256 over the files' bytes: the version of a reward that they make."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def require(path: Path, reward: str) -> Path:
    """`path` when it exists.

    Raises:
        LookupError: It does not; the sentence says what is missing and what makes it.
    """
    if not path.exists():
        raise LookupError(
            f"the {reward} reward needs {path.parent.name}/{path.name}, which is not in this copy; "
            "`python -m flowgrpo.starter.build` makes it"
        )
    return path
