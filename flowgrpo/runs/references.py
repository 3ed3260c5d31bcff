"""What an evaluation's images should look like: the starter's held-out renders, or a folder of images."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from flowgrpo import pixels
from flowgrpo.imagefolder import read_folder
from flowgrpo.seeds import derive_seed
from flowgrpo.starter.dataset import plan, seed_of
from flowgrpo.starter.portraits import IMAGE_SIZE, render
from flowgrpo.starter.vocabulary import SLOTS, Attributes, parse_prompt

Tick = Callable[[str, int, int], None]
_SPLIT = "held_out"
_BETWEEN = 32  # renders between two ticks


@dataclass(frozen=True)
class References:
    """Images to hold others against.

    Attributes:
        images: All of them; None where there are none.
        meant: Index of a prompt to the image that was meant by it, where there is one.
        words: What they are, for the report.
        reason: Why there are none.
    """

    images: UInt8[Tensor, "sample 3 height width"] | None
    meant: Mapping[int, UInt8[Tensor, "3 height width"]] = field(default_factory=dict)
    words: str = ""
    reason: str = ""


def of_starter(
    home: Path, prompts: Sequence[str], size: tuple[int, int], count: int, tick: Tick
) -> References:
    """Renders of combinations that the starter never saw, and one of what each prompt asks for.

    Args:
        size: Width and height of the images that are drawn.
        count: Renders to compare distributions with; made once, 3 to 14 ms each.
    """
    images = _resized(held_out(home / "references" / f"{_SPLIT}-{count}.npy", count, tick), size)
    meant = {
        index: image for index, prompt in enumerate(prompts) if (image := portrait_of(prompt)) is not None
    }
    paired = {index: _resized(image[None], size)[0] for index, image in meant.items()}
    return References(images, paired, f"{count:,} renders of held-out combinations")


def held_out(path: Path, count: int, tick: Tick) -> UInt8[Tensor, "sample 3 height width"]:
    """The renders themselves, from the file where it is there."""
    if not path.exists():
        drawn = []
        for index, attributes in enumerate(plan(_SPLIT, count)):
            if index % _BETWEEN == 0:
                tick("drawing references", index, count)
            drawn.append(render(attributes, seed_of(_SPLIT, index)))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.stack(drawn))
        partial.replace(path)
    return torch.from_numpy(np.load(path)).permute(0, 3, 1, 2).contiguous()


def portrait_of(prompt: str) -> UInt8[Tensor, "3 height width"] | None:
    """One render of what a prompt asks for; what it leaves free follows from its text. None: it asks for
    nothing that the starter knows.
    """
    asked = parse_prompt(prompt)
    if not asked:
        return None
    seed = derive_seed(*prompt.encode())
    rng = random.Random(seed)
    free: Attributes = {slot.name: rng.choice(slot.values) for slot in SLOTS}
    return torch.from_numpy(render(free | asked, seed).copy()).permute(2, 0, 1).contiguous()


def of_folder(folder: Path, prompts: Sequence[str], size: tuple[int, int], tick: Tick) -> References:
    """The images of a captioned folder; one whose caption is a prompt, word for word, is what it meant.

    Each is scaled until it covers `size` and cut around its centre.

    Raises:
        ValueError, LookupError, OSError: the folder cannot be read; the sentence says why.
    """
    examples = read_folder(folder, allow_empty=True)
    if len(examples) < 2:
        raise ValueError(f"the folder of references {folder} has {len(examples)} images: give two or more")
    images = []
    for index, example in enumerate(examples):
        if index % _BETWEEN == 0:
            tick("reading references", index, len(examples))
        images.append(covering(pixels.decode(example.path), size))
    captions = {
        example.caption: image for example, image in reversed(list(zip(examples, images, strict=True)))
    }
    meant = {index: captions[prompt] for index, prompt in enumerate(prompts) if prompt in captions}
    return References(torch.stack(images), meant, f"{len(images):,} images of {folder.name}")


def covering(image: Image.Image, size: tuple[int, int]) -> UInt8[Tensor, "3 height width"]:
    """An image scaled until it covers a width and height, and cut around its centre."""
    scale = max(wanted / own for wanted, own in zip(size, image.size, strict=True))
    width, height = (max(round(own * scale), wanted) for own, wanted in zip(image.size, size, strict=True))
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    cut = scaled.crop((left, top, left + size[0], top + size[1]))
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous()


def _resized(
    images: UInt8[Tensor, "sample 3 high wide"], size: tuple[int, int]
) -> UInt8[Tensor, "sample 3 height width"]:
    if size == (IMAGE_SIZE, IMAGE_SIZE):
        return images
    scaled = interpolate(images.float(), (size[1], size[0]), mode="bicubic", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)
