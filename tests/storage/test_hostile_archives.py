"""An archive that is not as this program makes it is refused in a sentence, and leaves nothing anywhere."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import stat
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.archive_rules import MANIFEST, ArchiveError, Limits, check_list_of_files, check_name
from storage.errors import NotSavedError
from storage.migrate import head_of
from storage.unarchive import unarchive
from tests.storage.ready import _new_database

pytestmark = pytest.mark.sqlite_only("an archive holds the SQLite file")

GOOD = "blobs/ab/x.png"


class Made:
    """An archive under construction: its files, and what its manifest says of them."""

    def __init__(self, database: bytes | None = None) -> None:
        self.buffer = io.BytesIO()
        self.zipped = zipfile.ZipFile(self.buffer, "w")
        self.files: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {"format": 1, "schema": head_of(), "files": self.files}
        self.add("app.db", database or _new_database(), zipfile.ZIP_DEFLATED)

    def add(self, name: str, data: bytes = b"x" * 50, kind: int = zipfile.ZIP_STORED, mode: int = 0) -> None:
        entry = zipfile.ZipInfo(name)
        entry.external_attr, entry.compress_type = mode << 16, kind
        self.zipped.writestr(entry, data)
        self.files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def closed(self, manifest: bytes | None = None) -> bytes:
        if manifest != b"":
            self.zipped.writestr(MANIFEST, manifest or json.dumps(self.facts))
        self.zipped.close()
        return self.buffer.getvalue()


def with_name(name: str) -> bytes:
    made = Made()
    made.add(name)
    return made.closed()


def with_facts(**facts: Any) -> bytes:
    made = Made()
    made.add(GOOD)
    made.facts |= facts
    return made.closed()


def changed(what: str) -> bytes:
    made = Made()
    made.add(GOOD)
    made.files[GOOD] |= {"sha256": "0" * 64} if what == "hash" else {"size": 49 if what == "short" else 51}
    return made.closed()


def twice(first: str, second: str) -> bytes:
    made = Made()
    made.add(first)
    with (
        pytest.warns(UserWarning, match="Duplicate name") if first == second else pytest.MonkeyPatch.context()
    ):
        made.add(second)
    return made.closed()


def link() -> bytes:
    made = Made()
    made.add(GOOD, b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    return made.closed()


def device() -> bytes:
    made = Made()
    made.add(GOOD, b"", mode=stat.S_IFCHR | 0o666)
    return made.closed()


def bomb() -> bytes:
    made = Made()
    made.add(GOOD, bytes(20_000_000), zipfile.ZIP_DEFLATED)
    return made.closed()


def lying_bomb() -> bytes:
    """Its list of files says 60 bytes; ten million come."""
    made = Made()
    made.add(GOOD, bytes(10_000_000), zipfile.ZIP_DEFLATED)
    made.files[GOOD] |= {"size": 60}
    data = made.closed()
    return data.replace((10_000_000).to_bytes(4, "little"), (60).to_bytes(4, "little"))


def wrong_crc() -> bytes:
    made = Made()
    made.add(GOOD, b"y" * 1000)
    return made.closed().replace(b"y" * 1000, b"y" * 999 + b"z")


def many() -> bytes:
    made = Made()
    for number in range(2_000):
        made.add(f"blobs/ab/{number}.png", b"")
    return made.closed()


def locked() -> bytes:
    data = bytearray(with_name(GOOD))
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


def other_packing() -> bytes:
    made = Made()
    made.add(GOOD, b"x" * 1000, zipfile.ZIP_BZIP2)
    return made.closed()


def with_database(*changes: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.db"
        path.write_bytes(_new_database())
        with sqlite3.connect(path) as connection:
            for sql in changes:
                connection.execute(sql)
        connection.close()
        return of_database(path.read_bytes())


def of_database(data: bytes) -> bytes:
    made = Made(data)
    return made.closed()


def damaged_database() -> bytes:
    data = _new_database()
    return of_database(data[:8192] + bytes(4096) + data[12288:])


def unlisted() -> bytes:
    made = Made()
    made.add(GOOD)
    del made.files[GOOD]
    return made.closed()


def not_there() -> bytes:
    made = Made()
    made.files[GOOD] = {"size": 1, "sha256": "0" * 64}
    return made.closed()


EXPORT = (
    "INSERT INTO export (id, checkpoint_id, layout, path, sha256, created_by, created_at) "
    "VALUES ('{}', 'c', 'diffusers', '{}', 'x', 'local', '2026-01-01')"
)
DATASET = (
    "INSERT INTO dataset (id, name, path, num_images, detail, created_by, created_at) "
    "VALUES ('d', 'd', '{}', 1, '{{}}', 'local', '2026-01-01')"
)
BASE = "INSERT INTO base_model VALUES ('b', 'b', 'x', 'sdxl', '2026-01-01', NULL)"
CHECKPOINT = (
    'INSERT INTO checkpoint (id, base_model_id, name, "update", path, state, created_at, pinned) '
    "VALUES ('c', 'b', 'c', 0, '{}', 'committed', '2026-01-01', 0)"
)
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip slip": (lambda: with_name("../../evil.png"), "no place in a data folder"),
    "zip slip below a known folder": (lambda: with_name("blobs/../../evil.png"), "no place in a data folder"),
    "absolute": (lambda: with_name("/etc/cron.d/evil"), "no place in a data folder"),
    "a drive letter": (lambda: with_name("C:/evil.png"), "no place in a data folder"),
    "a drive letter below": (lambda: with_name("blobs/C:evil.png"), "no place in a data folder"),
    "a backslash": (lambda: with_name("blobs\\..\\evil.png"), "no place in a data folder"),
    "a share": (lambda: with_name("//host/share/evil"), "no place in a data folder"),
    "a device name": (lambda: with_name("blobs/CON"), "no place in a data folder"),
    "an unknown folder": (lambda: with_name("locks/write.lock"), "no place in a data folder"),
    "a log of the database": (lambda: with_name("app.db-wal"), "no place in a data folder"),
    "a line break in a name": (lambda: with_name("blobs/a\nb.png"), "no place in a data folder"),
    "a name without end": (lambda: with_name(f"blobs/{'a' * 300}"), "no place in a data folder"),
    "a folder entry": (lambda: with_name("blobs/ab/"), "no place in a data folder|no file"),
    "a symbolic link": (link, "is a link or no file"),
    "a device": (device, "is a link or no file"),
    "the same name twice": (lambda: twice(GOOD, GOOD), "twice, if capitals do not count"),
    "names that differ by case": (lambda: twice(GOOD, "blobs/ab/X.png"), "twice, if capitals"),
    "a bomb": (bomb, "that is a trap"),
    "a bomb that lies about its size": (lying_bomb, "is not what the manifest says|is damaged"),
    "too many files": (many, "more than 1,000 files"),
    "a wrong checksum": (wrong_crc, "is damaged|is not what the manifest says"),
    "a wrong hash": (lambda: changed("hash"), "is not what the manifest says"),
    "longer than it says": (lambda: changed("short"), "is not what the manifest says"),
    "shorter than it says": (lambda: changed("long"), "is not what the manifest says"),
    "a newer format": (lambda: with_facts(format=2), "has format 2, this program knows up to 1: install"),
    "a format that is none": (lambda: with_facts(format="new"), "cannot be read"),
    "no list of files": (lambda: with_facts(files=None), "cannot be read"),
    "a manifest that is no JSON": (lambda: Made().closed(b"{"), "cannot be read"),
    "a manifest that is deep": (lambda: Made().closed(b"[" * 100_000), "cannot be read"),
    "no manifest": (lambda: Made().closed(b""), "has no MANIFEST.json"),
    "a file that no manifest lists": (unlisted, "do not have the same files"),
    "a listed file that is not there": (not_there, "do not have the same files"),
    "locked": (locked, "locked with a password|damaged"),
    "another packing": (other_packing, "packed in a way"),
    "cut in the middle": (lambda: with_name(GOOD)[:-4000], "cut short|damaged"),
    "cut to nothing": (lambda: b"", "cut short"),
    "no zip": (lambda: b"hello" * 1000, "cut short, or no zip"),
    "a damaged database": (damaged_database, "database of the archive is not taken"),
    "a newer schema": (
        lambda: with_database("UPDATE alembic_version SET version_num = '9999'"),
        "has schema 9999.*install the newer",
    ),
    "a trigger in the database": (
        lambda: with_database("CREATE TRIGGER t AFTER UPDATE ON user BEGIN DELETE FROM user; END"),
        "has a trigger",
    ),
    "a view that never ends": (
        lambda: with_database(
            "ALTER TABLE rating_event RENAME TO x",
            "CREATE VIEW rating_event AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) "
            "SELECT i FROM n",
        ),
        "has a view",
    ),
    "a checkpoint that lies outside": (
        lambda: with_database(BASE, CHECKPOINT.format("../../etc")), "outside of its folder"
    ),
    "an export at the root": (
        lambda: with_database(BASE, CHECKPOINT.format("runs/x"), EXPORT.format("e", "/etc/passwd")),
        "an export of the archive lies at",
    ),
    "an export that climbs": (
        lambda: with_database(BASE, CHECKPOINT.format("runs/x"), EXPORT.format("e", "exports/../../x")),
        "an export of the archive lies at",
    ),
    "an id that is a path": (
        lambda: with_database(BASE, CHECKPOINT.format("runs/x"), EXPORT.format("../../../up", "x")),
        "a row of 'export' has the id '../../../up'",
    ),
    "a dataset that climbs": (
        lambda: with_database(DATASET.format("../../etc")), "a dataset of the archive lies at"
    ),
    "a checkpoint at the root": (
        lambda: with_database(BASE, CHECKPOINT.format("/etc")), "outside of its folder"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_in_a_sentence_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    make, sentence = HOSTILE[kind]
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    source = inner / "given.zip"
    source.write_bytes(make())
    tracemalloc.start()
    with pytest.raises(ArchiveError, match=sentence):
        unarchive(source, inner / "new", Limits(entries=1_000, total=10**9))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40_000_000
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", inner, source]


def test_the_good_archive_that_all_of_these_were_made_from_is_taken(tmp_path: Path) -> None:
    (tmp_path / "given.zip").write_bytes(with_name(GOOD))
    done = unarchive(tmp_path / "given.zip", tmp_path / "new")
    assert done.files == 2
    assert (tmp_path / "new" / GOOD).read_bytes() == b"x" * 50


def test_somebody_who_was_planted_cannot_log_in(tmp_path: Path) -> None:
    data = with_database("UPDATE user SET password_hash = 'known to me'")
    (tmp_path / "given.zip").write_bytes(data)
    unarchive(tmp_path / "given.zip", tmp_path / "new")
    assert b"known to me" not in (tmp_path / "new" / "app.db").read_bytes()


@given(st.text(max_size=60) | st.text("./\\:abC ~", max_size=20))
def test_a_name_that_is_allowed_never_leads_out_of_its_folder(name: str) -> None:
    try:
        check_name(name)
    except ArchiveError:
        return
    place = Path("/top") / name
    assert place.resolve().is_relative_to(Path("/top") / name.split("/")[0])
    assert not set(name) & set('\\:*?"<>|\0\n')


def test_a_list_of_a_million_files_is_refused_before_it_is_held_in_memory(tmp_path: Path) -> None:
    entry = b"PK\x01\x02" + bytes(24) + (1).to_bytes(2, "little") + bytes(16) + b"a"
    count = 400_000
    end = b"PK\x05\x06" + bytes(8) + (len(entry) * count).to_bytes(4, "little") + bytes(6)
    path = tmp_path / "many.zip"
    path.write_bytes(entry * count + end)
    with path.open("rb") as file, pytest.raises(ArchiveError, match="more than 300,000 files"):
        check_list_of_files(file, Limits())
    with path.open("rb") as file, pytest.raises(ArchiveError, match="list of files has"):
        check_list_of_files(file, Limits(listing=10_000))


def test_refusals_are_of_a_kind_that_commands_show() -> None:
    assert issubclass(ArchiveError, ValueError) and issubclass(NotSavedError, OSError)
