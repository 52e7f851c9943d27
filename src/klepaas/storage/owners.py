"""The owners of projects, behind `operations.ports.owners.Owners`."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from klepaas.errors import Conflict
from klepaas.operations.ports.owners import Owner
from klepaas.storage.database import Database
from klepaas.storage.tables import owners


class OwnerTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[Owner]:
        async with self._database.read() as connection:
            rows = await connection.execute(sa.select(owners).order_by(owners.c.name))
            return [_owner(row) for row in rows]

    async def add(self, owner: Owner) -> None:
        """Errors: Conflict for a taken name."""
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    sa.insert(owners).values(id=owner.id, name=owner.name, created_at=owner.created_at)
                )
        except sa.exc.IntegrityError as error:
            raise Conflict(f"There is already an owner named {owner.name}.", hint="Choose another name.") from error

    async def named(self, name: str) -> Owner | None:
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(owners).where(owners.c.name == name))).first()
            return None if row is None else _owner(row)


def _owner(row: sa.Row[Any]) -> Owner:
    return Owner(id=row.id, name=row.name, created_at=row.created_at)
