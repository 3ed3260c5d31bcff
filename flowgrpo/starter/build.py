"""Builds the starter from nothing: `python -m flowgrpo.starter.build --out DIR`.

Every stage is seeded, saves its state each minute and goes on where it stopped; a stage whose result is in
the folder already is not repeated. On two cores the whole build takes about three hours.

    data -> vae -> pipeline (denoiser) -> generated -> verifier, judge -> clip -> quality -> report.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline

from flowgrpo.starter import (
    clip_training,
    denoiser,
    pipeline,
    quality,
    report,
    vae,
    verifier_training,
    verifiers,
)
from flowgrpo.starter.dataset import Portraits, labels_of, portraits
from flowgrpo.starter.training import Plan, Progress
from flowgrpo.starter.verifier_training import Generated
from flowgrpo.torchfile import read_torch

PLANS = {
    "vae": Plan(steps=1500, learning_rate=2e-3, ema_decay=0.998),
    "denoiser": Plan(steps=5000, learning_rate=1.2e-3, ema_decay=0.9995),
    "verifier": Plan(steps=900, learning_rate=2e-3, ema_decay=0.995, seed=0),
    "judge": Plan(steps=900, learning_rate=2e-3, ema_decay=0.995, seed=1),
    "clip": Plan(steps=2000, learning_rate=2e-3, ema_decay=0.995, seed=3, weight_decay=0.02),
}
TRAIN, TEST, HELD_OUT = 24_000, 2_000, 1_000
"""Renders: for training, for measuring, and of the held-out combinations."""
SHARED_ROWS = {"verifier": range(TRAIN // 2), "judge": range(TRAIN // 2, TRAIN)}
"""Each verifier sees its own half of the renders."""
GENERATED_PER_SETTING = 300


@dataclass(frozen=True)
class Build:
    """One build: its folder and the rendered splits."""

    out: Path
    train: Portraits
    test: Portraits
    held_out: Portraits

    def state(self, stage: str) -> Path:
        """Where a stage keeps what it needs to go on."""
        return self.out / "state" / f"{stage}.pt"


def start(out: Path) -> Build:
    """Renders what is missing (about three minutes) and opens the build folder."""
    data = out / "data"
    return Build(
        out,
        portraits(data, "train", TRAIN),
        portraits(data, "test", TEST),
        portraits(data, "held_out", HELD_OUT),
    )


def build_vae(build: Build) -> Iterator[Progress]:
    """Trains the autoencoder and folds the scale of its latents into it."""
    torch.manual_seed(0)
    model = vae.build()
    yield from vae.train(model, build.train, PLANS["vae"], build.state("vae"))
    pipeline.normalise_latents(model, *vae.encode_all(model, build.train))
    model.save_pretrained(build.out / "vae")


def build_pipeline(build: Build) -> Iterator[Progress]:
    """Trains the denoiser and the text encoders on the latents of the autoencoder."""
    model = AutoencoderKL.from_pretrained(build.out / "vae", use_safetensors=True).to(
        memory_format=torch.channels_last
    )
    torch.manual_seed(0)
    pipe = pipeline.assemble(model)
    latents = vae.encode_all(model, build.train)
    yield from denoiser.train(
        pipe, latents, build.train.attributes, PLANS["denoiser"], build.state("denoiser")
    )
    pipeline.save(pipe, build.out / "pipeline")


def generate(build: Build, pipe: StableDiffusionXLPipeline, name: str) -> Generated:
    """Images for one verifier, from good settings to mush, at seeds and prompts that only it sees."""
    path = build.out / f"generated-{name}.pt"
    if not path.exists():
        number = 1 + list(SHARED_ROWS).index(name)
        parts, labels = [], []
        for k, (steps, guidance) in enumerate(((16, 3.0), (8, 1.0), (4, 1.0), (2, 3.0))):
            asked = report.prompts(GENERATED_PER_SETTING, seed=100 * number + k)
            parts.append(report.draw(pipe, asked, steps, guidance, seed=10_000_000 * number + 1_000 * k))
            labels.append(labels_of(asked))
        torch.save({"images": torch.cat(parts), "labels": torch.cat(labels)}, path)
    saved = read_torch(path)
    return Generated(saved["images"], saved["labels"])


def build_verifier(build: Build, name: str) -> Iterator[Progress]:
    """Trains one verifier, first on renders, then on renders and generated images."""
    plan, rows = PLANS[name], SHARED_ROWS[name]
    torch.manual_seed(plan.seed)
    model = verifiers.ARCHITECTURES[name]().to(memory_format=torch.channels_last)
    yield from verifier_training.train(model, build.train, rows, plan, build.state(f"{name}-1"))
    generated = generate(build, pipeline.load(build.out / "pipeline"), name)
    second = Plan(plan.steps // 2, plan.learning_rate / 2, plan.weight_decay, plan.ema_decay, plan.seed + 10)
    yield from verifier_training.train(model, build.train, rows, second, build.state(f"{name}-2"), generated)
    verifiers.save_verifier(model, build.out / name)


def build_clip(build: Build) -> Iterator[Progress]:
    """Trains the tiny CLIP."""
    torch.manual_seed(PLANS["clip"].seed)
    folder = clip_training.new_folder(build.out / "clip")
    yield from clip_training.train(folder, build.train, PLANS["clip"], build.state("clip"))


def build_quality(build: Build) -> Iterator[Progress]:
    """Fits the technical-quality head on graded damage and on the pipeline's own ladder from good to mush."""
    images = generate(build, pipeline.load(build.out / "pipeline"), "verifier").images
    rungs = ((images + 1) * 127.5).round().byte().split(GENERATED_PER_SETTING)
    quality.train_quality(build.train, build.out / "quality", ladder=rungs)
    yield Progress("quality", 1, 1, {}, 0.0)


STAGES = {
    "vae": (build_vae, "vae/config.json"),
    "pipeline": (build_pipeline, "pipeline/model_index.json"),
    "verifier": (lambda b: build_verifier(b, "verifier"), "verifier/config.json"),
    "judge": (lambda b: build_verifier(b, "judge"), "judge/config.json"),
    "clip": (build_clip, "clip/open_clip_model.safetensors"),
    "quality": (build_quality, "quality/config.json"),
}
"""Stage name -> what builds it, and the file that says it is done."""


def main() -> None:
    """Runs the stages that are missing, then measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--out", type=Path, required=True, help="build folder; an unfinished build in it goes on"
    )
    parser.add_argument("--only", choices=[*STAGES, "report"], help="one stage, its inputs being there")
    parser.add_argument("--images", type=int, default=512, help="generated images per setting of the report")
    arguments = parser.parse_args()
    build = start(arguments.out)
    for name, (stage, done) in STAGES.items():
        if arguments.only in (None, name) and not (build.out / done).exists():
            for progress in stage(build):
                sys.stdout.write(f"{progress}\n")
                sys.stdout.flush()
    if arguments.only in (None, "report"):
        figures = report.measure(build.out, build.test, build.held_out, arguments.images)
        (build.out / "report.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
