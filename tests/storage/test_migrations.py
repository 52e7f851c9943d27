import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from klepaas.errors import Conflict
from klepaas.storage import migrate as migrating
from klepaas.storage.database import Database
from klepaas.storage.migrate import HEAD, migrate, upgrade_with_alembic
from klepaas.storage.tables import metadata


async def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


def alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).with_name("migrations")))
    return config


def test_the_newest_migration_is_the_one_a_start_looks_for() -> None:
    assert ScriptDirectory.from_config(alembic()).get_current_head() == HEAD


def the_whole_of(connection: sa.Connection) -> dict[str, object]:
    """Everything a SQLite database consists of, but the order of columns and the way its statements were written."""

    def all_of(pragma: str) -> list[tuple[object, ...]]:
        return sorted((tuple(row) for row in connection.exec_driver_sql(f"PRAGMA {pragma}")), key=repr)

    whole: dict[str, object] = {}
    for kind, name, sql in list(connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master")):
        if kind == "table":
            columns = sorted(row[1:] for row in all_of(f"table_xinfo('{name}')"))
            keys = sorted(row[2:] for row in all_of(f"foreign_key_list('{name}')"))
            indices = [
                (row[2:], [column[2:] for column in all_of(f"index_xinfo('{row[1]}')")])
                for row in all_of(f"index_list('{name}')")
            ]
            whole[name] = (columns, keys, sorted(indices, key=repr), "AUTOINCREMENT" in sql)
        elif sql:
            whole[f"{kind} {name}"] = " ".join(sql.split())
    return whole


async def test_a_new_database_is_what_all_migrations_would_have_made_of_it(tmp_path: Path) -> None:
    anew, step_by_step = (Database(f"sqlite:///{tmp_path}/{name}.db") for name in ("anew", "steps"))
    assert await migrate(anew)
    upgrade = upgrade_with_alembic()
    async with step_by_step.write() as connection:
        await connection.run_sync(upgrade)

    wholes = []
    for database in (anew, step_by_step):
        async with database.read() as connection:
            wholes.append(await connection.run_sync(the_whole_of))
        assert not await migrate(database)
        await database.close()
    assert len(wholes[0]) > 30
    assert wholes[0] == wholes[1]


async def test_an_older_database_is_migrated(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    config = alembic()

    def be_older(connection: sa.Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")

    def names(connection: sa.Connection) -> list[str]:
        return sa.inspect(connection).get_table_names()

    async with database.write() as connection:
        await connection.run_sync(be_older)
        assert "imported_deployments" not in await connection.run_sync(names)
    assert await migrate(database)
    async with database.read() as connection:
        assert "imported_deployments" in await connection.run_sync(names)
    assert not await migrate(database)
    await database.close()


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
    program = "import sys, klepaas.serving; print('sqlalchemy.dialects.postgresql' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


def test_a_start_with_nothing_to_migrate_does_not_load_alembic(tmp_path: Path) -> None:
    """The first one as little as the others: what takes a second of it otherwise."""
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

    assert runs == ["False", "False"]
