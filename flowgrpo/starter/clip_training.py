"""Stage 4 of the build: a tiny CLIP that open_clip loads by `local-dir:`, taught with hard negatives."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from flowgrpo.starter import degrade
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.dataset import Portraits
from flowgrpo.starter.pipeline import MAX_TOKENS, tokenizer
from flowgrpo.starter.portraits import caption
from flowgrpo.starter.training import Plan, Progress, fit

BATCH = 64
SWAPS = len(v.SLOTS)
"""Hard negatives of each image: its caption with one attribute swapped, once for every slot."""


def new_folder(folder: Path) -> Path:
    """Writes the configuration and the tokenizer that open_clip needs; no weights yet."""
    folder.mkdir(parents=True, exist_ok=True)
    tok = tokenizer()
    config = {
        "model_cfg": {
            "embed_dim": 64,
            # a list of layers makes open_clip build its ResNet: patches of 8 pixels lose a mouth
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64},
            "text_cfg": {
                "context_length": MAX_TOKENS, "vocab_size": len(tok), "width": 64, "heads": 2, "layers": 2,
                "pool_type": "eos", "eos_id": tok.eos_token_id, "hf_tokenizer_name": "local",
            },
        },
        "preprocess_cfg": {
            "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash",
        },
    }  # fmt: skip
    tok.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    return folder


def build(folder: Path) -> tuple[open_clip.CLIP, open_clip.tokenizer.HFTokenizer]:
    """A CLIP with random weights for a folder of `new_folder`, and its tokenizer."""
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    return model, open_clip.get_tokenizer(f"local-dir:{folder}")


def swapped(attributes: v.Attributes, slot: v.Slot, rng: random.Random) -> v.Attributes:
    """The same attributes with another label in one slot."""
    others = [label for label in slot.labels if label != attributes[slot.name]]
    return {**attributes, slot.name: rng.choice(others)}


def train(folder: Path, data: Portraits, plan: Plan, state_path: Path) -> Iterator[Progress]:
    """CLIP's contrastive loss, and a logistic loss of each image between its caption and swaps of it."""
    model, tokenize = build(folder)

    def texts(index: Tensor, rng: random.Random) -> Tensor:
        rows = [data.attributes[i] for i in index.tolist()]
        sets = [[a, *(swapped(a, slot, rng) for slot in v.SLOTS)] for a in rows]
        drawn = [[caption(a, random.Random(rng.random())) for a in variants] for variants in sets]
        tokens: Tensor = tokenize([text for variants in drawn for text in variants])
        return tokens

    def loss(step: int, g: Generator) -> dict[str, Tensor]:
        index = torch.randint(len(data), (BATCH,), generator=g)
        images = data.floats(index)
        images[: BATCH // 4] = degrade.blur(
            images[: BATCH // 4], 0.3 + 0.6 * float(torch.rand((), generator=g))
        )
        image = F.normalize(model.encode_image(degrade.jitter(images, g).contiguous()), dim=-1)
        text = F.normalize(
            model.encode_text(texts(index, random.Random(plan.seed * 1_000_003 + step))), dim=-1
        )
        text = text.view(BATCH, 1 + SWAPS, -1)
        scale = model.logit_scale.exp().clamp(max=100)
        across = scale * image @ text[:, 0].T
        target = torch.arange(BATCH)
        contrast = (F.cross_entropy(across, target) + F.cross_entropy(across.T, target)) / 2
        within = scale * torch.einsum("nd,ntd->nt", image, text)
        pairs = F.softplus(within[:, 1:] - within[:, :1])  # each swap against the right caption, alone
        return {
            "contrast": contrast,
            "swap": pairs.mean(0).sum(),  # over slots: what is told already adds next to nothing
            "_swap_right": (within[:, 1:] < within[:, :1]).float().mean(),
        }

    yield from fit("clip", nn.ModuleDict({"clip": model}), loss, plan, state_path)
    save(model, folder)


def save(model: open_clip.CLIP, folder: Path) -> None:
    """Writes the weights in half precision: the folder ships. open_clip computes in float32 all the same."""
    weights = {
        k: (t.half() if t.is_floating_point() else t).contiguous() for k, t in model.state_dict().items()
    }
    save_file(weights, folder / "open_clip_model.safetensors")


@torch.inference_mode()
def swap_accuracy(folder: Path, images: Tensor, attributes: list[v.Attributes]) -> dict[str, Tensor]:
    """Slot name -> whether the right caption beats one swapped in that slot, `(sample,)` of 0 and 1.

    Args:
        images: RGB in [-1, 1], `(sample, 3, 64, 64)`.
    """
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    image = torch.cat([model.encode_image(x, normalize=True) for x in images.contiguous().split(100)])
    right = model.encode_text(tokenize([caption(a) for a in attributes]), normalize=True)
    rng, result = random.Random(0), {}
    for slot in v.SLOTS:
        wrong = model.encode_text(
            tokenize([caption(swapped(a, slot, rng)) for a in attributes]), normalize=True
        )
        result[slot.name] = ((image * right).sum(-1) > (image * wrong).sum(-1)).float()
    return result
