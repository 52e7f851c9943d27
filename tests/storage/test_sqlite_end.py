"""The end of a process that writes: its event loop closes while the driver's thread still waits for the disk."""

import asyncio
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from klepaas.storage import sqlite
from klepaas.storage.database import Database

ENDS_WITHIN_S = 20.0


def test_the_loop_closes_while_a_commit_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks are cancelled at once then, also the one that closes the connection of a task cancelled before.
    The driver alone has its thread stopped twice, and waits for ever for the second stop."""
    commits, disk_answers = threading.Event(), threading.Event()

    class SlowDisk(sqlite.EndsItsTransaction):
        def commit(self) -> None:
            commits.set()
            assert disk_answers.wait(ENDS_WITHIN_S)
            super().commit()

    monkeypatch.setattr(sqlite, "EndsItsTransaction", SlowDisk)
    database_file = tmp_path / "klepaas.db"

    async def ends_amid_a_commit() -> None:
        writing = asyncio.create_task(_write(Database(f"sqlite:///{database_file}")))
        while not commits.is_set():
            await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.sleep(0.1)  # the connection is being closed: that waits for the thread
        threading.Timer(0.3, disk_answers.set).start()

    process = threading.Thread(target=asyncio.run, args=(ends_amid_a_commit(),), daemon=True)
    process.start()
    process.join(ENDS_WITHIN_S)

    assert not process.is_alive(), "the loop waits for something that never comes"


async def _write(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("CREATE TABLE written (line TEXT)"))
