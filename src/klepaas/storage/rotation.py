"""A new encryption key takes over: everything an earlier one sealed is sealed again, in one transaction."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.storage import connections, github_app, projects, releases
from klepaas.storage.database import Database
from klepaas.storage.facts import KEY_CHECK, key_check_of
from klepaas.storage.sealing import Sealer
from klepaas.storage.tables import connections as connections_table
from klepaas.storage.tables import facts as facts_table
from klepaas.storage.tables import github_app as github_app_table
from klepaas.storage.tables import releases as releases_table
from klepaas.storage.tables import variables as variables_table


async def reseal(database: Database, sealer: Sealer) -> None:
    """Afterwards the earlier keys are needed no more. Errors: WrongKey when one is needed that is not there."""
    async with database.write() as connection:
        await _variables(connection, sealer)
        await _connections(connection, sealer)
        await _github_app(connection, sealer)
        await _releases(connection, sealer)
        await connection.execute(
            sa.update(facts_table).where(facts_table.c.name == KEY_CHECK).values(value=key_check_of(sealer))
        )


async def _variables(connection: AsyncConnection, sealer: Sealer) -> None:
    v = variables_table.c
    for row in await _sealed(connection, sa.select(v.project_id, v.environment, v.name, v.sealed)):
        sealed = _again(sealer, row.sealed, projects.place_of(row.project_id, row.environment, row.name))
        here = (v.project_id == row.project_id, v.environment == row.environment, v.name == row.name)
        await connection.execute(sa.update(variables_table).where(*here).values(sealed=sealed))


async def _connections(connection: AsyncConnection, sealer: Sealer) -> None:
    c = connections_table.c
    for row in await _sealed(connection, sa.select(c.id, c.sealed)):
        sealed = _again(sealer, row.sealed, connections.place_of(row.id))
        await connection.execute(sa.update(connections_table).where(c.id == row.id).values(sealed=sealed))


async def _github_app(connection: AsyncConnection, sealer: Sealer) -> None:
    g = github_app_table.c
    for row in await _sealed(connection, sa.select(g.id, g.sealed)):
        sealed = _again(sealer, row.sealed, github_app.PLACE)
        await connection.execute(sa.update(github_app_table).where(g.id == row.id).values(sealed=sealed))


async def _releases(connection: AsyncConnection, sealer: Sealer) -> None:
    r = releases_table.c
    for row in await _sealed(connection, sa.select(r.id, r.sealed_variables)):
        values = sealer.open_values(row.sealed_variables, releases.place_of(row.id))
        await connection.execute(
            sa.update(releases_table)
            .where(r.id == row.id)
            .values(
                sealed_variables=sealer.seal_values(values, releases.place_of(row.id)),
                environment_digest=sealer.digest(values),
            )
        )


async def _sealed(connection: AsyncConnection, query: sa.Select[Any]) -> list[sa.Row[Any]]:
    return list((await connection.execute(query.with_for_update())).all())


def _again(sealer: Sealer, sealed: bytes, place: str) -> bytes:
    return sealer.seal(sealer.open(sealed, place), place)
