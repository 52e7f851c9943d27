"""What SQLite's driver needs besides: private files, durable transactions, and an end for that of a cancelled task."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa


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
