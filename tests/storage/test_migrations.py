import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from klepaas.errors import Conflict
from klepaas.storage import migrate as migrating
from klepaas.storage.database import Database
from klepaas.storage.migrate import HEAD, migrate
from klepaas.storage.tables import metadata


async def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


def test_the_newest_migration_is_the_one_a_start_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).with_name("migrations")))

    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


async def test_postgres_compresses_what_was_delivered_the_quick_way(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite does not compress")
    how = "SELECT attcompression::text FROM pg_attribute WHERE attrelid = 'deliveries'::regclass AND attname = 'body'"
    async with database.read() as connection:
        assert await connection.scalar(sa.text(how)) == "l"


async def test_migrating_again_changes_nothing(database: Database) -> None:
    assert not await migrate(database)


async def test_two_processes_that_start_together_migrate_once(empty_database_url: str) -> None:
    first, second = Database(empty_database_url), Database(empty_database_url)
    try:
        assert sorted(await asyncio.gather(migrate(first), migrate(second))) == [False, True]
    finally:
        await first.close()
        await second.close()


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from klepaas.storage.migrations import old_clients

    broken = Database(empty_database_url)
    with monkeypatch.context() as patch:
        patch.setattr(old_clients, "views", lambda dialect: ["NOT A STATEMENT"])
        with pytest.raises(Exception, match="NOT"):
            await migrate(broken)
    async with broken.read() as connection:
        tables = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    await broken.close()

    assert tables == []


async def test_a_database_of_a_newer_klepaas_is_refused(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(Conflict, match="newer klepaas"):
        await migrate(database)


def test_a_start_loads_no_database_that_it_does_not_use() -> None:
    """PostgreSQL's part of SQLAlchemy takes as long as all tables together."""
    program = "import sys, klepaas.wiring; print('sqlalchemy.dialects.postgresql' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


def test_a_start_with_nothing_to_do_does_not_load_alembic(tmp_path: Path) -> None:
    """What takes 0.2 s of every start otherwise."""
    program = f"""
import asyncio, sys
from klepaas.storage.database import Database
from klepaas.storage.migrate import migrate
database = Database("sqlite:///{tmp_path}/klepaas.db")
asyncio.run(migrate(database))
print("alembic" in sys.modules)
"""
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]

    assert runs == ["True", "False"]
