"""The adapter: attach it, turn it off, swap its weights, merge it, and give it to other programs.

Tensors are named `<module>.lora_A.weight` and `<module>.lora_B.weight`; files carry the prefix `unet.`
or `transformer.`, which is the layout of diffusers. The output of an adapted module is
`W x + (alpha / rank) B A x`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from flowgrpo.config import LoraConfig
from flowgrpo.failpoints import failpoint
from flowgrpo.tensorfile import read_tensors, write_tensors

ADAPTER = "default"
PREFIXES = ("unet.", "transformer.")
CONFIG_FILE = "adapter_config.json"
EXPORT_FILE = "pytorch_lora_weights.safetensors"


def attach(network: nn.Module, config: LoraConfig, seed: int) -> None:
    """Wraps the target modules: A is random by `seed`, B is zero, so nothing changes yet.

    Both are float32 whatever the base is.
    """
    assert config.targets is not None
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets), lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.add_adapter(settings, adapter_name=ADAPTER)  # type: ignore[operator]  # diffusers' mixin
    network.eval()
    for parameter in parameters(network).values():
        parameter.data = parameter.data.float()


def parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's tensors by name, in the network's order; empty where there is no adapter."""
    return {
        name.replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in network.named_parameters()
        if f".{ADAPTER}." in name and "lora_" in name
    }


def layers(network: nn.Module) -> list[BaseTunerLayer]:
    """The wrapped modules."""
    return [module for module in network.modules() if isinstance(module, BaseTunerLayer)]


@contextmanager
def disabled(layers: Sequence[BaseTunerLayer], live: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Inside, the network is the base. The adapter is on, and all of `live` learns, before and after."""
    assert not any(layer.disable_adapters for layer in layers), "the adapter was off already"
    assert all(parameter.requires_grad for parameter in live.values())
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)  # peft also turns requires_grad off and on again
    assert all(parameter.requires_grad for parameter in live.values())


@contextmanager
def swapped(live: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, `live` holds the values of `tensors`.

    The values put aside are clones: on a CPU nothing less is a copy.
    """
    aside = {name: parameter.detach().clone() for name, parameter in live.items()}
    copy_into(live, tensors)
    try:
        yield
    finally:
        copy_into(live, aside)


@torch.no_grad()
def copy_into(live: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copies values by name; both sides must have the same names and shapes."""
    if live.keys() != tensors.keys():
        odd = sorted(live.keys() ^ tensors.keys())
        raise ValueError(
            f"adapters differ in {len(odd)} tensors, the first is {odd[0]}: rank and targets must match"
        )
    for name, tensor in live.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
            raise ValueError(f"{name} has shape {shapes}: rank and targets must match")
        tensor.copy_(tensors[name])


def save(folder: Path, config: LoraConfig, prefix: str = "unet.", **adapters: Mapping[str, Tensor]) -> None:
    """Writes `adapter_config.json` and `adapter/<which>.safetensors` for each of `adapters` into a folder."""
    (folder / "adapter").mkdir(parents=True)
    failpoint(f"ckpt.write.{CONFIG_FILE}")
    (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=1))
    for which, tensors in adapters.items():
        failpoint(f"ckpt.write.adapter/{which}")
        path = folder / "adapter" / f"{which}.safetensors"
        write_tensors(path, _for_file(tensors, prefix), {"format": "pt"})


def load(folder: Path, which: str) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Configuration and tensors of `adapter/<which>.safetensors` in a checkpoint folder."""
    path = folder / "adapter" / f"{which}.safetensors"
    if not path.is_file():
        raise LookupError(f"{folder} holds no adapter '{which}': expected {path.name} in its folder adapter")
    config = LoraConfig.model_validate_json((folder / CONFIG_FILE).read_text())
    tensors, _ = read_tensors(path)
    prefix = next((one for one in PREFIXES if all(name.startswith(one) for name in tensors)), "")
    return config, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def export(path: Path, config: LoraConfig, tensors: Mapping[str, Tensor], prefix: str = "unet.") -> Path:
    """Writes one file for other programs, in diffusers' layout, with the scale folded into B."""
    write_tensors(path, *for_diffusers(config, tensors, prefix))
    return path


def for_diffusers(
    config: LoraConfig, tensors: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file in diffusers' layout.

    Readers that assume alpha = rank and readers that believe the metadata agree: the scale is in B.
    """
    targets = sorted({name.partition(".lora_")[0] for name in tensors})
    settings = {"r": config.rank, "lora_alpha": config.rank, "target_modules": targets}
    metadata = {f"{prefix}{key}": value for key, value in settings.items()}
    header = {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)}
    return _for_file(baked(config, tensors), prefix), header


def baked(config: LoraConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with alpha / rank folded into B."""
    scale = config.alpha / config.rank
    return {name: tensor * scale if "lora_B" in name else tensor for name, tensor in tensors.items()}


def _for_file(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def merge(network: nn.Module, config: LoraConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adds (alpha / rank) B A to the weights, and returns the weights as they were, by name.

    Raises ValueError for an adapter that does not fit. Whatever is raised, no weight has changed.
    """
    names = check_fit(network, tensors)
    originals: dict[str, Tensor] = {}
    with ExitStack() as undo:  # memory may run out half way
        undo.callback(unmerge, network, originals)
        for name in names:
            weight = _weight(network, name)
            low, high = (tensors[f"{name}.lora_{half}.weight"].to(weight.device).float() for half in "AB")
            delta = (config.alpha / config.rank) * (high.flatten(1) @ low.flatten(1))
            originals[f"{name}.weight"] = weight.clone()
            weight.copy_(weight.float() + delta.view_as(weight))
        undo.pop_all()
    return originals


def check_fit(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """The modules that an adapter changes; raises ValueError where it does not fit the network."""
    names = list(dict.fromkeys(key.partition(".lora_")[0] for key in tensors))
    for name in names:
        _check_module(_weight(network, name), name, tensors)
    return names


def _check_module(weight: Tensor, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless B A has the shape of the weight; of a convolution, A has the kernel."""
    low, high = (tensors.get(f"{name}.lora_{half}.weight") for half in "AB")
    if low is None or high is None:
        raise ValueError(f"the adapter has one half of {name} only: it is damaged, choose another checkpoint")
    product = (high.shape[0], *low.shape[1:])
    if product != weight.shape or high.flatten(1).shape[1] != low.shape[0]:
        shapes = f"{tuple(high.shape)} by {tuple(low.shape)} on a weight of {tuple(weight.shape)}"
        raise ValueError(f"the adapter does not fit {name}: {shapes}; it is damaged or made for another base")


@torch.no_grad()
def unmerge(network: nn.Module, originals: Mapping[str, Tensor]) -> None:
    """Puts back what `merge` or `whole.replace` returned."""
    for name, original in originals.items():
        network.get_parameter(name).copy_(original)


def _weight(network: nn.Module, name: str) -> Tensor:
    try:
        return network.get_parameter(f"{name}.weight")
    except AttributeError as error:
        raise ValueError(
            f"the adapter changes {name}, which this model does not have: it fits another base"
        ) from error
