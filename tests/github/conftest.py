from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from klepaas.github.client import GitHub
from klepaas.operations.code_host import Place
from klepaas.testing.github import StandInGitHub, StandInRepository
from tests.github.credentials import Credentials


@pytest.fixture
def hub() -> Iterator[StandInGitHub]:
    with StandInGitHub() as stand_in:
        yield stand_in


@pytest.fixture
def shop(hub: StandInGitHub) -> StandInRepository:
    """A private repository with one commit."""
    return hub.create_repository("team/shop", files={"Dockerfile": "FROM scratch\n"})


@pytest.fixture
def credentials(hub: StandInGitHub) -> Credentials:
    return Credentials(hub)


@pytest.fixture
async def github(hub: StandInGitHub, credentials: Credentials) -> AsyncIterator[GitHub]:
    client = GitHub(hub.api_url, app=credentials.app, open_credential=credentials.open)
    yield client
    await client.close()


@pytest.fixture
def installed(hub: StandInGitHub, shop: StandInRepository, credentials: Credentials) -> Place:
    """The shop, seen by the App installed on its owner."""
    return credentials.installation(shop, hub.install("team"))


@pytest.fixture
def by_token(shop: StandInRepository, credentials: Credentials) -> Place:
    """The shop, seen by a personal access token."""
    return credentials.token(shop)


@pytest.fixture(params=["installed", "by_token"])
def place(request: pytest.FixtureRequest) -> Place:
    """The shop, seen by either."""
    found: Place = request.getfixturevalue(request.param)
    return found


Asked = Callable[[str, str], int]


@pytest.fixture
def asked(hub: StandInGitHub) -> Asked:
    """How many requests of this method came whose path holds this."""
    return lambda method, part: sum(each.method == method and part in each.path for each in hub.requests)
