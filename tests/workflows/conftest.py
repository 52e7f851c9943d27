from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from tests.workflows.world import World, world


@pytest.fixture(autouse=True)
def _plain_logs() -> None:
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[plain])


@pytest.fixture
async def here(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A klepaas in this process, on each kind of database."""
    async with world(database_url, tmp_path) as made:
        yield made
