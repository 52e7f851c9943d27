"""R-02, R-15: two klepaas on one PostgreSQL. One dies or is paused while it carries a deployment; the other takes
over, and what the first does when it wakes up changes nothing."""

import asyncio
import signal
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.storage.tables import deployment_events, deployments
from klepaas.workflows.watchdog import EXIT_CODE
from tests.acceptance import truth
from tests.acceptance.app_repository import AppRepository
from tests.acceptance.klepaas_process import Ground, KlepaasProcess

pytestmark = [pytest.mark.slow, pytest.mark.docker]

SHORT = {"ENGINE__LEASE": "PT3S", "ENGINE__BEAT": "PT0.6S", "ENGINE__POLL": "PT0.5S", "RECONCILER__INTERVAL": "PT1S"}
TAKEN_OVER_WITHIN_S = 30.0


class Pair:
    """`first` will be struck by the fault, `second` takes over. There is a live release of the app `shop`."""

    def __init__(self, ground: Ground, settings: dict[str, str]) -> None:
        self.ground = ground
        self.repository = AppRepository(ground.folder / "app")
        self.crash, self.stop = ground.folder / "crash", ground.folder / "stop"
        self.crash.write_text("")
        self.stop.write_text("")
        armed = {"TESTING__CRASH_AT": f"@{self.crash}", "TESTING__STOP_AT": f"@{self.stop}"}
        self.first = ground.process(**settings, **armed)
        self.second = ground.process(**settings)

    async def start(self) -> None:
        """Only the first one runs, and a release is live."""
        await self.first.start()
        self.repository.commit()
        async with self.first.client() as klepaas:
            await klepaas.register(str(self.repository.path), name="shop")
        ended = await self.ended(self.first, await self.deploy())
        assert ended["status"] == "succeeded", ended["failure"]
        self.repository.commit()

    async def deploy(self) -> dict[str, Any]:
        async with self.first.client() as klepaas:
            found: dict[str, Any] = (await klepaas.deploy("shop"))["deployment"]
            return found

    async def ended(self, by: KlepaasProcess, deployment: dict[str, Any], within_s: float = 90.0) -> dict[str, Any]:
        async with asyncio.timeout(within_s), by.client() as klepaas:
            async for _ in klepaas.follow(deployment["id"]):
                pass
            return await klepaas.deployment(deployment["id"])

    def events(self, deployment_id: str) -> list[sa.Row[Any]]:
        e = deployment_events.c
        return self.ground.select(sa.select(deployment_events).where(e.deployment_id == deployment_id).order_by(e.seq))

    def taken_over_at(self, deployment_id: str) -> datetime:
        """When a second node claimed it."""
        claims = [each for each in self.events(deployment_id) if each.kind == "deployment.claimed"]
        assert len({each.node for each in claims}) == 2, [each.node for each in claims]
        at: datetime = claims[-1].at
        return at


@pytest.fixture
async def pair(shared_ground: Ground) -> Pair:
    made = Pair(shared_ground, SHORT)
    await made.start()
    return made


async def _killed_and_taken_over(pair: Pair, point: str) -> None:
    pair.crash.write_text(point)
    started = await pair.deploy()
    await pair.second.start()
    assert await pair.first.ended() == -9
    died_at = datetime.now(UTC)
    ended = await pair.ended(pair.second, started)

    assert ended["status"] == "succeeded", ended["failure"]
    assert (pair.taken_over_at(started["id"]) - died_at).total_seconds() < TAKEN_OVER_WITHIN_S
    await truth.is_true(pair.ground, pair.repository.versions)
    assert len(pair.ground.select(sa.select(deployments.c.id))) == 2


@pytest.mark.parametrize("point", ["build.started", "container_created", "upstream_written", "container_parked"])
async def test_the_work_of_a_killed_process_is_taken_over(pair: Pair, point: str) -> None:
    await _killed_and_taken_over(pair, point)


async def test_with_the_usual_lease_the_work_of_a_killed_process_is_taken_over_within_30_s(
    shared_ground: Ground,
) -> None:
    usual = Pair(shared_ground, {})
    await usual.start()
    await _killed_and_taken_over(usual, "verify.started")


@pytest.mark.parametrize("point", ["fetch.done", "container_created", "container_started", "upstream_written"])
async def test_a_paused_process_that_wakes_up_changes_nothing(pair: Pair, point: str) -> None:
    """R-15."""
    pair.stop.write_text(point)
    started = await pair.deploy()
    await pair.first.sleeps()
    await pair.second.start()
    ended = await pair.ended(pair.second, started)
    await truth.is_true(pair.ground, pair.repository.versions)
    before = pair.events(started["id"])
    containers = sorted(data["Id"] for data in pair.ground.containers())

    pair.first.send(signal.SIGCONT)
    assert await pair.first.ended() == EXIT_CODE

    assert ended["status"] == "succeeded", ended["failure"]
    assert pair.taken_over_at(started["id"]) is not None
    assert pair.events(started["id"]) == before
    assert sorted(data["Id"] for data in pair.ground.containers()) == containers
    await truth.is_true(pair.ground, pair.repository.versions)


async def test_a_live_process_is_not_robbed_of_a_stage_longer_than_its_lease(pair: Pair) -> None:
    """R-15: it renews its lease while the stage goes on."""
    async with pair.first.client() as klepaas:
        await klepaas.configure("shop", settings={"health_path": "/slow", "health_timeout_s": 8})
    await pair.second.start()
    started = await pair.deploy()
    ended = await pair.ended(pair.second, started)

    nodes = {each.node for each in pair.events(started["id"]) if each.node.startswith("node_")}
    assert (ended["status"], ended["stage"], len(nodes)) == ("failed", "verify", 1)
    assert ended["failure"]["code"] == "not_healthy"
    await truth.is_true(pair.ground, pair.repository.versions)
