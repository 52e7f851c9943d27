from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import structlog

from klepaas.domain.actor import Scope
from klepaas.settings import NcpSettings
from klepaas.storage.chains import ChainTable
from klepaas.targets.ncp import client as asking
from klepaas.targets.ncp.budget import Budgets
from klepaas.targets.ncp.chain import Chains
from klepaas.targets.ncp.client import NcpClient, keys_of
from klepaas.targets.ncp.endpoints import endpoints_of
from klepaas.testing.fake_target import FakeTarget
from klepaas.testing.ncp import StandInNcp
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
async def ncp(here: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StandInNcp]:
    """A stand-in of Naver Cloud that the chains of this world are made at; what is deployed there goes nowhere."""
    monkeypatch.setattr(asking, "FIRST_REST_S", 0.001)
    with StandInNcp() as ncp:
        settings = NcpSettings.model_validate(
            {name.removeprefix("KLEPAAS_NCP_").lower(): value for name, value in ncp.endpoints.items()}
        )
        client = NcpClient(
            keys_of(settings),
            endpoints_of(settings),
            budgets=Budgets(6000),
            looks_s=(0.01, 0.05, 0.2),
            answer_within_s=5,
        )
        here.context = replace(
            here.context,
            targets={**here.context.targets, "ncp": FakeTarget()},
            pipelines={"ncp": Chains(client, settings, ChainTable(here.database))},
        )
        yield ncp
        await client.close()


@pytest.fixture
def door(here: World) -> Door:
    return door_of(here)


@pytest.fixture
async def api(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    """The app in process, asked with the operator's token."""
    async with door.client(await door.token(Scope.OPERATOR)) as client:
        yield client
