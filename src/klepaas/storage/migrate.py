"""Bring the database to the form this version of klepaas knows. Runs at every start."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from klepaas.errors import Conflict
from klepaas.storage.database import Database

HEAD = "0006"
"""The newest migration. Written here so that a start with nothing to do need not load Alembic (0.2 s)."""

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x6B6C6570616173  # "klepaas" in ASCII
_version = sa.table("alembic_version", sa.column("version_num"))


async def migrate(database: Database) -> bool:
    """Run the missing migrations in one transaction, one process at a time. True when there were any.

    Errors: Conflict when a newer klepaas has changed the database already."""
    async with database.read() as connection:
        if await connection.run_sync(_found) == HEAD:
            return False
    upgrade = _upgrade_with_alembic()  # loaded before the transaction: an idle one is ended by PostgreSQL
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


def _upgrade_with_alembic() -> Any:
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
