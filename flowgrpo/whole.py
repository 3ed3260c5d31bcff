"""Checkpoints of a whole network, where no adapter learned: `network/<which>.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from flowgrpo.failpoints import failpoint
from flowgrpo.tensorfile import read_tensors, write_tensors

FOLDER = "network"


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint holds a network instead of an adapter."""
    return (checkpoint / FOLDER).is_dir()


def save(folder: Path, **networks: Mapping[str, Tensor]) -> None:
    """Writes a file for each of `networks` into a folder."""
    (folder / FOLDER).mkdir(parents=True)
    for which, tensors in networks.items():
        failpoint(f"ckpt.write.{FOLDER}/{which}")
        # Views of one storage cannot be saved as they are, and networks share weights here and there.
        ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        write_tensors(folder / FOLDER / f"{which}.safetensors", ready, {"format": "pt"})


def load(checkpoint: Path, which: str) -> dict[str, Tensor]:
    """All weights by name; raises LookupError where the checkpoint holds none, ValueError for damage."""
    path = checkpoint / FOLDER / f"{which}.safetensors"
    if not path.is_file():
        raise LookupError(f"{checkpoint} holds no network '{which}': expected {path.name} in {FOLDER}")
    return read_tensors(path)[0]


@torch.no_grad()
def replace(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts these weights in the network and returns those that were there, by name.

    Raises ValueError, with nothing changed, for weights of another network.
    """
    weights = dict(network.named_parameters())
    fits = weights.keys() == tensors.keys()
    if not fits or any(weights[name].shape != tensors[name].shape for name in weights):
        raise ValueError("the checkpoint holds the weights of another network: it fits another base")
    originals = {name: weight.detach().clone() for name, weight in weights.items()}
    for name, weight in weights.items():
        weight.copy_(tensors[name])
    return originals
