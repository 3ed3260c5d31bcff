"""Attribute verifiers: which hair colour, which mouth, glasses or not, or "unclear".

Two networks of different architecture, trained on different halves of the renders and on different generated
images: `verifier` may reward a run, `judge` never does. Each slot has one class more than its labels: the
last is "unclear".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from flowgrpo.starter import vocabulary as v

CLASSES = tuple(len(slot.labels) + 1 for slot in v.SLOTS)


class Verifier(nn.Module):
    """The rewarding one: strided convolutions with batch norm, one linear head over a 4x4 map."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

        w = width
        self.body = nn.Sequential(
            block(3, w, 2), block(w, 2 * w, 1), block(2 * w, 2 * w, 2),
            block(2 * w, 4 * w, 1), block(4 * w, 4 * w, 2), block(4 * w, 4 * w, 2),
        )  # fmt: skip
        self.head = nn.Linear(16 * 4 * w, sum(CLASSES))

    def forward(self, images: Float[Tensor, "sample 3 64 64"]) -> list[Tensor]:
        """Images in [-1, 1] -> logits of each slot, `(sample, labels + 1)`."""
        return list(self.head(self.body(images).flatten(1)).split(CLASSES, 1))


class _Mix(nn.Module):
    """A depthwise 5x5 convolution and a pointwise MLP around a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.up, self.down = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.gelu(self.up(self.norm(self.spatial(x)))))
        return x + y


class Judge(nn.Module):
    """The judging one: ConvNeXt-like blocks and one attention query per slot."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            nn.Conv2d(3, a, 4, 2, 1),
            _Mix(a),
            nn.Conv2d(a, b, 2, 2),
            _Mix(b),
            _Mix(b),
            nn.Conv2d(b, c, 2, 2),
            _Mix(c),
            _Mix(c),
        )
        self.position = nn.Parameter(torch.zeros(c, 8, 8))
        self.query = nn.Parameter(torch.randn(len(CLASSES), 2, c) * c**-0.5)
        self.norm = nn.GroupNorm(1, c)
        self.heads = nn.ModuleList(nn.Linear(2 * c, classes) for classes in CLASSES)

    def forward(self, images: Float[Tensor, "sample 3 64 64"]) -> list[Tensor]:
        """Images in [-1, 1] -> logits of each slot, `(sample, labels + 1)`."""
        features = self.norm(self.body(images)).flatten(2)
        keys = features + self.position.flatten(1)
        attention = torch.einsum("sqc,ncp->nsqp", self.query, keys).softmax(-1)
        pooled = torch.einsum("nsqp,ncp->nsqc", attention, features).flatten(2)
        return [head(pooled[:, i]) for i, head in enumerate(self.heads)]


ARCHITECTURES = {"verifier": Verifier, "judge": Judge}


def save_verifier(model: nn.Module, folder: Path) -> None:
    """Writes `model.safetensors` and a `config.json` that names the architecture and its slots."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture = next(name for name, kind in ARCHITECTURES.items() if isinstance(model, kind))
    slots = {slot.name: slot.labels for slot in v.SLOTS}
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "slots": slots}, indent=1))
    save_file({k: t.contiguous() for k, t in model.state_dict().items()}, folder / "model.safetensors")


def load_verifier(folder: Path) -> nn.Module:
    """Loads a verifier in eval mode.

    Raises:
        FileNotFoundError: the folder has no verifier.
        ValueError: it was trained for other slots than the vocabulary has now.
    """
    config = json.loads((folder / "config.json").read_text())
    if config["slots"] != {slot.name: list(slot.labels) for slot in v.SLOTS}:
        raise ValueError(
            f"the verifier in {folder.name} knows other slots than the vocabulary; build the starter again"
        )
    model: nn.Module = ARCHITECTURES[config["architecture"]]()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(model: nn.Module, images: Float[Tensor, "sample 3 64 64"], batch: int = 64) -> list[Tensor]:
    """Class probabilities of each slot, `(sample, labels + 1)`, for images in [-1, 1]."""
    chunks: Iterator[list[Tensor]] = (model(x) for x in images.split(batch))
    return [torch.cat(parts).softmax(-1) for parts in zip(*chunks, strict=True)]
