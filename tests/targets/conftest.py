"""A local target of each test's own, on a real engine; nothing of it stays behind."""

import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from klepaas.docker.engine import DockerEngine
from klepaas.targets.local.adapter import LocalTarget
from klepaas.testing.memory_leases import MemoryLeases
from tests.servers import docker
from tests.targets.apps import LocalPlace

PORTS_PER_TEST = 60


@pytest.fixture
async def engine(docker_host: str) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(docker_host)
    yield engine
    await engine.close()


@pytest.fixture
def home() -> Iterator[Path]:
    """Short, because the path of a unix socket has to fit into 107 bytes."""
    home = Path(tempfile.mkdtemp(prefix="klepaas-t-", dir="/tmp"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def instance_id(home: Path, instance_id: str) -> str:
    """Set up after `home`, so that its containers are gone before the folder they write to is."""
    return instance_id


@pytest.fixture
def leases() -> MemoryLeases:
    """A random piece of the range: tests run beside each other, and a collision is what the target must survive."""
    first = random.randrange(20000, 29999 - PORTS_PER_TEST)
    return MemoryLeases(first, first + PORTS_PER_TEST)


@pytest.fixture
async def target(
    engine: DockerEngine, leases: MemoryLeases, instance_id: str, home: Path, proxy_image: None
) -> AsyncIterator[LocalTarget]:
    target = LocalTarget(engine, leases, instance_id=instance_id, home=home)
    yield target
    await target.close_connections()


@pytest.fixture
def place(target: LocalTarget, engine: DockerEngine, instance_id: str) -> LocalPlace:
    return LocalPlace(target=target, engine=engine, instance_id=instance_id)


@pytest.fixture(scope="session")
def proxy_image(docker_host: str) -> Iterator[None]:
    """Removes the proxy's image after the run, unless it was there before or somebody uses it."""
    there = {image["Id"] for image in docker.images(docker_host, label="klepaas.role=proxy")}
    yield
    for image in docker.images(docker_host, label="klepaas.role=proxy"):
        if image["Id"] not in there:
            docker.remove_unused(docker_host, image["Id"])
