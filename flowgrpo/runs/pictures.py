"""Images between tensors and files: PNG with the settings that made it, readable by A1111, ComfyUI and us."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from flowgrpo.config import SamplingConfig
from storage.version import VERSION

Pixels = UInt8[Tensor, "3 height width"]


def png_bytes(image: Pixels, *, prompt: str, seed: int, config: SamplingConfig, model: str) -> bytes:
    """A PNG that says how it was made: A1111's `parameters` text, and `flowgrpo` with the same as JSON."""
    info = PngInfo()
    info.add_itxt("parameters", infotext(prompt, seed, config, model))
    facts = {"prompt": prompt, "seed": seed, "model": model, "version": VERSION, **config.model_dump()}
    info.add_itxt("flowgrpo", json.dumps(facts, ensure_ascii=False))
    buffer = io.BytesIO()
    PILImage.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def infotext(prompt: str, seed: int, config: SamplingConfig, model: str) -> str:
    """The settings in A1111's words, which other programs read back.

    Its deterministic sampler of our kind is called Euler, whatever the family; the noise of a seed is drawn
    on the CPU.
    """
    settings = {
        "Steps": str(config.num_steps), "Sampler": "Euler", "CFG scale": f"{config.guidance_scale:g}",
        "Seed": str(seed), "Size": f"{config.width}x{config.height}", "Model": model, "RNG": "CPU",
        "Version": f"FlowGRPO Studio {VERSION}",
    }  # fmt: skip
    lines = [prompt, *([f"Negative prompt: {config.negative_prompt}"] if config.negative_prompt else [])]
    return "\n".join([*lines, ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items())])


def _quoted(value: str) -> str:
    """As A1111 does: what would be taken for the next setting stands in quotes."""
    is_plain = value == value.strip() and not re.search(r'[,:\n]|^"', value)
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def read_png(path: Path) -> Pixels:
    """The pixels of a stored image."""
    with PILImage.open(path, formats=("PNG",)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
