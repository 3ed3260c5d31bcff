"""A checkpoint: adapter (or whole network), its average and other copies, the optimiser and where the run
stands. Loading one continues bit for bit.

A checkpoint is made at the end of an update. There is no generator state in it: noise follows from counters,
so the update number is all the randomness there is. On another device or another version a run goes on, but
not bit for bit.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import peft
import torch
from safetensors.torch import load_file
from torch import Tensor

from flowgrpo import lora, manifest, whole
from flowgrpo.failpoints import failpoint
from flowgrpo.learner import Learner
from flowgrpo.manifest import DamagedCheckpointError, newest_valid, remove_leftovers, verify
from flowgrpo.policies.base import Policy
from flowgrpo.tensorfile import write_tensors

__all__ = [
    "DamagedCheckpointError", "load_checkpoint", "newest_valid",
    "remove_leftovers", "save_checkpoint", "verify",
]  # fmt: skip

OPTIMIZER_FILE = "optimizer.safetensors"
PROGRESS_FILE = "progress.json"


def save_checkpoint(
    folder: Path,
    learner: Learner,
    progress: Mapping[str, Any],
    *,
    config_hash: str = "",
    parent: str | None = None,
    attempt: int = 1,
) -> str:
    """Commits `folder` (checkpoints/<update>) and returns the SHA-256 of its manifest, which stands for all
    of it.

    progress: JSON that the run needs to go on; finite numbers only. An intact checkpoint of this name stays
    as it is: the same update of the same run is the same checkpoint. Raises ValueError if a tensor is not
    finite, OSError if the disk is full; in both cases nothing has changed.
    """
    if folder.is_dir():
        try:
            verify(folder)
            return manifest.sha256_of(folder / manifest.MANIFEST)
        except DamagedCheckpointError:
            pass  # written again below
    adapters = learner.weights
    optimizer = learner.optimizer_tensors()
    for which, tensors in adapters.items():
        _refuse_non_finite({f"{which} {name}": tensor for name, tensor in tensors.items()})
    _refuse_non_finite(optimizer)
    facts = {"name": folder.name, "config_hash": config_hash, "parent": parent, "attempt": attempt}
    facts["update"] = learner.update
    with manifest.committing(folder, facts) as temporary:
        _write_weights(temporary, learner.policy, adapters)
        failpoint(f"ckpt.write.{OPTIMIZER_FILE}")
        write_tensors(
            temporary / OPTIMIZER_FILE,
            {name: tensor.cpu().contiguous() for name, tensor in optimizer.items()},
        )
        document = {"progress": dict(progress), "learner": learner.state(), "made_by": _made_by(learner)}
        failpoint(f"ckpt.write.{PROGRESS_FILE}")
        (temporary / PROGRESS_FILE).write_text(json.dumps(document, indent=1, allow_nan=False))
    return manifest.sha256_of(folder / manifest.MANIFEST)


def load_checkpoint(folder: Path, learner: Learner) -> dict[str, Any]:
    """Puts the learner back to where `save_checkpoint` saw it and returns the progress it was given.

    Raises DamagedCheckpointError before anything is touched, ValueError if the adapter has another rank or
    other targets, LookupError if another algorithm made it and it lacks a copy that this one keeps.
    """
    verify(folder)
    document = json.loads((folder / PROGRESS_FILE).read_text())
    kept = learner.weights
    found = {which: _read_weights(folder, learner.policy, which) for which in kept}
    for which, weights in kept.items():
        lora.copy_into(weights, found[which])
    learner.load_optimizer_tensors(load_file(folder / OPTIMIZER_FILE))
    learner.load_state(document["learner"])
    progress: dict[str, Any] = document["progress"]
    return progress


def _write_weights(folder: Path, policy: Policy, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """An adapter as an adapter, a whole network as a network."""
    if policy.lora_config is None:
        whole.save(folder, **weights)
    else:
        lora.save(folder, policy.lora_config, policy.lora_prefix, **weights)


def _read_weights(folder: Path, policy: Policy, which: str) -> dict[str, Tensor]:
    """What `_write_weights` wrote, for the same policy; raises ValueError for another."""
    if whole.is_whole(folder) != (policy.lora_config is None):
        saved, wanted = ("a network", "an adapter") if policy.lora_config else ("an adapter", "all weights")
        raise ValueError(f"checkpoint {folder.name} has {saved}, the run trains {wanted}")
    if policy.lora_config is None:
        return whole.load(folder, which)
    config, tensors = lora.load(folder, which)
    if config != policy.lora_config:
        raise ValueError(f"checkpoint {folder.name} has {config}, the run has {policy.lora_config}")
    return tensors


def _refuse_non_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{name} holds numbers that are not finite, so no checkpoint was made: "
                "go back to the last one"
            )


def _made_by(learner: Learner) -> dict[str, str]:
    """What must be the same for a resume to be bit-exact."""
    return {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "peft": peft.__version__,
        "dtype": str(learner.policy.dtype),
        "device": str(learner.policy.device),
        "threads": str(torch.get_num_threads()),
        "machine": platform.machine(),
    }
