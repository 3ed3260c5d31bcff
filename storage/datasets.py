"""Datasets: folders of captioned images that stage 1 learns from. The folder is there before the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from storage import audit
from storage.engine import Database
from storage.lookup import required
from storage.models_studio import Dataset

FOLDER: Final = "datasets"
"""Of the data folder: one folder for each dataset that was uploaded."""
MAX_NAME: Final = 120


def checked_name(db: Database, name: str) -> str:
    """The name without idle blanks; ValueError where it is empty, too long or taken."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"a dataset's name has 1 to {MAX_NAME} characters, this one has {len(name)}")
    with db.read() as session:
        if session.scalar(select(Dataset).where(Dataset.name == name)) is not None:
            raise ValueError(f"there is a dataset named {name} already: choose another name")
    return name


def add_dataset(
    db: Database,
    *,
    name: str,
    path: str,
    num_images: int,
    detail: dict[str, Any],
    created_by: str = "local",
    dataset_id: str | None = None,
) -> Dataset:
    """Notes a folder whose images were looked at.

    Args:
        path: relative to the data folder, or absolute where it was only pointed at.
        detail: what was found: `captions`, `silent` (images without one), `left_out` (files).
        dataset_id: where the folder is named by it already.

    Raises:
        ValueError: the name is empty, too long or taken, or there is no image.
    """
    name = checked_name(db, name)
    if num_images < 1:
        raise ValueError("the dataset has no images: add some")
    with db.write() as session:
        made = Dataset(name=name, path=path, num_images=num_images, detail=detail, created_by=created_by)
        if dataset_id is not None:
            made.id = dataset_id
        session.add(made)
        session.flush()
        audit.note(session, created_by, "dataset.add", made.id, {"name": name, "images": num_images})
        return made


def list_datasets(db: Database) -> list[Dataset]:
    """Newest first."""
    with db.read() as session:
        return list(session.scalars(select(Dataset).order_by(Dataset.created_at.desc(), Dataset.id.desc())))


def get_dataset(db: Database, dataset_id: str) -> Dataset:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, Dataset, dataset_id, "dataset")


def folder_of(db: Database, dataset: Dataset) -> Path:
    """Its folder; LookupError with a sentence where it is gone."""
    folder = db.home / dataset.path  # an absolute path stands for itself
    if not folder.is_dir():
        raise LookupError(f"the folder of the dataset {dataset.name} is gone: it was {folder}")
    return folder
