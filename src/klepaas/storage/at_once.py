"""Transactions that need to know nothing while they run, and come by the hundred a second, on SQLite.

An asynchronous driver comes back to the event loop with every statement: coming and going would be most of the work.
Here all of it is one synchronous piece."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from klepaas.storage.sqlite import BEGIN_WRITING
from klepaas.storage.thread import Thread

T = TypeVar("T")

LOOKS_AGAIN_AFTER_S = 0.02


class TransactionsAtOnce:
    """For SQLite: a statement takes some microseconds, and what a thread and the loop take from each other is more.
    Only the commit, which waits for the disk, goes to a thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, waits_for_lock_s: float) -> None:
        """`connect`: for connections that several threads may use and that do not wait for locks."""
        self._connect, self._thread = connect, Thread()
        self._waits_for_lock_s = waits_for_lock_s
        self._connection: sqlite3.Connection | None = None

    async def carry_out(self, work: Callable[[sqlite3.Connection], T], *, is_long: bool) -> T:
        """`work` in a transaction: committed when it returns, rolled back when it raises. `is_long`: it writes so much
        that nobody else should wait for it. One that was begun ends, also when nobody waits for it any more.

        Errors: those of SQLAlchemy; its TimeoutError when another program does not give its lock back."""
        try:
            return await self._carry_out(work, is_long)
        except sqlite3.Error as error:
            self._forget()
            raise sa.exc.DBAPIError.instance(None, None, error, sqlite3.Error) from error
        except Exception:
            self._forget()
            raise

    async def finished(self) -> None:
        """Whatever was begun before has ended."""
        await self._thread.finished()

    def close(self) -> None:
        """Once the last transaction has ended."""
        self._thread.end_with(self._forget)

    async def _carry_out(self, work: Callable[[sqlite3.Connection], T], is_long: bool) -> T:
        connection = await self._begun()

        def whole() -> T:
            result = work(connection)
            connection.commit()
            return result

        if is_long:
            return await self._thread.run(whole)
        result = work(connection)
        await self._thread.run(connection.commit)
        return result

    async def _begun(self) -> sqlite3.Connection:
        until = time.monotonic() + self._waits_for_lock_s
        while True:
            if self._connection is not None and self._connection.in_transaction:
                self._forget()  # of one that was cancelled, and then failed
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.execute(BEGIN_WRITING)
            except sqlite3.OperationalError as error:
                self._forget()
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > until:
                    raise sa.exc.TimeoutError("another program keeps the database locked") from error
                await asyncio.sleep(LOOKS_AGAIN_AFTER_S)
            else:
                return self._connection

    def _forget(self) -> None:
        """The connection, in whatever state it is: closing it rolls back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
