"""What every family of models has in common: velocity in, images out, one adapter that learns.

A family says how its network is called, which texts it reads and how its latents are decoded. Guidance, the
memory of encoded prompts and the adapter are the same for all. Nothing here draws noise or knows of rewards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from flowgrpo import exchange, flow, lora, whole
from flowgrpo.config import LoraConfig

MAX_CACHED_BYTES = 2 * 2**30
"""Of encoded prompts, in main memory: 500 of FLUX.1's, which are 4 MB each, or 6,000 of SDXL's."""
Words = dict[str, Tensor]
"""What one text, or one text per sample, is to a network: the network's own names to tensors."""


@dataclass(frozen=True)
class Conditioning:
    """What the network is told about each sample; `negative` is None where there is no guidance.

    All tensors carry the samples in dimension 0.
    """

    positive: Words
    negative: Words | None = None

    def rows(self, rows: slice | Tensor) -> Conditioning:
        """The conditioning of some of the samples."""
        negative = self.negative and {name: tensor[rows] for name, tensor in self.negative.items()}
        return Conditioning({name: tensor[rows] for name, tensor in self.positive.items()}, negative)

    def guided(self) -> Words:
        """Both halves in one batch, the negative first, in the order of diffusers' pipelines."""
        negative = self.unconditional()
        return {name: torch.cat([negative[name], tensor]) for name, tensor in self.positive.items()}

    def unconditional(self) -> Words:
        """The negative half."""
        if self.negative is None:
            raise ValueError("guidance needs a conditioning that was encoded with guided=True")
        return self.negative


def memory_format(device: torch.device) -> torch.memory_format:
    """How images lie in memory where convolutions are quickest: channels last on a CPU.

    On a GPU GroupNorm gives its output channels first (pytorch/pytorch#111824), and every convolution of a
    UNet would turn it around; so laid out, SSD-1B took 1.18 times diffusers' time (docs/benchmarks.md).
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


class Policy(ABC):
    """A pipeline and its active adapter. A family's class is called with (pipeline, device).

    Weights are frozen and in eval mode, and stay so: rollout and update must run the same network.

    Args:
        pipeline: of diffusers; supplies weights, tokenizers and configuration.
        network: its denoiser, a UNet or a transformer, already on `device`.
        text_encoders: what reads prompts; they visit the device while they read, and leave it again.
    """

    family: str
    """As stored with a base: a name in `flowgrpo.families`."""
    schedule: flow.Schedule
    prediction: flow.Prediction = "flow"
    """What the network was trained to give."""
    default_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Suffixes of the modules that get an adapter where a configuration names none."""
    lora_prefix: str = "transformer."
    """What other programs put before the names of the network's modules."""
    has_guidance_input: bool = False
    """Whether the network takes the guidance scale as a number (FLUX.1-dev): one half then does for any."""

    def __init__(
        self,
        pipeline: Any,
        network: nn.Module,
        text_encoders: Sequence[nn.Module | None],
        device: torch.device,
    ) -> None:
        self.pipeline, self.device = pipeline, device
        self.network: Any = network
        self.dtype: torch.dtype = next(network.parameters()).dtype
        self.vae: Any = pipeline.vae.to(device=device)
        if self.dtype == torch.float16 and self.vae.config.force_upcast:
            self.vae.to(dtype=torch.float32)  # SDXL's VAE overflows float16 and gives black images
        self._text_encoders = [encoder for encoder in text_encoders if encoder is not None]
        for module in (network, self.vae, *self._text_encoders):
            module.eval().requires_grad_(False)
        self.lora_config: LoraConfig | None = None
        self._layers: list[BaseTunerLayer] = []
        self._live: dict[str, nn.Parameter] = {}
        self._merged: dict[str, Tensor] = {}
        self._encoded: OrderedDict[str, Words] = OrderedDict()

    # Shapes and times

    @property
    def vae_factor(self) -> int:
        """Pixels per latent element along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def size_step(self) -> int:
        """Width and height are multiples of this many pixels."""
        return self.vae_factor

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.network.config.in_channels)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(channel, height, width) of one sample's latents.

        Raises ValueError for sizes in pixels that are no multiple of `size_step`.
        """
        for name, size in (("width", width), ("height", height)):
            if size < 1 or size % self.size_step:
                nearest = max(1, round(size / self.size_step)) * self.size_step
                raise ValueError(f"{name} must be a multiple of {self.size_step}, got {size}: try {nearest}")
        return self.latent_channels, height // self.vae_factor, width // self.vae_factor

    def grid(self, num_steps: int, width: int, height: int) -> tuple[float, ...]:
        """The `num_steps + 1` decreasing RF times of a sampler of images of this many pixels; the last is
        0.
        """
        del width, height  # families whose noise levels depend on the size say so
        return self.schedule.grid(num_steps)

    # Words

    def encode(
        self,
        prompts: Sequence[str],
        negative_prompt: str = "",
        *,
        guided: bool,
        width: int,
        height: int,
    ) -> Conditioning:
        """Conditioning of one sample per prompt. Each text is encoded once, alone, and remembered.

        An empty negative prompt means the unconditional embedding, as for diffusers' `negative_prompt=None`.
        """
        self._remember([*prompts, *([negative_prompt] if guided else [])])
        positive = self._stacked([self._encoded[prompt] for prompt in prompts], width, height)
        if not guided:
            return Conditioning(positive)
        unconditional = self._unconditional(negative_prompt, self._encoded[negative_prompt])
        return Conditioning(positive, self._stacked([unconditional] * len(prompts), width, height))

    def _remember(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        with torch.no_grad(), self._encoders_on_device() if new else nullcontext():
            for text in new:
                self._encoded[text] = {name: row[0].cpu() for name, row in self._read(text).items()}
        wanted = dict.fromkeys(texts)
        for text in wanted:
            self._encoded.move_to_end(text)
        held = sum(_bytes(words) for words in self._encoded.values())
        while held > MAX_CACHED_BYTES and len(self._encoded) > len(wanted):
            held -= _bytes(self._encoded.popitem(last=False)[1])

    @contextmanager
    def _encoders_on_device(self) -> Iterator[None]:
        """Text encoders are large and idle for most of a run: they take the device's memory only here."""
        for encoder in self._text_encoders:
            encoder.to(self.device)
        try:
            yield
        finally:
            for encoder in self._text_encoders:
                encoder.to("cpu")

    def _stacked(self, texts: Sequence[Words], width: int, height: int) -> Words:
        words = {name: torch.stack([text[name] for text in texts]).to(self.device) for name in texts[0]}
        return words | self._extras(len(texts), width, height, words)

    @abstractmethod
    def _read(self, text: str) -> Words:
        """The encoding of one text, a batch of one."""

    def _unconditional(self, negative_prompt: str, encoded: Words) -> Words:
        """What guidance steers away from."""
        del negative_prompt
        return encoded

    def _extras(self, num_samples: int, width: int, height: int, words: Words) -> Words:
        """What else the network is told, sample by sample: sizes, positions."""
        del num_samples, width, height, words
        return {}

    # The network

    def velocity(
        self,
        latents: flow.Latents,
        t: flow.Time,
        conditioning: Conditioning,
        guidance_scale: float = 1.0,
        *,
        unconditional: Tensor | None = None,
    ) -> flow.Latents:
        """The velocity eps_hat - x0_hat at RF latents of time t, after guidance; float32.

        Guidance is v = v_uncond + guidance_scale (v_cond - v_uncond) on what the network predicts, both
        halves in one batch; at scale 1 only the conditional half is computed.

        Args:
            t: of all samples, or one per sample.
            unconditional: the prediction of the unconditional half, as `velocity_and_half` gave it: then the
                other half alone is computed.
        """
        if unconditional is None or guidance_scale <= 1:
            return self.velocity_and_half(latents, t, conditioning, guidance_scale)[0]
        conditional = self._predict(latents, t, conditioning.positive)
        prediction = unconditional + guidance_scale * (conditional - unconditional)
        return flow.velocity_from(prediction, latents.float(), t, self.prediction)

    def velocity_and_half(
        self, latents: flow.Latents, t: flow.Time, conditioning: Conditioning, guidance_scale: float
    ) -> tuple[flow.Latents, Tensor | None]:
        """The velocity, and what the network predicts without the prompt; None where it was not asked."""
        unconditional = None
        if guidance_scale <= 1:
            prediction = self._predict(latents, t, conditioning.positive)
        else:
            twice = torch.cat([t, t]) if isinstance(t, Tensor) else t
            both = self._predict(torch.cat([latents, latents]), twice, conditioning.guided())
            unconditional, conditional = both.chunk(2)
            prediction = unconditional + guidance_scale * (conditional - unconditional)
        return flow.velocity_from(prediction, latents.float(), t, self.prediction), unconditional

    @abstractmethod
    def _predict(self, latents: Tensor, t: flow.Time, words: Words) -> Tensor:
        """What the network says, float32, whatever it predicts."""

    def model_time(self, t: flow.Time) -> Tensor:
        """The timestep that the network is given at RF time t, float32, of all samples or one per sample."""
        return torch.as_tensor(self.schedule.timestep(t), dtype=torch.float32, device=self.device)

    # Pixels

    @torch.no_grad()
    def decode(self, latents: flow.Latents) -> Float[Tensor, "sample 3 height width"]:
        """Images in [0, 1], float32, of clean latents (time 0, where RF and VP coordinates agree)."""
        mean, std = self._latent_moments(latents)
        unscaled = (latents * std + mean).to(self.vae.dtype)
        images: Tensor = self.vae.decode(unscaled, return_dict=False)[0].float()
        return (images / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def encode_images(
        self, images: Float[Tensor, "sample 3 height width"], noise: flow.Latents | None = None
    ) -> flow.Latents:
        """Clean latents, float32, of images in [0, 1]: the posterior's mean, or a draw of it from `noise`."""
        pixels = (images.to(self.device) * 2 - 1).to(self.vae.dtype)
        posterior = self.vae.encode(pixels).latent_dist
        drawn = posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean)
        mean, std = self._latent_moments(drawn)
        latents: Tensor = (drawn.float() - mean) / std
        return latents

    def _latent_moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, std) of the VAE's raw latents; the model's have mean 0 and std 1."""
        config = self.vae.config
        scale = torch.tensor(1 / config.scaling_factor, device=like.device)
        shift = torch.tensor(getattr(config, "shift_factor", None) or 0.0, device=like.device)
        means, stds = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if means is None or stds is None:
            return shift, scale
        mean, std = (torch.tensor(values, device=like.device).view(1, -1, 1, 1) for values in (means, stds))
        return mean, std * scale

    # Adapters

    def attach_lora(self, config: LoraConfig, seed: int = 0) -> None:
        """Adds a fresh adapter that changes nothing yet and is all that learns; `seed` fixes its start."""
        if self.lora_config is not None:
            raise ValueError("this policy has an adapter already: load the policy again to attach another")
        config = config.model_copy(update={"targets": config.targets or self.default_targets})
        lora.attach(self.network, config, seed)
        self.network.to(memory_format=memory_format(self.device))
        self._layers, self._live = lora.layers(self.network), lora.parameters(self.network)
        self.lora_config = config

    def unfreeze(self) -> None:
        """Has all weights of the network learn, without an adapter.

        Raises ValueError below float32, where a small step would be rounded away.
        """
        if self.lora_config is not None:
            raise ValueError("this policy has an adapter, which is what learns: load the policy again")
        if self.dtype != torch.float32:
            raise ValueError(
                f"all weights learn in float32 only and the base is in {self.dtype}: set precision to "
                "float32, or train an adapter"
            )
        self.network.requires_grad_(True)
        self._live = dict(self.network.named_parameters())

    def enable_gradient_checkpointing(self) -> None:
        """Has activations computed again in the backward pass instead of kept.

        Non-reentrant: the frozen network's inputs need no gradient, which the reentrant kind would wait for
        in vain (huggingface/transformers#21381). Nothing random is inside, so no generator's state is kept.
        """
        again = partial(recomputed, use_reentrant=False, preserve_rng_state=False)
        self.network.enable_gradient_checkpointing(again)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Name to parameter, in the network's order, float32: of the adapter (`<module>.lora_A.weight`), or
        of the whole network after `unfreeze`.
        """
        return self._live

    def load_adapter(self, checkpoint: Path, which: str = "ema") -> None:
        """Adds a checkpoint's adapter to the weights, for sampling at the base's own speed, or puts its whole
        network in their place; replaces an earlier one. A file of another program, in diffusers' or kohya's
        layout, does as well.
        """
        if self.lora_config is not None:
            raise ValueError(
                "a policy that is being tuned cannot load a second adapter: load the policy again"
            )
        if checkpoint.is_file():
            adapter: tuple[LoraConfig, dict[str, Tensor]] | None = self.read_adapter(checkpoint)
        else:
            adapter = None if whole.is_whole(checkpoint) else lora.load(checkpoint, which)
        self.unload_adapter()
        if adapter is None:
            self._merged = whole.replace(self.network, whole.load(checkpoint, which))
        else:
            self._merged = lora.merge(self.network, *adapter)

    def read_adapter(self, path: Path) -> tuple[LoraConfig, dict[str, Tensor]]:
        """Configuration and tensors of a file of another program; see `exchange.read`."""
        layers = getattr(self.network.config, "layers_per_block", 2)
        return exchange.read(path, self.network, self.family, layers)

    def unload_adapter(self) -> None:
        """Back to the base, bit for bit."""
        lora.unmerge(self.network, self._merged)
        self._merged = {}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the adapter is off: the policy that KL is measured against."""
        with lora.disabled(self._layers, self._live):
            yield

    @contextmanager
    def weights(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the adapter holds `tensors` (the EMA, to evaluate it); afterwards what it held before, bit
        for bit.
        """
        with lora.swapped(self._live, tensors):
            yield


def _bytes(words: Words) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in words.values())
