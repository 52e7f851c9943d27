"""Bring the database to the form this version of klepaas knows. Runs at every start.

On SQLite a new database is made of the tables as they are now, not by every migration there ever was: a first start
would wait for Alembic longer than for all its tables."""

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from klepaas.errors import Conflict
from klepaas.storage.database import Database
from klepaas.storage.migrations import old_clients
from klepaas.storage.tables import metadata

HEAD = "0006"
"""The newest migration. Written here so that a start with nothing to migrate need not load Alembic (0.2 s)."""

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x6B6C6570616173  # "klepaas" in ASCII
_version = sa.table("alembic_version", sa.column("version_num"))
"""Alembic's own."""


async def migrate(database: Database) -> bool:
    """Run the missing migrations in one transaction, one process at a time. True when there were any.

    Errors: Conflict when a newer klepaas has changed the database already."""
    async with database.read() as connection:
        found = await connection.run_sync(_found)
    if found == HEAD:
        return False
    is_new = database.is_sqlite and found is None
    # Loaded before the transaction: an idle one is ended by PostgreSQL.
    upgrade = _make_anew if is_new else upgrade_with_alembic()
    async with database.write() as connection:
        if not database.is_sqlite:  # SQLite's write lock is enough
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if await connection.run_sync(_found) == HEAD:
            return False  # another process did it while we waited
        await connection.run_sync(upgrade)
    return True


def _found(connection: sa.Connection) -> str | None:
    """The database's version; None when it is empty."""
    if not sa.inspect(connection).has_table(_version.name):
        return None
    found: str | None = connection.scalar(sa.select(_version.c.version_num))
    return found


def _make_anew(connection: sa.Connection) -> None:
    dialect = connection.dialect.name
    metadata.create_all(connection, checkfirst=False)
    for statement in (*old_clients.views(dialect), *old_clients.with_imported_rows(dialect)):
        connection.exec_driver_sql(statement)
    # As Alembic would write it.
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.execute(sa.insert(_version).values(version_num=HEAD))


def upgrade_with_alembic() -> Callable[[sa.Connection], None]:
    """What runs the missing migrations on a connection."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}

    def upgrade(connection: sa.Connection) -> None:
        found = _found(connection)
        if found is not None and found not in known:
            raise Conflict(
                f"The database was changed by a newer klepaas (its version is {found}, the newest known here {HEAD}).",
                hint="Start the newer version again, or restore a backup from before the upgrade.",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    return upgrade
