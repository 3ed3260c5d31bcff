"""A CLIP of open_clip's own classes with OpenAI's vocabulary, small and untrained."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

SIZE = 32
"""Numbers in an embedding."""


def tiny_clip(folder: Path, resize_mode: str = "shortest") -> Path:
    """Writes configuration and weights in open_clip's `local-dir:` layout; returns the folder."""
    config = {
        "model_cfg": {
            "embed_dim": SIZE,
            "quick_gelu": True,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {"resize_mode": resize_mode},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    return folder
