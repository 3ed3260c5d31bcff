"""Brings the database to the newest schema, without ever losing a row.

A batch migration rebuilds a table by DROP; with foreign keys on, a cascade would silently delete its
children. So keys are off before BEGIN, dangling keys and row counts are checked before COMMIT, and a backup
comes first.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from storage.errors import SchemaError
from storage.locks import FileLock

SCRIPTS = Path(__file__).parent / "migrations"
BACKUPS_KEPT = 5


def head_of(scripts: Path = SCRIPTS) -> str:
    """The newest revision. Files are numbered, so that this needs neither alembic nor its 0.2 s."""
    return max(_revisions(scripts))


def _revisions(scripts: Path) -> set[str]:
    return {path.name.split("_")[0] for path in (scripts / "versions").glob("[0-9]*.py")}


def to_head(reader: Engine, upgrader: Engine, home: Path, scripts: Path = SCRIPTS) -> None:
    """Upgrades under a file lock, after a backup; nothing happens when the schema is the newest already.

    Args:
        upgrader: has foreign keys off and begins IMMEDIATE.

    Raises:
        SchemaError: a newer program wrote the data, or the upgrade would lose rows.
    """
    with FileLock(home / "locks" / "migrate.lock"):
        version, head = current_version(reader), head_of(scripts)
        if version == head:
            return
        if version is not None:
            _refuse_unknown(version, scripts)
            back_up(upgrader, home / "backups" / f"schema-{version}-before-{head}.db")
        run_migrations(upgrader, "upgrade", head, scripts)


def current_version(reader: Engine) -> str | None:
    """The revision in the database; None for a new one."""
    with reader.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return version


def _refuse_unknown(version: str, scripts: Path) -> None:
    if version not in _revisions(scripts):
        raise SchemaError(
            f"the data folder has schema {version}, this program knows up to {head_of(scripts)}: "
            "install the newer version that wrote it, or choose another FLOWGRPO_HOME"
        )


def run_migrations(upgrader: Engine, direction: str, revision: str, scripts: Path = SCRIPTS) -> None:
    """All steps of "upgrade" or "downgrade" to `revision`, in one transaction, checked before COMMIT."""
    from alembic import command  # noqa: PLC0415  (0.2 s that only a change of schema needs)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    with upgrader.begin() as connection:
        before = row_counts(connection)
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)
        _refuse_loss(connection, before)


def row_counts(connection: Connection) -> dict[str, int]:
    """Table name to number of rows."""
    quote = connection.dialect.identifier_preparer.quote
    return {
        name: connection.exec_driver_sql(f"SELECT count(*) FROM {quote(name)}").scalar_one()
        for name in inspect(connection).get_table_names()
        if name != "alembic_version"
    }


def _refuse_loss(connection: Connection, before: dict[str, int]) -> None:
    """Raises, so that the transaction is undone, when keys dangle or a surviving table lost rows."""
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    after = row_counts(connection)
    lost = [
        f"{name} {rows} -> {after[name]}" for name, rows in before.items() if after.get(name, rows) < rows
    ]
    if dangling or lost:
        raise SchemaError(
            f"the change of schema would lose rows ({', '.join(lost)}; {len(dangling)} dangling keys): "
            "nothing was changed; keep the older version and report this"
        )


def back_up(engine: Engine, target: Path) -> None:
    """A consistent, checked, synced copy of the database at `target`; the newest few copies are kept."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("VACUUM INTO ?", (str(partial),))
        cursor.execute("ATTACH ? AS copy", (str(partial),))
        cursor.execute("PRAGMA copy.integrity_check")
        verdict = cursor.fetchone()
        cursor.execute("DETACH copy")
    finally:
        raw.close()
    if verdict != ("ok",):
        raise SchemaError(
            "the backup before the change of schema is damaged: nothing was changed; check the disk"
        )
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)
    copies = sorted(target.parent.glob("schema-*.db"), key=lambda path: path.stat().st_mtime)
    for old in copies[:-BACKUPS_KEPT]:
        old.unlink()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
