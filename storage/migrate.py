"""Brings the database to the newest schema, without ever losing a row.

A batch migration rebuilds a table by DROP; with foreign keys on, a cascade would silently delete its
children. So keys are off before BEGIN, dangling keys and row counts are checked before COMMIT, and a backup
comes first. A server keeps its keys by itself, and its backup is made by who looks after it.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from storage import copies
from storage.errors import SchemaError
from storage.failpoints import failpoint
from storage.locks import FileLock

SCRIPTS = Path(__file__).parent / "migrations"
BACKUPS_KEPT = 5
OTHERS = "procrastinate_"
"""Tables of the queue of hosts: its rows come and go while nobody looks after them here."""
ALLOW_VARIABLE = "FLOWGRPO_UPGRADE"
"""Set to 1 it says that a server's database was backed up and its tables may be changed."""


def head_of(scripts: Path = SCRIPTS) -> str:
    """The newest revision. Files are numbered, so that this needs neither alembic nor its 0.2 s."""
    return max(_revisions(scripts))


def _revisions(scripts: Path) -> set[str]:
    return {path.name.split("_")[0] for path in (scripts / "versions").glob("[0-9]*.py")}


def to_head(reader: Engine, upgrader: Engine, home: Path, scripts: Path = SCRIPTS) -> None:
    """Upgrades under a lock, after a backup; nothing happens when the schema is the newest already.

    Args:
        upgrader: has foreign keys off and begins IMMEDIATE; of a server, begins with the lock of all writers.

    Raises:
        SchemaError: a newer program wrote the data, the upgrade would lose rows, or it is one of a server
            that nobody has allowed.
    """
    if upgrader.dialect.name != "sqlite":
        return _server_to_head(reader, upgrader, scripts)
    with FileLock(home / "locks" / "migrate.lock"):
        version, head = current_version(reader), head_of(scripts)
        if version == head:
            return
        if version is not None:
            _refuse_unknown(version, scripts)
            failpoint("migrate.before_backup")
            back_up(upgrader, home / copies.FOLDER / f"schema-{version}-before-{head}.db")
        run_migrations(upgrader, "upgrade", head, scripts)


def _server_to_head(reader: Engine, upgrader: Engine, scripts: Path) -> None:
    version, head = current_version(reader), head_of(scripts)
    if version == head:
        return
    if version is not None:
        _refuse_unknown(version, scripts)
        if os.environ.get(ALLOW_VARIABLE) != "1":
            raise SchemaError(
                f"the PostgreSQL database has schema {version} and this program needs {head}: stop every "
                f"host, make a backup with pg_dump, then start once with {ALLOW_VARIABLE}=1"
            )
    with upgrader.begin() as connection:
        if version_in(connection) == version:  # else another process was first
            migrate_in(connection, "upgrade", head, scripts)


def current_version(reader: Engine) -> str | None:
    """The revision in the database; None for a new one."""
    with reader.connect() as connection:
        return version_in(connection)


def version_in(connection: Connection) -> str | None:
    """The revision of the database at the other end; None for a new one."""
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
    with upgrader.begin() as connection:
        migrate_in(connection, direction, revision, scripts)
    failpoint("migrate.committed")


def migrate_in(connection: Connection, direction: str, revision: str, scripts: Path = SCRIPTS) -> None:
    """As `run_migrations`, in the transaction of who calls, who commits it."""
    from alembic import command  # noqa: PLC0415  (0.2 s that only a change of schema needs)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    before = row_counts(connection)
    config.attributes["connection"] = connection
    getattr(command, direction)(config, revision)
    failpoint("migrate.before_check")
    _refuse_loss(connection, before)
    failpoint("migrate.before_commit")


def row_counts(connection: Connection) -> dict[str, int]:
    """Table name to number of rows."""
    quote = connection.dialect.identifier_preparer.quote
    return {
        name: connection.exec_driver_sql(f"SELECT count(*) FROM {quote(name)}").scalar_one()
        for name in inspect(connection).get_table_names()
        if name != "alembic_version" and not name.startswith(OTHERS)
    }


def _refuse_loss(connection: Connection, before: dict[str, int]) -> None:
    """Raises, so that the transaction is undone, when keys dangle or a surviving table lost rows."""
    is_file = connection.dialect.name == "sqlite"
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all() if is_file else ()
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
    """A copy of the database at `target` before its tables change; the newest few of these are kept."""
    raw = engine.raw_connection()
    try:
        copies.make(raw.driver_connection, target)
    finally:
        raw.close()
    before = sorted(target.parent.glob("schema-*.db"), key=lambda path: path.stat().st_mtime)
    for old in before[:-BACKUPS_KEPT]:
        old.unlink()
