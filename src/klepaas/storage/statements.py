"""Statements that stand alone and come by the hundred a second, on PostgreSQL.

They go straight to the driver, from the event loop: SQLAlchemy's way to it costs more than the driver and the database
together, and in a thread the driver and the loop would wait for each other."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

Rows = Sequence[tuple[Any, ...]]


class Statements:
    """One connection, made when it is needed and made again when it was lost. Every statement is a transaction."""

    def __init__(self, url: sa.URL, arguments: Mapping[str, Any]) -> None:
        """`arguments`: further ones of psycopg's `connect`."""
        _, given = url.get_dialect()().create_connect_args(url)
        self._arguments: dict[str, Any] = {**given, **arguments}
        self._connection: psycopg.AsyncConnection | None = None
        self._turn = asyncio.Lock()

    async def carry_out(self, statement: str, values: Sequence[Any]) -> Rows:
        """It may be carried out twice: once more on a new connection, when the one before was lost.

        Errors: those of SQLAlchemy."""
        async with self._turn:
            try:
                return await self._carry_out(statement.encode(), values)
            except psycopg.Error as error:
                raise sa.exc.DBAPIError.instance(None, None, error, psycopg.Error) from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _carry_out(self, statement: bytes, values: Sequence[Any]) -> Rows:
        if self._connection is not None:
            try:
                return await _rows(self._connection, statement, values)
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
        self._connection = await psycopg.AsyncConnection.connect(autocommit=True, **self._arguments)
        return await _rows(self._connection, statement, values)


async def _rows(connection: psycopg.AsyncConnection, statement: bytes, values: Sequence[Any]) -> Rows:
    cursor = await connection.execute(statement, values)
    return await cursor.fetchall() if cursor.description else ()
