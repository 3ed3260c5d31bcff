"""Brings the database to the newest schema, without ever losing a row.

A batch migration rebuilds a table by DROP; with foreign keys on, a cascade would silently delete the children. So keys
are off before BEGIN, the keys and the row counts are checked before COMMIT, and a backup stands first.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from storage.errors import SchemaError
from storage.locks import FileLock

HEAD = "0001"
"""The newest revision under migrations/versions."""
SCRIPTS = Path(__file__).parent / "migrations"
BACKUPS_KEPT = 5


def to_head(engine: Engine, home: Path) -> None:
    """Upgrades under a file lock; `engine` has foreign keys off and begins IMMEDIATE.

    Raises:
        SchemaError: a newer program wrote the data, or an upgrade would lose rows.
    """
    with FileLock(home / "locks" / "migrate.lock"):
        version = current_version(engine)
        if version == HEAD:
            return
        if version is not None:
            _refuse_unknown(version)
            back_up(engine, home / "backups" / f"before-{HEAD}-from-{version}.db")
        upgrade(engine, HEAD)


def current_version(engine: Engine) -> str | None:
    """The revision in the database; None for a new one."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return version


def _refuse_unknown(version: str) -> None:
    known = {path.name.split("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py")}
    if version not in known:
        raise SchemaError(
            f"the data folder has schema {version}, this program knows up to {HEAD}: "
            "install the newer version that wrote it, or choose another FLOWGRPO_HOME"
        )


def upgrade(engine: Engine, revision: str) -> None:
    """All revisions up to `revision` in one transaction, checked before it commits."""
    _run(engine, "upgrade", revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Back to `revision`; for tests and for people who know why."""
    _run(engine, "downgrade", revision)


def _run(engine: Engine, direction: str, revision: str) -> None:
    from alembic import command  # noqa: PLC0415  (0.2 s that only a change of schema needs)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    with engine.begin() as connection:
        before = row_counts(connection)
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)
        check(connection, before)


def row_counts(connection: Connection) -> dict[str, int]:
    """Table name to number of rows."""
    quote = connection.dialect.identifier_preparer.quote
    return {
        name: connection.exec_driver_sql(f"SELECT count(*) FROM {quote(name)}").scalar_one()
        for name in inspect(connection).get_table_names()
        if name != "alembic_version"
    }


def check(connection: Connection, before: dict[str, int]) -> None:
    """Raises SchemaError, so that the transaction is undone, when keys dangle or a surviving table lost rows."""
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    after = row_counts(connection)
    lost = {
        name: (rows, after[name]) for name, rows in before.items() if name in after and after[name] < rows
    }
    if dangling or lost:
        raise SchemaError(
            f"the upgrade would lose data (rows before and after: {lost}; dangling keys: {len(dangling)}): "
            "nothing was changed; keep using the older version and report this"
        )


def back_up(engine: Engine, target: Path) -> None:
    """A consistent, checked copy of the database at `target`; the newest few are kept."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("VACUUM INTO ?", (str(partial),))
    finally:
        raw.close()
    _sync(partial)
    shutil.move(partial, target)
    _sync(target.parent)
    copies = sorted(target.parent.glob("*.db"), key=lambda path: path.stat().st_mtime)
    for old in copies[:-BACKUPS_KEPT]:
        old.unlink()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
