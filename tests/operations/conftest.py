from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.operations.hub import Hub
from tests.workflows.world import world


@pytest.fixture
def hub_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, unless a test asks for each kind of database (`EACH_DATABASE`)."""
    if getattr(request, "param", "sqlite") == "postgres":
        url: str = request.getfixturevalue("migrated_postgres_url")
        return url
    return f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}"


@pytest.fixture
async def hub(hub_url: str, tmp_path: Path) -> AsyncIterator[Hub]:
    """A klepaas whose GitHub is in memory. No engine runs: deployments wait."""
    async with world(hub_url, tmp_path) as made:
        yield Hub.around(made)
