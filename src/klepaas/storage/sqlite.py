"""What SQLite's driver needs besides: private files, an end for the transaction of a cancelled task, and a thread for
transactions that are worth one visit."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


class EndsItsTransaction(sqlite3.Connection):
    """Closing rolls back.

    By itself a closed connection keeps its write lock until every cursor with rows left (of an INSERT … RETURNING)
    is gone, and the traceback of a cancelled task keeps such a cursor alive: nobody could write any more."""

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self.in_transaction:
                self.rollback()
        super().close()


def make_private(path: Path) -> None:
    """Have a file with 0600 from birth. SQLite's journal files take over its mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        # Only when it is new: closing a second handle of a database that is in use would drop its locks.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def configure(engine: sa.Engine, *, begin: str) -> None:
    """Have every connection of an engine durable, and every transaction begin as said."""

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        # FULL: a commit is on disk when it returns; a power cut loses nothing we have answered for.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=60000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)


class Visited:
    """A thread for reading and one for writing, each with a connection of its own. Whoever writes has seen to it that
    nobody else does."""

    def __init__(self, url: sa.URL) -> None:
        self._reader, self._writer = _Thread(url, begin="BEGIN"), _Thread(url, begin="BEGIN IMMEDIATE")

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._reader.run(work)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._writer.run(work)

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.close()


class _Thread:
    def __init__(self, url: sa.URL, *, begin: str) -> None:
        self._engine = sa.create_engine(url.set(drivername="sqlite"), poolclass=sa.pool.StaticPool)
        configure(self._engine, begin=begin)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="klepaas-sqlite")

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._transaction, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # It cannot be stopped; whoever writes next must not come before it has ended.
            await asyncio.wait({running})
            raise

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._engine.dispose)
        self._pool.shutdown()

    def _transaction(self, work: Callable[[sa.Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)
