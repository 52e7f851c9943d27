"""What SQLite's driver needs besides: private files, quick statements, an end for a cancelled task's transaction."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
import sqlalchemy as sa

BEGIN_WRITING = "BEGIN IMMEDIATE"
LOCK_TIMEOUT_MS = 60_000


class EndsItsTransaction(sqlite3.Connection):
    """Closing rolls back.

    By itself a closed connection keeps its write lock until every cursor with rows left (of an INSERT … RETURNING)
    is gone, and the traceback of a cancelled task keeps such a cursor alive: nobody could write any more."""

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self.in_transaction:
                self.rollback()
        super().close()


class DirectConnection(aiosqlite.Connection):
    """Only what may wait for the disk or for another writer goes through the driver's thread.

    A statement of ours takes some 50 µs, handing it to a thread and back 0.3 ms and more on a busy machine, and a
    short read is five of them. See docs/decisions/0009."""

    _writes = False
    _handed_over = 0
    _carried_out = 0
    """Written by the thread only, as the other by its users: what stands between them is in the thread's hands."""
    _stopped: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """The thread ends with the first stop, whoever else comes waits for that: the driver would put another one
        behind it, which nobody carries out, and wait for ever."""
        if self._stopped is None:
            self._stopped = super().stop()
        # Shielded: a waiter that is cancelled must not take it from the others.
        return self._stopped and asyncio.shield(self._stopped)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # While the thread still has something (its caller may have been cancelled) all else waits its turn there:
        # two threads in one connection end the process.
        if self._handed_over != self._carried_out or self._waits_for_disk(fn):
            return await self._hand_over(fn, *args, **kwargs)
        if not self._running or not self._connection:
            raise ValueError("Connection closed")
        if not (args and args[0] == BEGIN_WRITING):
            return fn(*args, **kwargs)
        try:
            with _without_waiting(self._connection):
                return fn(*args, **kwargs)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            return await self._hand_over(fn, *args, **kwargs)  # another program writes

    def _waits_for_disk(self, fn: Callable[..., Any]) -> bool:
        # The end of a transaction that only read costs nothing.
        return self._writes and self._connection is not None and fn == self._connection.commit

    async def _hand_over(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._handed_over += 1
        return await super()._execute(self._carry_out, fn, *args, **kwargs)  # type: ignore[no-untyped-call]

    def _carry_out(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        finally:
            self._carried_out += 1

    @classmethod
    def creator(cls, *, writes: bool) -> Callable[..., "DirectConnection"]:
        """What SQLAlchemy calls for a new connection, with sqlite3's own arguments."""

        def create(*args: Any, **kwargs: Any) -> DirectConnection:
            connector = partial(sqlite3.connect, *args, **{**kwargs, "check_same_thread": False})
            made = cls(connector, iter_chunk_size=64)
            made._thread.daemon = True
            made._writes = writes
            return made

        return create


@contextlib.contextmanager
def _without_waiting(connection: sqlite3.Connection) -> Iterator[None]:
    """For somebody else's lock."""
    connection.execute("PRAGMA busy_timeout=0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_MS}")


def make_private(path: Path) -> None:
    """Have a file with 0600 from birth. SQLite's journal files take over its mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        # Only when it is new: closing a second handle of a database that is in use would drop its locks.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def configure(engine: sa.Engine) -> None:
    """Have what is committed over this engine on disk, and leave it to us to say BEGIN."""

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (*_PRAGMAS, f"busy_timeout={LOCK_TIMEOUT_MS}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def connect(url: sa.URL) -> sqlite3.Connection:
    """Without SQLAlchemy, else like a connection of an engine that was configured; but several threads may use it, and
    it does not wait for locks."""
    (path,), given = url.set(drivername="sqlite").get_dialect()().create_connect_args(url)
    own = {"check_same_thread": False, "isolation_level": None, "factory": EndsItsTransaction, "timeout": 0}
    connection: sqlite3.Connection = sqlite3.connect(path, **{**given, **own})
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


# FULL: a commit is on disk when it returns; a power cut loses nothing we have answered for.
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
