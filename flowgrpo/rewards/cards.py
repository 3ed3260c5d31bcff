"""What is known of each reward before its weights are: the facts of its card, and which files it needs.

Numbers and licences are those of rewards.md 1 and 7.1. `size_mb` of a spec is memory; that of a file is what
is fetched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flowgrpo.rewards.base import RewardSpec
from flowgrpo.rewards.fetch import HubFile, Learned, Pinned

STARTER: Final = "Apache-2.0; portraits CC BY 4.0"
OPENAI_L: Final = "ViT-L-14-quickgelu/openai"
"""What both aesthetic heads were trained on; nothing else will do."""

LAION_HEAD: Final = Pinned(
    "the head of LAION aesthetic V2",
    "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
    "sac%2Blogos%2Bava1-l14-linearMSE.pth",
    "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
    3.7,
    "Apache-2.0",
)
WAIFU_HEAD: Final = Pinned(
    "the head of waifu-scorer v3",
    "https://huggingface.co/Eugeoter/waifu-scorer-v3/resolve/c2a747fd61d310a90e9cbbf8fc590c522f234424/"
    "model.safetensors",
    "7def1b66314e318d9b045ff225fd51bb83bfbca855b12b2e213a5483efe37efd",
    11.2,
    "openrail in its card's head, Apache-2.0 in its text",
)
HEAD: Final = Learned("a preference head, which is fitted to your ratings", 2.0, "yours")
HPS_WEIGHTS: Final = Pinned(
    "the weights of HPS v2.1",
    "https://huggingface.co/xswu/HPSv2/resolve/697403c78157020a1ae59d23f111aa58ced35b0a/"
    "HPS_v2.1_compressed.pt",
    "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
    1972.0,
    "Apache-2.0",
)
PICKSCORE_WEIGHTS: Final = HubFile(
    "PickScore v1",
    "yuvalkirstain/PickScore_v1",
    ("model.safetensors",),
    3945.0,
    "no licence named",
    "a4e4367c6dfa7288a00c550414478f865b875800",
)
PICKSCORE_CONFIG: Final = replace(
    PICKSCORE_WEIGHTS, what="its configuration", names=("config.json",), size_mb=0.01
)
TRUNKS: Final = {
    "alex": Pinned(
        "the AlexNet of LPIPS",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244.0,
        "BSD-3-Clause",
    ),
    "vgg": Pinned(
        "the VGG-16 of LPIPS",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553.0,
        "BSD-3-Clause",
    ),
    "squeeze": Pinned(
        "the SqueezeNet of LPIPS",
        "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        5.0,
        "BSD-3-Clause",
    ),
}
"""ImageNet weights of torchvision under the heads that the `lpips` package brings."""
_ENCODERS: Final = {
    OPENAI_L: (1711.0, "MIT"),
    "ViT-B-32-quickgelu/openai": (605.0, "MIT"),
    "ViT-B-32/laion2b_s34b_b79k": (605.0, "MIT"),
    "ViT-H-14/laion2b_s32b_b79k": (3944.0, "MIT"),
    "ViT-B-16-SigLIP2-256/webli": (1500.0, "Apache-2.0"),
}
"""Size in MB and licence of the models that people take; of others, open_clip's cards tell."""


def encoder_facts(source: str) -> tuple[float, str]:
    """Megabytes (0 where not known) and licence of a named CLIP."""
    return _ENCODERS.get(source, (0.0, "see the model's card"))


def _spec(name: str, title: str, scale: tuple[float, float], licence: str, measures: str) -> RewardSpec:
    return RewardSpec(name, title, "pointwise", *scale, version="", licence=licence, measures=measures)


_IMAGE_ALONE: Final = ()
CARDS: Final[dict[str, RewardSpec]] = {
    spec.name: spec
    for spec in (
        replace(
            _spec(
                "verifier", "attribute verifier (embedded)", (0.0, 1.0), STARTER,
                "how surely the image shows each attribute that the prompt asks for: mean probability",
            ),
            size_mb=1.2, embedded=True,
        ),
        replace(
            _spec(
                "clip", "tiny CLIP (embedded)", (0.0, 1.0), STARTER,
                "how well image and prompt go together: cosine of their embeddings",
            ),
            size_mb=12.4, embedded=True,
        ),
        replace(
            _spec(
                "quality", "technical quality (embedded)", (0.0, 1.0), STARTER,
                "clean lines, nothing melted, no noise; not a matter of taste",
            ),
            needs=_IMAGE_ALONE, size_mb=14.0, embedded=True,
        ),
        replace(
            _spec(
                "diversity", "perceptual diversity (embedded)", (0.0, 1.0), "Apache-2.0",
                "distance to the most similar image of its group; 0 for a copy",
            ),
            kind="groupwise", needs=("group",), size_mb=13.7, embedded=True,
        ),
        replace(
            _spec(
                "perceptual_ref", "perceptual-efflite0 to a reference (embedded)", (-1.0, 0.0), "Apache-2.0",
                "minus the distance to the reference image as a viewer sees it; uncalibrated, not LPIPS",
            ),
            kind="reference", needs=("reference",), size_mb=13.7, embedded=True,
        ),
        replace(
            _spec(
                "aesthetic", "LAION aesthetic V2", (1.0, 10.0), "Apache-2.0; encoder MIT",
                "how much people of 2022 liked images like it, mostly photos: one direction in CLIP's space, "
                "so easily exploited",
            ),
            needs=_IMAGE_ALONE, size_mb=1711.0,
        ),
        replace(
            _spec(
                "aesthetic_anime", "waifu-scorer v3", (0.0, 10.0), f"{WAIFU_HEAD.licence}; encoder MIT",
                "how much an anime drawing is liked, by one author's labels",
            ),
            needs=_IMAGE_ALONE, size_mb=1722.0,
        ),
        replace(
            _spec(
                "pickscore", "PickScore v1", (18.0, 24.0), "no licence named",
                "which image people who chose between two for a prompt would prefer (Pick-a-Pic)",
            ),
            size_mb=3945.0,
            notice="The card of PickScore's weights names no licence; their code is MIT. Whether you may use "
            "them is for you to judge.",
        ),
        replace(
            _spec(
                "hpsv21", "HPS v2.1", (0.15, 0.35), "Apache-2.0",
                "which image people would prefer for the prompt (HPD v2); compare within one prompt only",
            ),
            size_mb=3945.0,
        ),
        replace(
            _spec(
                "ocr", "text in the image (rapidocr)", (0.0, 1.0), "Apache-2.0",
                "how exactly the text that the prompt puts in quotes can be read in the image",
            ),
            size_mb=32.0,
        ),
        replace(
            _spec(
                "lpips_ref", "LPIPS (alex) to a reference", (-1.0, 0.0), "BSD-2-Clause; trunk BSD-3-Clause",
                "minus the learned perceptual distance to the reference image",
            ),
            kind="reference", needs=("reference",), size_mb=10.0,
        ),
        replace(
            _spec(
                "safety", "Yahoo Open NSFW", (0.0, 1.0), "BSD-2-Clause model, MIT package",
                "one minus the probability of nudity; trained on photos, weak on drawings",
            ),
            kind="gate", needs=_IMAGE_ALONE, threshold=0.5, size_mb=24.0,
        ),
        replace(
            _spec(
                "human", "what raters like", (-3.0, 3.0), "your ratings; encoder Apache-2.0",
                "how well the people who rated would like it: a linear head on frozen features",
            ),
            needs=_IMAGE_ALONE, size_mb=26.0,
        ),
        replace(
            _spec(
                "pixel_stats", "pixel statistics", (0.0, 1.0), "Apache-2.0",
                "mean saturation; and clipping, total variation and JPEG size, which exploited rewards drive",
            ),
            kind="monitor", needs=_IMAGE_ALONE,
        ),
    )
}  # fmt: skip


def _encoder_title(option: str) -> str:
    """Of a named model, or of a folder (`local-dir:`), whose path is nobody's business."""
    return f"CLIP {option.rpartition('/')[2] if ':' in option else option.replace('/', ' ')}"


def plain_card(name: str, option: str) -> RewardSpec:
    """The card of a reward that takes no option.

    Raises:
        LookupError: One was given.
    """
    if option:
        raise LookupError(f'the reward "{name}" takes no option, and "{option}" was asked for')
    return CARDS[name]


def clip_card(name: str, option: str) -> RewardSpec:
    """The card of `clip`, or of `clip:<architecture>/<tag>`, whose cosines are lower."""
    if not option:
        return CARDS[name]
    size_mb, licence = encoder_facts(option)
    return replace(
        CARDS[name], name=f"{name}:{option}", title=_encoder_title(option), high=0.4,
        licence=licence, size_mb=size_mb, embedded=False,
    )  # fmt: skip


def human_card(name: str, option: str) -> RewardSpec:
    """The card of `human`, or of `human:<architecture>/<tag>`, whose head looks through another encoder."""
    if not option:
        return CARDS[name]
    size_mb, licence = encoder_facts(option)
    return replace(
        CARDS[name], name=f"{name}:{option}", licence=f"your ratings; encoder {licence}", size_mb=size_mb
    )


def diversity_card(name: str, option: str) -> RewardSpec:
    """The card of `diversity`, or of `diversity:clip` and `diversity:<architecture>/<tag>`."""
    if not option:
        return CARDS[name]
    is_embedded = option == "clip"
    size_mb, licence = (CARDS["clip"].size_mb, STARTER) if is_embedded else encoder_facts(option)
    encoder = "the tiny CLIP (embedded)" if is_embedded else _encoder_title(option)
    return replace(
        CARDS[name], name=f"{name}:{option}", title=f"diversity to {encoder}", licence=licence,
        size_mb=size_mb, embedded=is_embedded,
        measures="one minus the cosine to the most similar image of its group; 0 for a copy",
    )  # fmt: skip


def lpips_card(name: str, option: str) -> RewardSpec:
    """The card of `lpips_ref`, or of one with the net named."""
    if not option:
        return CARDS[name]
    return replace(CARDS[name], name=f"{name}:{option}", title=f"LPIPS ({option}) to a reference")
