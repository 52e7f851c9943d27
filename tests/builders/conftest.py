"""A builder on a real engine, a base image without any registry, and an engine of one's own to break."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from klepaas.builders.docker import DockerBuilder
from klepaas.docker.engine import DockerEngine
from klepaas.domain.project import App
from tests.builders.checkout import some_app
from tests.servers.base_images import static_base
from tests.servers.docker import SBIN, DockerDaemon


@pytest.fixture
def app() -> App:
    return some_app()


@pytest.fixture
def base(docker_host: str) -> str:
    """Name of a base image with busybox."""
    return static_base(docker_host)


@pytest.fixture
def fresh(base: str, instance_id: str) -> str:
    """What to write after FROM so that no step comes from the cache of an earlier test run.

    The label is for what the old builder leaves of a failed build: images without our labels."""
    return f"{base}\nLABEL klepaas.instance={instance_id}\nENV ONCE={secrets.token_hex(8)}"


@pytest.fixture
async def engine(docker_host: str) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(docker_host)
    yield engine
    await engine.close()


@pytest.fixture
def builder(engine: DockerEngine, instance_id: str) -> DockerBuilder:
    return DockerBuilder(engine, instance=instance_id)


@pytest.fixture
def own_daemon() -> Iterator[DockerDaemon]:
    """A daemon that is not started yet and may be broken. It clips no logs."""
    if os.geteuid() != 0 or not shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{SBIN}"):
        pytest.skip("only root with dockerd installed can start an engine")
    daemon = DockerDaemon()
    yield daemon
    daemon.stop()
