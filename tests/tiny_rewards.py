"""The published rewards on tiny random networks of the same classes, from files as they are published."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from flowgrpo.rewards.aesthetic import AestheticReward
from flowgrpo.rewards.anime import AnimeAestheticReward, WaifuHead
from flowgrpo.rewards.encoders import clip_in_folder
from flowgrpo.rewards.hps import HpsReward
from flowgrpo.rewards.lpips_ref import LpipsReference
from flowgrpo.rewards.pickscore import PickScoreReward
from tests.tiny_clip import SIZE


def tiny_aesthetic(clip: Path) -> AestheticReward:
    return AestheticReward(clip_in_folder(clip), torch.linspace(-1, 1, SIZE), 5.2, "tiny")


def tiny_anime(clip: Path, folder: Path) -> AnimeAestheticReward:
    torch.manual_seed(0)
    head = WaifuHead(SIZE)
    for layer in head.layers:
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.get_buffer("running_mean"), 0, 0.1)
            nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 1.5)
    head.get_parameter("layers.18.bias").data.fill_(5.0)
    save_file(head.state_dict(), folder / "model.safetensors")
    return AnimeAestheticReward(clip_in_folder(clip), folder / "model.safetensors")


def tiny_hps(clip: Path, folder: Path) -> HpsReward:
    torch.manual_seed(1)
    model = open_clip.create_model(f"local-dir:{clip}", load_weights=False)
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, folder / "HPS_tiny.pt")
    return HpsReward(folder / "HPS_tiny.pt", "tiny", architecture=f"local-dir:{clip}")


def tiny_pickscore(folder: Path) -> PickScoreReward:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    return PickScoreReward(folder, "tiny")


def tiny_lpips(folder: Path) -> LpipsReference:
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), folder / "squeezenet.pth")
    return LpipsReference("squeeze", folder / "squeezenet.pth", "tiny")
