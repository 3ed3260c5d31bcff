"""Ids sort, times keep their zone, JSON is finite."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Dialect
from sqlalchemy.engine.url import URL
from sqlalchemy.schema import CreateIndex, CreateTable

from storage.lookup import config_hash, prompt_hash
from storage.models import Record
from storage.types import SafeText, UTCDateTime, canonical_json, new_id, safe_text


def dialect_of(name: str) -> Dialect:
    return URL.create(name).get_dialect()()


SQLITE, POSTGRESQL = dialect_of("sqlite"), dialect_of("postgresql+psycopg")


def test_ids_are_version_7_and_only_grow_within_a_process() -> None:
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda _: [new_id() for _ in range(500)], range(4)))
    assert all(batch == sorted(batch) for batch in batches)
    assert len({one for batch in batches for one in batch}) == 2000
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in batches[0]} == {(7, uuid.RFC_4122)}


@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=5, minutes=30)))))
def test_a_moment_survives_both_databases(moment: datetime) -> None:
    for dialect in (SQLITE, POSTGRESQL):
        kept = UTCDateTime().process_bind_param(moment, dialect)
        assert UTCDateTime().process_result_value(kept, dialect) == moment


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time with a zone"):
        UTCDateTime().process_bind_param(datetime(2026, 1, 1), SQLITE)
    assert UTCDateTime().process_bind_param(datetime(2026, 1, 1, tzinfo=UTC), SQLITE) is not None


@given(st.text())
def test_text_is_kept_verbatim_or_refused(text: str) -> None:
    if "\x00" in text:
        with pytest.raises(ValueError, match="NUL"):
            safe_text(text)
    else:
        assert SafeText().process_bind_param(text, SQLITE) == text
        assert canonical_json({"text": text})


def test_a_written_out_escape_is_not_a_nul() -> None:
    assert canonical_json(r"\u0000")
    for bad in ("\x00", "a\\\x00"):
        with pytest.raises(ValueError, match="NUL"):
            canonical_json(bad)


@pytest.mark.parametrize("bad", [float("nan"), [float("inf")], {"a": {1, 2}}, "\ud800"])
def test_json_that_a_database_cannot_hold_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"finite JSON|half a character"):
        canonical_json(bad)


def test_hashes_ignore_what_does_not_matter() -> None:
    assert config_hash({"a": 1, "b": 2.0}) == config_hash({"b": 2.0, "a": 1})
    assert prompt_hash(" Red  HAIR\n") == prompt_hash("red hair") != prompt_hash("red hat")


def test_the_tables_compile_for_postgresql_too() -> None:
    statements = [str(CreateTable(t).compile(dialect=POSTGRESQL)) for t in Record.metadata.sorted_tables]
    indexes = [index for table in Record.metadata.tables.values() for index in table.indexes]
    statements += [str(CreateIndex(index).compile(dialect=POSTGRESQL)) for index in indexes]
    assert any("JSONB" in statement for statement in statements)
    assert any("WHERE done_at IS NULL" in statement for statement in statements)
    assert not any("CASCADE" in statement for statement in statements)
