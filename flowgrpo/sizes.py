"""The modules of a base under torch's fake tensors: what one pass takes, without weights or computing.

Every storage that a forward or a backward pass makes is counted while it lives. Weights are counted apart.
Fake tensors are typed as the CPU's, whose attention kernel needs no score matrix, as a GPU's does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from flowgrpo import lora
from flowgrpo.config import LoraConfig
from flowgrpo.families import UNETS
from flowgrpo.live import counted, pretending
from flowgrpo.published import Architecture


@dataclass(frozen=True)
class Pass:
    """One micro-batch through a module: bytes that live at its peak besides weights, and operations."""

    peak_bytes: int
    flops: int


class Sizes:
    """The modules of a base under fake tensors, with the adapter that would learn.

    Args:
        adapter: None where all weights of the network learn.
        dtype: of the base's weights.
        checkpointing: whether activations are computed again in the backward pass instead of kept.
    """

    def __init__(
        self,
        base: Architecture,
        adapter: LoraConfig | None,
        dtype: torch.dtype = torch.float32,
        *,
        checkpointing: bool = False,
    ) -> None:
        self.base, self.dtype, self.checkpointing = base, dtype, checkpointing
        is_upcast = dtype == torch.float16 and base.vae.get("force_upcast", True)
        # nn.Module's own `to`: diffusers' gives advice about weights, of which there are none
        network = nn.Module.to(base.build_network(), dtype)
        vae = nn.Module.to(base.build_vae(), torch.float32 if is_upcast else dtype)
        network.requires_grad_(adapter is None)
        if adapter is None:
            self.adapter = dict(network.named_parameters())
        else:
            targets = adapter.targets or base.default_targets
            lora.attach(network, adapter.model_copy(update={"targets": targets}), seed=0)
            self.adapter = lora.parameters(network)
        if checkpointing:
            again = partial(recomputed, use_reentrant=False, preserve_rng_state=False)
            network.enable_gradient_checkpointing(again)  # type: ignore[operator]
        self._pretence = pretending()
        self._known: dict[tuple[object, ...], Pass] = {}
        with self._pretence:
            self.network: nn.Module = network.to_empty(device="cpu")
            self.vae: nn.Module = vae.to_empty(device="cpu").eval().requires_grad_(False)

    @property
    def network_bytes(self) -> int:
        """Of the denoiser without what learns."""
        return sum(_bytes(p) for p in self.network.parameters()) - self.adapter_bytes

    @property
    def vae_bytes(self) -> int:
        """Of the VAE."""
        return sum(_bytes(p) for p in self.vae.parameters())

    @property
    def text_bytes(self) -> int:
        """Of the text encoders."""
        return self.base.text_parameters * self.dtype.itemsize

    @property
    def word_bytes(self) -> int:
        """Of one encoded prompt."""
        tokens, wide, pooled = self.base.words
        return (tokens * wide + pooled) * self.dtype.itemsize

    @property
    def adapter_bytes(self) -> int:
        """Of the adapter, or whatever learns, float32."""
        return sum(4 * parameter.numel() for parameter in self.adapter.values())

    @property
    def has_guidance_input(self) -> bool:
        """Whether guidance costs no second half."""
        return bool(self.base.network.get("guidance_embeds"))

    def denoise(self, rows: int, width: int, height: int, *, learns: bool) -> Pass:
        """One call of the denoiser on so many images, and its backward pass where it learns."""
        key = ("denoise", rows, width, height, learns)
        if key not in self._known:
            self._known[key] = self._denoise(rows, width, height, learns=learns)
        return self._known[key]

    def encode(self, rows: int, width: int, height: int) -> Pass:
        """One call of the VAE's encoder."""
        return self._through_vae("encode", rows, (3, height, width))

    def decode(self, rows: int, width: int, height: int) -> Pass:
        """One call of the VAE's decoder."""
        side = self.base.vae_factor
        shape = (int(self.base.vae["latent_channels"]), height // side, width // side)
        return self._through_vae("decode", rows, shape)

    def _denoise(self, rows: int, width: int, height: int, *, learns: bool) -> Pass:
        with self._pretence:
            latents, words = self._inputs(rows, width, height)
            held = [*self.network.parameters(), *self.network.buffers(), latents, *_tensors(words)]
            collects = learns and self.checkpointing
            with torch.set_grad_enabled(learns), counted(held, collects=collects) as (live, flops):
                said = self.network(latents, **words, return_dict=False)[0]
                if learns:
                    said.float().square().mean().backward()
                    self.network.zero_grad(set_to_none=True)
                del said
        return Pass(live.peak, flops.get_total_flops())

    def _through_vae(self, method: str, rows: int, shape: tuple[int, int, int]) -> Pass:
        key = (method, rows, *shape)
        if key not in self._known:
            with self._pretence, torch.no_grad():
                taken = torch.empty(rows, *shape, dtype=next(self.vae.parameters()).dtype)
                with counted([*self.vae.parameters(), taken]) as (live, flops):
                    getattr(self.vae, method)(taken, return_dict=False)
            self._known[key] = Pass(live.peak, flops.get_total_flops())
        return self._known[key]

    def _inputs(self, rows: int, width: int, height: int) -> tuple[Tensor, dict[str, object]]:
        """What the denoiser is called with: its latents, and the rest by name."""
        side, (tokens, wide, pooled) = self.base.vae_factor, self.base.words

        def empty(*shape: int) -> Tensor:
            return torch.empty(*shape, dtype=self.dtype)

        words, latents = empty(rows, tokens, wide), (height // side, width // side)
        channels = int(self.base.network["in_channels"])
        if self.base.family == "flux":
            number = (latents[0] // 2) * (latents[1] // 2)
            return empty(rows, number, channels), {
                "timestep": empty(rows), "guidance": empty(rows), "encoder_hidden_states": words,
                "pooled_projections": empty(rows, pooled), "txt_ids": empty(tokens, 3),
                "img_ids": empty(number, 3),
            }  # fmt: skip
        image = empty(rows, channels, *latents)
        if self.base.family not in UNETS:
            told: dict[str, object] = {"timestep": empty(rows), "encoder_hidden_states": words}
            return image, told | ({"pooled_projections": empty(rows, pooled)} if pooled else {})
        added = {"text_embeds": empty(rows, pooled), "time_ids": empty(rows, 6)} if pooled else None
        return image, {"timestep": empty(1), "encoder_hidden_states": words, "added_cond_kwargs": added}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(words: dict[str, object]) -> list[Tensor]:
    nested = [v for value in words.values() for v in (value.values() if isinstance(value, dict) else [value])]
    return [value for value in nested if isinstance(value, Tensor)]
