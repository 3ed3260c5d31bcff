"""What is measured of an evaluation's images; what is known of some pixels is looked up.

A number belongs to the pixels and to what they were looked at with: the prompt, the other images of the
group, or the image that they were held against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgrpo.evaluation import distances_within, shares_right
from flowgrpo.metrics.distributions import NAMES
from flowgrpo.metrics.table import Model
from flowgrpo.paired import MAX_PSNR, paired
from flowgrpo.rewards import perceptual
from flowgrpo.rewards.base import Abstained, Reward, ScoreBatch
from flowgrpo.rewards.cache import image_hash
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rewards.verifier import AttributeVerifier
from flowgrpo.runs.evaluation_images import Pictures
from flowgrpo.runs.jobs import Bench
from flowgrpo.starter.features import FEATURES, statistics, taps_of
from flowgrpo.starter.vocabulary import SLOTS
from storage.scores import ScoreKey, cache_embeddings, cache_scores, cached_embeddings, cached_scores

ENCODER: Final = f"{FEATURES}-57934424-statistics-lp0.8"
"""Of the features that KID and its like are made of: changes when they would."""
JUDGE: Final = ("judge", *(f"judge/{slot.name}" for slot in SLOTS))
_CHUNK: Final = 64
NOTHING_ASKED: Final = Abstained("the prompt asks for nothing that the judge knows")

Columns = Mapping[str, Float[Tensor, " sample"]]
Numbers = dict[str, tuple[Tensor, Sequence[str | None]]]
"""Metric to values, NaN where there is none, and the reasons there."""
Compute = Callable[[Sequence[int]], Numbers]
"""From indices of images to what they measure."""


@dataclass
class Measuring:
    """The instruments of one evaluation.

    Attributes:
        stack: Rewards that are shown, the preference head among them where one is applied.
        judge: Where the base and the prompts are such that it knows them.
        wanted: Metrics that are shown; None stands for all.
        lpips: To a reference; None where its trunk is not here.
        reasons: Metric to the first reason for a missing number.
        done, total: Images measured, for the progress.
    """

    bench: Bench
    prompts: Sequence[str]
    num_seeds: int
    stack: RewardStack
    judge: AttributeVerifier | None
    wanted: Collection[str] | None = None
    lpips: Reward | None = None
    total: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.device = str(self.bench.device)

    def model(self, pictures: Pictures, base: Pictures | None, references: Mapping[int, Tensor]) -> Model:
        """Everything that can be said about the images of one entry.

        Args:
            base: Those that the same seeds gave the first entry; None for the first entry itself.
            references: Index of a prompt to the image that was meant, where there is one.
        """
        texts = [prompt for prompt in self.prompts for _ in range(self.num_seeds)]
        columns = self._scores(pictures, texts)
        if self._wants("diversity"):
            columns |= self._diversity(pictures)
        if base is not None:
            columns |= self._paired(pictures, "base", base.hashes, base.stack)
        if references:
            columns |= self._to_references(pictures, references)
        shape = (len(self.prompts), self.num_seeds)
        features = None
        if self._wants(*NAMES):
            features = self.features(pictures.hashes, pictures.stack).unflatten(0, shape)
        self.done += len(pictures)
        return Model(
            {name: column.unflatten(0, shape) for name, column in columns.items()},
            {name: self.extractor(name) for name in columns},
            features,
        )

    def _wants(self, *names: str) -> bool:
        return self.wanted is None or any(name in self.wanted for name in names)

    def extractor(self, metric: str) -> str:
        """What measures a metric, as its key names it."""
        if metric in self.stack.rewards:
            return f"{metric}-{self.stack.rewards[metric].spec.version}".replace(" ", "-")
        name = metric.partition("/")[0]
        if name == "judge" and self.judge is not None:
            return f"judge-{self.judge.spec.version}"
        if name == "lpips":
            return "lpips0.1-alex"
        return "pixels" if name in ("ssim", "psnr") else perceptual.VERSION

    def _scores(self, pictures: Pictures, texts: Sequence[str]) -> dict[str, Tensor]:
        """The judge's shares and the rewards."""
        keys = [ScoreKey(image, _digest(text)) for image, text in zip(pictures.hashes, texts, strict=True)]
        versions = {name: reward.spec.version for name, reward in self.stack.rewards.items()}
        compute = partial(self._rewarded, pictures, texts)
        blind = {name for name, reward in self.stack.rewards.items() if "prompt" not in reward.spec.needs}
        found = self._known("scoring", versions, keys, compute, blind)
        if self.judge is not None:
            versions = dict.fromkeys(JUDGE, f"{self.judge.spec.version} shares")
            found |= self._known("judging", versions, keys, partial(self._judged, pictures, texts))
        return found

    def _rewarded(self, pictures: Pictures, texts: Sequence[str], indices: Sequence[int]) -> Numbers:
        batch = _batch(pictures, texts, indices)
        return {name: (found.values, found.reasons) for name, found in self.stack.score(batch).items()}

    def _judged(self, pictures: Pictures, texts: Sequence[str], indices: Sequence[int]) -> Numbers:
        assert self.judge is not None
        shares = shares_right(self.judge, _batch(pictures, texts, indices))
        return {name: (values, [NOTHING_ASKED] * len(values)) for name, values in shares.items()}

    def _diversity(self, pictures: Pictures) -> dict[str, Tensor]:
        if self.num_seeds < 2:
            self.reasons["diversity"] = (
                "one image a prompt has no other to differ from: give two seeds or more"
            )
            return {}
        groups = range(0, len(pictures), self.num_seeds)
        contexts = [_digest(*sorted(pictures.hashes[at : at + self.num_seeds])) for at in groups]
        keys = [
            ScoreKey(image, contexts[index // self.num_seeds]) for index, image in enumerate(pictures.hashes)
        ]

        def compute(indices: Sequence[int]) -> Numbers:
            starts = dict.fromkeys(index - index % self.num_seeds for index in indices)
            whole = [index for at in starts for index in range(at, at + self.num_seeds)]
            batch = ScoreBatch(pictures.stack(whole), [""] * len(whole), [0] * len(whole))
            values = dict(zip(whole, distances_within(batch, self.num_seeds, self.device), strict=True))
            return {"diversity": (torch.stack([values[i] for i in indices]), [None] * len(indices))}

        return self._known("comparing", {"diversity": f"mean-{perceptual.VERSION}"}, keys, compute)

    def _to_references(self, pictures: Pictures, references: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Columns that are NaN for prompts without a reference."""
        rows = [i for i in range(len(pictures)) if i // self.num_seeds in references]
        chosen = Pictures([pictures.paths[i] for i in rows], None)
        meant = [references[i // self.num_seeds] for i in rows]

        def stack(indices: Sequence[int]) -> UInt8[Tensor, "sample 3 height width"]:
            return torch.stack([meant[i] for i in indices])

        hashes = [image_hash(image) for image in meant]
        columns = {}
        for name, values in self._paired(chosen, "ref", hashes, stack).items():
            columns[name] = torch.full((len(pictures),), float("nan"))
            columns[name][rows] = values
        return columns

    def _paired(
        self, pictures: Pictures, to: str, hashes: Sequence[str], stack: Callable[[Sequence[int]], Tensor]
    ) -> dict[str, Tensor]:
        """SSIM, PSNR, the perceptual distance and LPIPS to one other image each."""
        keys = [ScoreKey(*pair) for pair in zip(pictures.hashes, hashes, strict=True)]
        formulas = {"ssim": "1", "psnr": f"cap{MAX_PSNR:g}", "perceptual": perceptual.VERSION}
        if self.lpips is not None:
            formulas["lpips"] = self.lpips.spec.version
        versions = {f"{name}/{to}": version for name, version in formulas.items() if self._wants(name)}
        if not versions:
            return {}

        def compute(indices: Sequence[int]) -> Numbers:
            ours, theirs = pictures.stack(indices), stack(indices)
            found = paired(ours, theirs, self.device)
            values = {f"ssim/{to}": found["ssim"], f"psnr/{to}": found["psnr"].clamp(max=MAX_PSNR)}
            values[f"perceptual/{to}"] = found["distance"]
            if self.lpips is not None:
                batch = ScoreBatch(ours, [""] * len(indices), list(range(len(indices))), theirs)
                values[f"lpips/{to}"] = -self.lpips.score(batch).values
            return {name: (column, [None] * len(indices)) for name, column in values.items()}

        return self._known("comparing", versions, keys, compute)

    def features(
        self, hashes: Sequence[str], stack: Callable[[Sequence[int]], UInt8[Tensor, "sample 3 height width"]]
    ) -> Float[Tensor, "sample feature"]:
        """What KID and its like are made of."""
        known = cached_embeddings(self.bench.db, ENCODER, hashes)
        missing = list({image: index for index, image in enumerate(hashes) if image not in known}.values())
        for chunk in _chunks(missing):
            self._tick("reading features")
            with self.bench.turn():
                rows = statistics(taps_of(stack(chunk), smooth=True, device=self.device)).cpu()
            new = {hashes[i]: row.numpy().astype("<f4").tobytes() for i, row in zip(chunk, rows, strict=True)}
            cache_embeddings(self.bench.db, ENCODER, new)
            known |= new
        return torch.from_numpy(np.stack([np.frombuffer(known[image], "<f4") for image in hashes]).copy())

    def _known(
        self,
        phase: str,
        versions: Mapping[str, str],
        shared: Sequence[ScoreKey],
        compute: Compute,
        blind: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Metric to one value per image; what nobody has measured yet is computed, and kept chunk by chunk.

        Args:
            blind: Metrics that do not look at prompts, whose keys have none.
        """
        db = self.bench.db
        without = [key._replace(prompt_hash="") for key in shared]
        keys = {name: without if name in blind else shared for name in versions}
        known = {name: cached_scores(db, name, version, keys[name]) for name, version in versions.items()}
        missing = [i for i in range(len(shared)) if any(keys[name][i] not in known[name] for name in keys)]
        size = max(1, _CHUNK // self.num_seeds) * self.num_seeds
        for chunk in _chunks(missing, size):
            self._tick(phase)
            with self.bench.turn():
                numbers = compute(chunk)
            for name, version in versions.items():
                new = {keys[name][i]: one for i, one in zip(chunk, _rows(*numbers[name]), strict=True)}
                # A failure may be gone the next time; that a prompt asks for nothing stays true.
                kept = {key: row for key, row in new.items() if not row[1] or isinstance(row[1], Abstained)}
                cache_scores(db, name, version, kept)
                known[name] |= new
        columns = {}
        for name, found in known.items():
            rows = [found[key] for key in keys[name]]
            columns[name] = torch.tensor([float("nan") if value is None else value for value, _ in rows])
            reason = next((why for value, why in rows if value is None and why), None)
            if reason is not None:
                self.reasons.setdefault(name, reason)
        return columns

    def _tick(self, phase: str) -> None:
        self.bench.tick(phase, self.done, self.total)


def _rows(values: Tensor, reasons: Sequence[str | None]) -> list[tuple[float | None, str | None]]:
    """As the cache keeps them: a value, or None and why."""
    return [
        (None, reason or "no number came of it") if value != value else (value, None)
        for value, reason in zip(values.tolist(), reasons, strict=True)
    ]


def _batch(pictures: Pictures, texts: Sequence[str], indices: Sequence[int]) -> ScoreBatch:
    return ScoreBatch(pictures.stack(indices), [texts[i] for i in indices], list(range(len(indices))))


def _chunks(indices: Sequence[int], size: int = _CHUNK) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _digest(*parts: str) -> str:
    """What an image was looked at with: a prompt verbatim, the hashes of other images."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
