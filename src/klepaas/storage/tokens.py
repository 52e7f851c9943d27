"""Tokens, behind `operations.ports.tokens.Tokens`. Of a secret only its hash is kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from klepaas.domain.actor import Scope
from klepaas.errors import Conflict
from klepaas.operations.ports.tokens import Token
from klepaas.storage.database import Database
from klepaas.storage.tables import tokens

t = tokens.c

_BY_ID = sa.select(tokens).where(t.id == sa.bindparam("id"))
"""Built once, as it is asked with every request."""
_OF_OPERATOR = (
    sa.select(t.id)
    .where(t.scope == Scope.OPERATOR, t.revoked_at.is_(None))
    .where(t.expires_at.is_(None) | (t.expires_at > sa.bindparam("at", type_=t.expires_at.type)))
    .order_by(t.id)
    .with_for_update()
)


class TokenTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, token: Token, secret_hash: str) -> None:
        """Errors: Conflict for an owner there is not, or an id that is taken."""
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    sa.insert(tokens).values(
                        id=token.id,
                        owner_id=token.owner_id,
                        name=token.name,
                        secret_hash=secret_hash,
                        scope=token.scope,
                        created_at=token.created_at,
                        expires_at=token.expires_at,
                        revoked_at=token.revoked_at,
                    )
                )
        except sa.exc.IntegrityError as error:
            raise Conflict(
                f"The token {token.name} cannot be made: its owner is gone.", hint="List the owners."
            ) from error

    async def by_id(self, token_id: str) -> tuple[Token, str] | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_BY_ID, {"id": token_id})).first()
            return None if row is None else (_token(row), row.secret_hash)

    async def list(self, owner_id: str | None) -> Sequence[Token]:
        query = sa.select(tokens).order_by(t.created_at, t.id)
        if owner_id is not None:
            query = query.where(t.owner_id == owner_id)
        async with self._database.read() as connection:
            return [_token(row) for row in await connection.execute(query)]

    async def revoke(self, token_id: str, at: datetime) -> bool:
        async with self._database.write() as connection:
            # Locked, so that of two that are the last ones not both are revoked at the same time.
            if list(await connection.scalars(_OF_OPERATOR, {"at": at})) == [token_id]:
                raise Conflict(
                    "This is the operator's last valid token: without it nobody could manage this klepaas.",
                    hint="Make another first: klepaas tokens create NAME --scope operator",
                )
            revoked = await connection.execute(
                sa.update(tokens).where(t.id == token_id, t.revoked_at.is_(None)).values(revoked_at=at)
            )
            return revoked.rowcount == 1

    async def any(self) -> bool:
        async with self._database.read() as connection:
            return await connection.scalar(sa.select(t.id).limit(1)) is not None


def _token(row: sa.Row[Any]) -> Token:
    return Token(
        id=row.id,
        owner_id=row.owner_id,
        name=row.name,
        scope=Scope(row.scope),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
