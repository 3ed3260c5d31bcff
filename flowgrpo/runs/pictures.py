"""Images between tensors and files: PNG with the settings that made it, readable by A1111, ComfyUI and us."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from flowgrpo.config import SamplingConfig

Pixels = UInt8[Tensor, "3 height width"]


def png_bytes(image: Pixels, *, prompt: str, seed: int, config: SamplingConfig, model: str) -> bytes:
    """A PNG that says how it was made: A1111's `parameters` text, and `flowgrpo` with the same as JSON."""
    info = PngInfo()
    lines = [prompt, *([f"Negative prompt: {config.negative_prompt}"] if config.negative_prompt else [])]
    settings = (
        f"Steps: {config.num_steps}, Sampler: Euler, CFG scale: {config.guidance_scale:g}, Seed: {seed}"
    )
    lines.append(f"{settings}, Size: {config.width}x{config.height}, Model: {model}")
    info.add_itxt("parameters", "\n".join(lines))
    facts = {"prompt": prompt, "seed": seed, "model": model, **config.model_dump()}
    info.add_itxt("flowgrpo", json.dumps(facts, ensure_ascii=False))
    buffer = io.BytesIO()
    PILImage.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_png(path: Path) -> Pixels:
    """The pixels of a stored image."""
    with PILImage.open(path, formats=("PNG",)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
