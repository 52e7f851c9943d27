"""What SQLite's driver needs besides: private files, and an end for the transaction of a cancelled task."""

import contextlib
import os
import sqlite3
from pathlib import Path


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
