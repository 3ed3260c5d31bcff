"""Every way to ask for images keeps to the quotas: all of what was asked for is queued, or nothing."""

from __future__ import annotations

import pytest

from storage import groups, users
from storage.engine import Database
from storage.errors import NotSavedError
from storage.models import Checkpoint
from storage.quotas import OverQuotaError, Quotas, set_quotas
from ui import axes, axes_cells, batches, comparing
from ui.axes import AxesForm
from ui.forms import GroupForm
from ui.services import SHOWN_ERRORS, Services

FORM = GroupForm(prompt="red hair", group_size=2, num_steps=4, guidance_scale=1.0)


def by_the_api(services: Services, base: Checkpoint, by: str) -> object:
    return services.generate(base.id, FORM, by)


def in_studio(services: Services, base: Checkpoint, by: str) -> object:
    return batches.queue(services.db, batches.plan(services, base.id, FORM, ("one", "two")), by)


def in_compare(services: Services, base: Checkpoint, by: str) -> object:
    plan = comparing.check(services, [base.id], "one\ntwo", "7", 2, 8, 1.0)
    return comparing.generate_missing(services, plan, by)


def on_two_axes(services: Services, base: Checkpoint, by: str) -> object:
    asked = AxesForm("seed", "7-9", (), "steps", "4, 8", (), checkpoint=base.id, prompt="red hair")
    return axes_cells.generate(services, axes.check(services, asked), by)


WAYS = [by_the_api, in_studio, in_compare, on_two_axes]


@pytest.mark.parametrize("way", WAYS)
def test_below_the_reserve_no_way_to_ask_queues_anything(
    db: Database, services: Services, base: Checkpoint, way: object
) -> None:
    assert callable(way)
    set_quotas(db, Quotas(reserve_bytes=10**18))
    with pytest.raises(NotSavedError, match="free some space, then try again"):
        way(services, base, "local")
    assert groups.queued_count(db) == 0
    set_quotas(db, Quotas())
    way(services, base, "local")
    assert groups.queued_count(db) > 0


@pytest.mark.parametrize("way", WAYS)
def test_an_artist_who_asks_for_too_many_gets_none_of_them(
    db: Database, services: Services, base: Checkpoint, way: object
) -> None:
    assert callable(way)
    artist = users.add_user(db, "Ann", "artist").id
    set_quotas(db, Quotas(images_a_day=1))
    with pytest.raises(OverQuotaError, match="ask for fewer"):
        way(services, base, artist)
    assert groups.queued_count(db) == 0
    assert issubclass(OverQuotaError, SHOWN_ERRORS)
