"""How much memory tensors take while code runs, without taking it: counted under torch's fake tensors."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

COLLECT_EVERY = 1.02
"""Growth after which cycles are looked for again, which takes time; a peak is too high by this at most."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that operations make and that are still alive.

    Attributes:
        now, peak: bytes.

    Args:
        known: tensors that are there already and are counted elsewhere, such as weights.
        collects: whether what only hangs in reference cycles is let go before it makes a new peak. So hang
            activations that are recomputed, while they are counted, and not otherwise.
    """

    def __init__(self, known: Iterable[Tensor] = (), *, collects: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._collected_at = 0.0 if collects else math.inf
        self._sizes: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Runs the operation and counts the storages that are new."""
        del types
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return  # a view, or an operation in place
        if self.now + storage.nbytes() > max(self.peak, COLLECT_EVERY * self._collected_at):
            gc.collect()
            self._collected_at = self.now
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


@contextmanager
def counted(
    known: Iterable[Tensor], *, collects: bool = False
) -> Iterator[tuple[LiveBytes, FlopCounterMode]]:
    """Inside, live bytes and operations are counted; under `pretending` nothing is computed."""
    live = LiveBytes(known, collects=collects)
    flops = FlopCounterMode(display=False)
    if collects:
        gc.freeze()  # only what is made from here on is looked through, again and again
    try:
        with live, flops:
            yield live, flops
    finally:
        if collects:
            gc.unfreeze()


def pretending() -> FakeTensorMode:
    """Inside, tensors have shapes and no numbers, and take no memory."""
    return FakeTensorMode(allow_non_fake_inputs=True)
