"""Connections and their sealed credentials, behind `operations.ports.connections.Connections`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from klepaas.domain.connection import Connection, ConnectionKind, Credential
from klepaas.errors import Conflict, NotFound
from klepaas.storage.database import Database
from klepaas.storage.sealing import Sealer
from klepaas.storage.tables import connections, projects

c = connections.c


def place_of(connection_id: str) -> str:
    """Where a credential is sealed into."""
    return f"connection:{connection_id}"


class ConnectionTable:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database, self._sealer = database, sealer

    async def get(self, connection_id: str) -> Connection | None:
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(connections).where(c.id == connection_id))).first()
            return None if row is None else _connection(row)

    async def open(self, connection_id: str) -> Credential:
        """Errors: NotFound; WrongKey when the key cannot open it."""
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(c.sealed, c.host).where(c.id == connection_id))).first()
        if row is None:
            raise NotFound(f"There is no connection {connection_id[:80]!r}.", hint="Add it again.")
        values = self._sealer.open_values(row.sealed, place_of(connection_id))
        return Credential(username=values["username"], password=values["password"], host=row.host)

    async def add(self, connection: Connection, credential: Credential) -> None:
        """Errors: Conflict for a name the owner has used already."""
        values = {"username": credential.username, "password": credential.password}
        try:
            async with self._database.write() as writing:
                await writing.execute(
                    sa.insert(connections).values(
                        id=connection.id,
                        owner_id=connection.owner_id,
                        kind=connection.kind,
                        name=connection.name,
                        host=connection.host,
                        sealed=self._sealer.seal_values(values, place_of(connection.id)),
                        created_at=connection.created_at,
                        installation_id=connection.installation_id,
                        api_url=connection.api_url,
                    )
                )
        except sa.exc.IntegrityError as error:
            raise Conflict(
                f"There is already a connection named {connection.name}.", hint="Choose another name, or remove it."
            ) from error

    async def list(self, owner_id: str | None) -> Sequence[Connection]:
        query = sa.select(connections).order_by(c.name, c.id)
        if owner_id is not None:
            query = query.where(c.owner_id == owner_id)
        async with self._database.read() as connection:
            return [_connection(row) for row in await connection.execute(query)]

    async def remove(self, connection_id: str, at: datetime) -> Sequence[str]:
        """Forget the credential. Projects that used it have none from then on. Idempotent."""
        p = projects.c
        used = sa.select(p.id, p.updated_at, p.retired_at).where(p.connection_id == connection_id).order_by(p.number)
        async with self._database.write() as connection:
            users = (await connection.execute(used.with_for_update())).all()
            for row in users:
                # The time moves, so that a change decided before meets a conflict instead of the missing row.
                later = max(at, row.updated_at + timedelta(microseconds=1))
                await connection.execute(
                    sa.update(projects).where(p.id == row.id).values(connection_id=None, updated_at=later)
                )
            await connection.execute(sa.delete(connections).where(c.id == connection_id))
        return [row.id for row in users if row.retired_at is None]


def _connection(row: sa.Row[Any]) -> Connection:
    return Connection(
        id=row.id,
        owner_id=row.owner_id,
        kind=ConnectionKind(row.kind),
        name=row.name,
        created_at=row.created_at,
        host=row.host,
        installation_id=row.installation_id,
        api_url=row.api_url,
    )
