"""Datasets: folders that a stage-1 run learns from, and what people have said so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage import catalog, datasets
from storage.models import User
from ui import uploads
from ui.language import t
from ui.library.shelf import Done, Fields, Query, Tab, size_words, text_of
from ui.library.sizes import size_of
from ui.services import Services


def view(services: Services, query: Query) -> dict[str, Any]:
    """Every dataset with its size, and counts of the preference data."""
    found = datasets.list_datasets(services.db)
    return {
        "datasets": [(one, _size(services, one.path)) for one in found],
        "said": catalog.preference_counts(services.db),
    }


def _size(services: Services, path: str) -> str:
    """What a dataset takes; empty where its folder is gone."""
    size = size_of(services.db.home / Path(path))
    return "" if size is None else size_words(size)


def point(services: Services, person: User, fields: Fields) -> Done:
    """Notes a folder of this machine as a dataset; nothing is copied."""
    made = uploads.point_at(services.db, text_of(fields, "name"), text_of(fields, "path"), person.id)
    return Done(t("library.pointed", name=made.name, n=f"{made.num_images:,}"))


TAB = Tab("datasets", view, {"point": point})
