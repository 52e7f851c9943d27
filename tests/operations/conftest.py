import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from klepaas.storage.database import Database
from klepaas.storage.migrate import migrate
from tests.operations.hub import Hub
from tests.workflows.world import world


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database in its newest form: copying it is quicker than making it for every test."""
    file = tmp_path_factory.mktemp("migrated") / "klepaas.db"

    async def make() -> None:
        database = Database(f"sqlite+aiosqlite:///{file}")
        await migrate(database)
        await database.close()

    asyncio.run(make())
    return file


@pytest.fixture
def hub_url(request: pytest.FixtureRequest, migrated: Path, tmp_path: Path) -> str:
    """SQLite, unless a test asks for each kind of database (`EACH_DATABASE`)."""
    if getattr(request, "param", "sqlite") == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        return url
    file = shutil.copy(migrated, tmp_path / "klepaas.db")
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture
async def hub(hub_url: str, tmp_path: Path) -> AsyncIterator[Hub]:
    """A klepaas whose GitHub is in memory. No engine runs: deployments wait."""
    async with world(hub_url, tmp_path) as made:
        yield Hub.around(made)
