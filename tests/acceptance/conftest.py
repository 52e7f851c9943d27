"""klepaas as a whole: a ground, a running process on it, and an app to deploy."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.acceptance.app_repository import AppRepository
from tests.acceptance.cradle import Cradle
from tests.acceptance.house import House
from tests.acceptance.klepaas_process import Ground, KlepaasProcess


@pytest.fixture
def ground(docker_host: str) -> Iterator[Ground]:
    """An empty home with SQLite, of this test's own."""
    made = Ground(docker_host)
    yield made
    made.clear()


@pytest.fixture
def shared_ground(docker_host: str, postgres_url: str, cradle: Cradle) -> Iterator[Ground]:
    """An empty home with PostgreSQL: several processes may work on it. They are started by the dozen."""
    made = Ground(docker_host, database_url=postgres_url, cradle=cradle)
    yield made
    made.clear()


@pytest.fixture
async def klepaas(ground: Ground) -> AsyncIterator[KlepaasProcess]:
    """A klepaas that runs, on a home of its own."""
    process = ground.process()
    await process.start()
    yield process
    await process.stop()


@pytest.fixture
def repository(ground: Ground) -> AppRepository:
    """The sample app with one commit."""
    made = AppRepository(ground.folder / "app")
    made.commit()
    return made


@pytest.fixture(scope="session")
def cradle() -> Iterator[Cradle]:
    made = Cradle()
    yield made
    made.close()


@pytest.fixture(scope="module")
def house(docker_host: str, cradle: Cradle) -> Iterator[House]:
    """What the crash tests of one file share."""
    ground = Ground(docker_host, cradle=cradle)
    made = House(ground)
    yield made
    if made.visitor is not None:
        made.visitor.leave()
    ground.clear()
