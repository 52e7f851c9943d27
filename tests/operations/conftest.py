from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.operations.hub import Hub
from tests.workflows.world import world


@pytest.fixture
async def hub(database_url: str, tmp_path: Path) -> AsyncIterator[Hub]:
    """A klepaas whose GitHub is in memory, on each kind of database. No engine runs: deployments wait."""
    async with world(database_url, tmp_path) as made:
        yield Hub.around(made)
