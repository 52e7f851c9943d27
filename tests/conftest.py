"""What every test may ask for: databases, a Docker engine, and an instance id whose leftovers are removed."""

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.databases import have_migrated, have_sqlite
from tests.servers import docker
from tests.servers.docker import SBIN, DockerDaemon
from tests.servers.git_http import git_server as git_server
from tests.servers.postgres import PostgresServer


def pytest_configure(config: pytest.Config) -> None:
    """With several workers, one engine for all of them: two on one machine would fight over the bridge."""
    # Slow is no fault: how long drawing an example or testing it may take says something about the machine only.
    settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("suite")
    # A shell has what it starts in the background ignore Ctrl-C, and so would every program the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    is_controller = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if not is_controller or docker.usable_engine() or not can_start_engine():
        return
    daemon = DockerDaemon(isolated=False)
    config.add_cleanup(daemon.stop)
    daemon.start()
    os.environ["DOCKER_HOST"] = daemon.host


def can_start_engine() -> bool:
    return os.geteuid() == 0 and shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{SBIN}") is not None


@pytest.fixture(autouse=True)
def _own_log_settings() -> Iterator[None]:
    """What one test sets about the log holds for no other: one made quiet would hide what the next looks for."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The test run's PostgreSQL. A test that breaks it (restart, kill) makes a PostgresServer of its own."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database of this test's own, `postgresql+psycopg://…`."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    url = postgres.create_database()
    asyncio.run(have_migrated(url))
    return url


@pytest.fixture
def migrated_postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A PostgreSQL database of this test's own with klepaas's tables, all empty."""
    url = postgres.create_database(template=postgres_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of this test's own without any table; the test runs once on each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of this test's own with klepaas's tables, all empty; the test runs once on each kind."""
    if request.param == "sqlite":
        file = tmp_path / "klepaas.db"
        asyncio.run(have_sqlite(file))
        return f"sqlite+aiosqlite:///{file}"
    url: str = request.getfixturevalue("migrated_postgres_url")
    return url


@pytest.fixture(scope="session")
def docker_host() -> Iterator[str]:
    """A Docker engine, `unix:///…`: the machine's own when one answers, else one started for this test run."""
    if host := docker.usable_engine():
        yield host
        return
    if not can_start_engine():
        pytest.skip("no Docker engine answers, and only root with dockerd installed can start one")
    daemon = DockerDaemon(isolated=False)
    try:
        daemon.start()
        yield daemon.host
    finally:
        daemon.stop()


@pytest.fixture
def instance_id(docker_host: str) -> Iterator[str]:
    """A value for the label `klepaas.instance`; what carries it on the engine is removed after the test."""
    instance = f"t{secrets.token_hex(4)}"
    yield instance
    docker.remove_everything(docker_host, label=f"klepaas.instance={instance}")


BEGUN_FIRST = ("acceptance", "targets_ncp", "workflows", "builders", "targets")
"""Folders with files of minutes: the short ones fill what is left of the workers in the end."""
SERVERS = {"postgres", "git_server", "docker_host"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server of its own, so that `./run check` can leave it to `./run test`; order the folders."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in BEGUN_FIRST)
    for item in items:
        wants = set(getattr(item, "fixturenames", ()))
        is_postgres = "postgres" in getattr(getattr(item, "callspec", None), "id", "")
        if wants & SERVERS or is_postgres:
            item.add_marker("servers")
