from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import structlog

from klepaas.domain.actor import Scope
from tests.interfaces.api.doors import Door, door_of
from tests.workflows.world import World, world


@pytest.fixture(autouse=True)
def _quiet() -> None:
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[plain], wrapper_class=structlog.make_filtering_bound_logger(30))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}", tmp_path) as made:
        yield made


@pytest.fixture
def door(here: World) -> Door:
    return door_of(here)


@pytest.fixture
async def api(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    """The app in process, asked with the operator's token."""
    async with door.client(await door.token(Scope.OPERATOR)) as client:
        yield client
