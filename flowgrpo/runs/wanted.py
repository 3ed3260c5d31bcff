"""Images that a run wants: a folder where the caption of an image is a prompt, word for word."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from flowgrpo import pixels
from flowgrpo.config import RunConfig
from flowgrpo.imagefolder import Example, read_folder
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rewards.wanted import NearestWanted, Wanted
from flowgrpo.runs.references import covering
from flowgrpo.runs.roles import kinds_of, weighted


def hold_to_wanted(config: RunConfig, stack: RewardStack) -> None:
    """Has the rewards of kind reference hold images to those that the run wants, where it names a folder of
    them; for whoever scores with this stack.

    Raises:
        LookupError, ValueError: the folder cannot be read or has nothing for the run's prompts, or no reward
            of the run looks at it; the sentence says what to do.
    """
    if config.references is None:
        return
    kinds, used = kinds_of(stack), (*weighted(config), *config.monitors)
    held = [name for name in used if kinds.get(name) == "reference"]
    if not held and not any(name in stack.unavailable for name in used):
        raise ValueError(
            f"references names a folder of wanted images, {config.references}, and no reward of this run "
            "holds images to them: give lpips_ref or perceptual_ref a weight, name one in monitors, or leave "
            "references out"
        )
    wanted = _wanted(config, Path(config.references))
    if config.people is None and set(weighted(config)) <= set(held):
        _refuse_gaps(config, wanted)
    for name in held:
        stack.rewards[name] = NearestWanted(stack.rewards[name], wanted)


def wanted_images(
    examples: Collection[Example], prompts: Collection[str], size: tuple[int, int]
) -> dict[str, UInt8[Tensor, "wanted 3 height width"]]:
    """Those whose caption is a prompt, word for word, scaled and cut as evaluations do it.

    Args:
        size: Width and height of the images that will be held against them.

    Raises:
        ValueError: an image cannot be decoded; the sentence names it.
    """
    found: dict[str, dict[Path, Tensor]] = {}
    for example in examples:
        if example.caption in prompts:
            found.setdefault(example.caption, {})[example.path] = covering(pixels.decode(example.path), size)
    return {prompt: torch.stack(list(images.values())) for prompt, images in found.items()}


def _wanted(config: RunConfig, folder: Path) -> Wanted:
    examples = read_folder(folder, allow_empty=True)
    asked = {*config.prompts, *config.held_out_prompts}
    wanted = wanted_images(examples, asked, (config.rollout.width, config.rollout.height))
    if not wanted.keys() & set(config.prompts):
        captions = [f'"{example.caption:.80}"' for example in examples if example.caption]
        raise ValueError(
            f"no caption in {folder} is a prompt of this run: expected images whose caption (a.txt beside "
            f'a.png) is a prompt, word for word. The first prompt is "{config.prompts[0]:.80}", the first '
            f"caption {captions[0] if captions else 'is missing'}. Change captions or prompts, or leave "
            "references out to hold images to the base's of the same seed"
        )
    return wanted


def _refuse_gaps(config: RunConfig, wanted: Mapping[str, Tensor]) -> None:
    """A run that learns from nothing else must not draw groups that nothing is known of."""
    lacking = [prompt for prompt in dict.fromkeys(config.prompts) if prompt not in wanted]
    if lacking:
        raise ValueError(
            f'{len(lacking)} of {len(set(config.prompts))} prompts, such as "{lacking[0]:.80}", have no '
            f"wanted image in {config.references}, and no other reward has a weight, so their groups would "
            "teach nothing: add images with those captions, leave those prompts out, or weigh another reward"
        )
