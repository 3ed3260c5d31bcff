"""What a new run may learn from, as the steps that these are: rewards, one's own images, or first the images
and then the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from flowgrpo.config import MAX_SEED, LoraConfig, RunConfig, UpdateConfig
from storage import datasets, runs
from storage.engine import Database
from storage.models import Run
from ui import prompt_choice, tuning, weights
from ui.forms import Refused, RunForm, prompt_lines, whole
from ui.language import t
from ui.preflight import Check
from ui.services import LOCAL_USER, Services

Way = Literal["rewards", "images", "both"]
WAYS: tuple[Way, ...] = get_args(Way)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


FOLDER = ""
"""The choice of a folder on this machine, in place of a dataset."""


@dataclass(frozen=True)
class ImagesForm:
    """Stage 1 as typed."""

    dataset: object = ""
    """Id of a dataset; `FOLDER` where the folder is named."""
    folder: object = ""
    num_updates: object = 60
    batch_size: object = 16


@dataclass(frozen=True)
class Recipe:
    """What is to be started, in order, with the preflight list of all of it."""

    configs: Sequence[RunConfig]
    checks: Sequence[Check]


def dataset_choices(db: Database) -> list[tuple[str, str]]:
    """(what it is called, id): every dataset, newest first, then a folder on this machine."""
    named = [
        (t("train.dataset_words", name=one.name, count=f"{one.num_images:,}"), one.id)
        for one in datasets.list_datasets(db)
    ]
    return [*named, (t("train.dataset_other"), FOLDER)]


def folder_of(db: Database, images: ImagesForm) -> Path:
    """Where the images are.

    Raises:
        Refused: nothing is chosen. LookupError: there is no such dataset, or its folder is gone.
    """
    if images.dataset:
        return datasets.folder_of(db, datasets.get_dataset(db, str(images.dataset)))
    typed = str(images.folder or "").strip()
    if not typed:
        raise Refused("No images are chosen: drop some, or name the folder that they are in.")
    return Path(typed).expanduser()


def check(
    services: Services, way: object, checkpoint_id: object, form: RunForm, images: ImagesForm
) -> Recipe:
    """Checks every step; raises `Refused` when the form itself is wrong."""
    if way not in WAYS:
        raise Refused(f"A run learns from {', '.join(WAYS)}: choose one of them.")
    first: list[RunConfig] = []
    found: list[Check] = []
    if way != "rewards":
        first.append(images_config(services, checkpoint_id, form, images))
        found.append(_folder(folder_of(services.db, images)))
    if way == "images":
        return Recipe(first, [*tuning.standing(services, checkpoint_id), *found])
    config, listed = tuning.check(services, checkpoint_id, form)
    return Recipe([*first, config], [*listed, *found])


def start(
    services: Services,
    way: object,
    checkpoint_id: object,
    form: RunForm,
    images: ImagesForm,
    *,
    prompt_set: object = None,
    who: str = LOCAL_USER,
) -> Run:
    """Queues every step, each after the one before; the first of them.

    Raises:
        Refused: the form or a preflight check stands against it; nothing is queued.
    """
    recipe = check(services, way, checkpoint_id, form, images)
    tuning.refuse(recipe.checks)
    chosen = prompt_choice.chosen(services.db, prompt_set, form)
    made: list[Run] = []
    for config, name in zip(recipe.configs, _names(recipe.configs, form), strict=True):
        made.append(
            runs.create_run(
                services.db,
                name=name,
                owner_id=who,
                parent_checkpoint_id=str(checkpoint_id),
                config=weights.named(services.db, config).model_dump(mode="json"),
                prompt_set_id=chosen,
                follows_id=made[-1].id if made else None,
            )
        )
    return made[0]


def _names(configs: Sequence[RunConfig], form: RunForm) -> list[str]:
    """What is typed is the name of the last step; the others are named after what they do."""
    *before, last = configs
    return [*(_named_after(config) for config in before), tuning.typed_name(form) or _named_after(last)]


def _named_after(config: RunConfig) -> str:
    folder = getattr(config.algorithm, "folder", None)
    return (
        f"images of {Path(folder).name}, {config.num_updates} updates"
        if folder
        else tuning.named_after(config)
    )


def images_config(services: Services, checkpoint_id: object, form: RunForm, images: ImagesForm) -> RunConfig:
    """The settings of stage 1: its own loss on the folder, held to nothing, an adapter like stage 2's."""
    folder = folder_of(services.db, images)
    size = services.base_facts(services.checkpoint(checkpoint_id)).size
    prompts = prompt_lines(form.prompts, "The training prompts")
    if not prompts:
        raise Refused("There are no prompts: write at least one, whose samples show how far the run is.")
    updates = whole(images.num_updates, "Updates on images", 1, 100_000)
    rank = whole(form.rank, "The LoRA rank", 1, 256)
    try:
        return RunConfig.model_validate(
            {
                "prompts": prompts,
                "held_out_prompts": prompt_lines(form.held_out, "The held-out prompts"),
                "algorithm": {
                    "name": "sft",
                    "folder": str(folder),
                    "batch_size": whole(images.batch_size, "Images an update", 1, 4096),
                },
                "num_updates": updates,
                "seed": whole(form.seed, "The seed", 0, MAX_SEED),
                "checkpoint_every": max(1, updates // 3),
                "sample_every": max(1, updates // 6),
                "rollout": {"width": size, "height": size},
                "update": UpdateConfig(kl_weight=0),
                "lora": LoraConfig(rank=rank, alpha=float(rank)),
            }
        )
    except ValidationError as error:
        raise Refused(f"{error.errors(include_url=False)[0]['msg']}.") from error


def _folder(folder: Path) -> Check:
    """Whether there are images; the run reads them all when it starts, and says what is amiss."""
    if not folder.is_dir():
        return Check(
            "bad", f"{folder} is no folder on this machine: name one with images and their captions."
        )
    count = sum(1 for one in folder.rglob("*") if one.suffix.lower() in _SUFFIXES)
    if not count:
        return Check("bad", f"{folder} holds no images: put some there, each with its caption in a .txt.")
    return Check("ok", f"{count:,} images in {folder.name} to learn from first.")
