"""`lpips_ref`: LPIPS (arXiv 1801.03924) to a reference image, by the authors' package, its sign turned.

The package brings the learned heads; the ImageNet trunks are torchvision's and are fetched. They go into the
package's slices by the numbers of their layers, so that nothing is downloaded behind our back. The reference
is what the batch carries: a wanted image, or the base's image of the same seed as an anchor.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import lpips
import torch
from torch import Tensor, nn

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored, unscored
from flowgrpo.rewards.cards import CARDS, TRUNKS
from flowgrpo.rewards.fetch import Options, obtain
from flowgrpo.rewards.perceptual import NO_REFERENCE
from flowgrpo.torchfile import read_torch

_PER_FORWARD: Final = 16


class LpipsReference:
    """Minus the distance, at most 0; about -0.7 between unlike images.

    Args:
        net: "alex" (for reports), "vgg" or "squeeze".
        trunk: Weights of that network as torchvision saves them.
        version: Of them.
    """

    def __init__(
        self, net: str, trunk: Path, version: str, device: str = "cpu", card: RewardSpec = CARDS["lpips_ref"]
    ) -> None:
        self.metric = opened(net, read_torch(trunk)).to(device)
        self.device = device
        self.spec = replace(card, version=f"lpips 0.1 {net} {version}")

    @torch.no_grad()
    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Of every image; NaN where there are no references."""
        if batch.references is None:
            return unscored(len(batch), NO_REFERENCE)
        pairs = zip(batch.images.split(_PER_FORWARD), batch.references.split(_PER_FORWARD), strict=True)
        return scored(-torch.cat([self.metric(self._signed(a), self._signed(b)).flatten() for a, b in pairs]))

    def _signed(self, images: Tensor) -> Tensor:
        return images.to(self.device).float() / 127.5 - 1


def opened(net: str, trunk: dict[str, Tensor]) -> nn.Module:
    """The package's network with the package's heads and this trunk.

    Raises:
        KeyError: The trunk lacks a layer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the package asks torchvision in its old words
        metric: Any = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    metric.net.load_state_dict({key: trunk[source(key)] for key in metric.net.state_dict()})
    result: nn.Module = metric.eval().requires_grad_(False)
    return result


def source(key: str) -> str:
    """`slice2.3.weight` of the package is `features.3.weight` of torchvision."""
    return f"features.{key.partition('.')[2]}"


def load(card: RewardSpec, option: str, options: Options) -> LpipsReference:
    """For the registry. Option: the net; alex where none is named."""
    net = option or "alex"
    if net not in TRUNKS:
        raise ValueError(f'LPIPS has the nets {", ".join(TRUNKS)}, and no "{net}"')
    return LpipsReference(net, obtain(TRUNKS[net], options), TRUNKS[net].sha256[:8], options.device, card)
