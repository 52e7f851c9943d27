"""A migrated database of the test's own, once per kind of database."""

from collections.abc import AsyncIterator

import pytest

from klepaas.storage.database import Database
from tests.storage.worlds import Memory


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def memory(database: Database) -> Memory:
    return Memory(database)
