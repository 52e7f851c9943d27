"""R-02, R-30: klepaas is killed at every transition, started again, and tells the truth about what it finishes.

One klepaas and one app live through all of it. While they do, somebody keeps asking the app: it never stops to
answer. Every case starts a deployment, kills the process at one point and starts it again without the fault."""

import asyncio
import http.client
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.storage.tables import apps, deployment_events, deployments, releases
from klepaas.workflows.deploy import TRANSITIONS
from tests.acceptance import truth
from tests.acceptance.app_repository import AppRepository
from tests.acceptance.klepaas_process import Ground, KlepaasProcess

pytestmark = [pytest.mark.slow, pytest.mark.docker]

RESUMED_WITHIN = timedelta(seconds=5)
ENDS_WITHIN_S = 60.0


def _passed(*stages: str) -> tuple[str, ...]:
    return tuple(f"{stage}.{moment}" for stage in stages for moment in ("started", "done", "recorded"))


SECOND_DEPLOYMENT = (
    "claimed",
    *_passed("fetch", "build", "release", "verify", "promote", "retire"),
    "port_leased",
    "port_leased#2",
    "port_leased#3",
    "container_created",
    "container_started",
    "upstream_written",
    "container_parked",
    "container_removed",
    "ended",
)
ROLLBACK = (
    "claimed",
    *_passed("release", "verify", "promote", "retire"),
    "port_leased",
    "port_leased#2",
    "port_leased#3",
    "container_thawed",
    "upstream_written",
    "container_parked",
    "ended",
)
TAKEN_BACK = ("abandon.started", "abandon.done", "abandon.recorded", "upstream_written#2", "container_removed")
"""What a switch that is taken back goes through after the way of a deployment."""
FIRST_DEPLOYMENT = ("claimed", "container_created", "port_leased#2", "upstream_written", "promote.recorded")
CANCELLED = ("abandon.started", "abandon.recorded")


@dataclass
class Visitor:
    """Asks an app for its version, ten times a second, each time over a new connection."""

    url: str
    failures: list[str] = field(default_factory=list)
    answers: int = 0
    _leaves: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def leave(self) -> None:
        self._leaves.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._leaves.wait(0.1):
            try:
                said = truth.version_at(self.url)
            except (OSError, http.client.HTTPException) as error:
                said = f"HTTP -, {error!r}"
            self.answers += 1
            if said.startswith("HTTP "):
                self.failures.append(f"{datetime.now(UTC):%H:%M:%S.%f} {said}")


class House:
    """One klepaas, its app `shop` with a live and a warm release, and a visitor of it."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.repository = AppRepository(ground.folder / "app")
        self.fault, self.record = ground.folder / "fault", ground.folder / "record"
        self.fault.write_text("")
        self.process: KlepaasProcess = ground.process(
            TESTING__CRASH_AT=f"@{self.fault}", TESTING__RECORD_TO=str(self.record), RECONCILER__INTERVAL="PT1S"
        )
        self.visitor: Visitor | None = None

    async def ready(self) -> None:
        """Running without a fault, with two releases of the app; made by whichever test comes first."""
        self.fault.write_text("")
        if not self.process.runs:
            await self.process.start()
        if self.visitor is None:
            async with self.process.client() as klepaas:
                await klepaas.register(str(self.repository.path), name="shop")
            for n in range(2):
                self.repository.commit()
                ended = await self.ended(await self.deploy(f"first-{n}"))
                assert ended["status"] == "succeeded", ended["failure"]
                self.visitor = self.visitor or Visitor(ended["urls"][0])
        self.visitor.failures.clear()

    async def deploy(self, key: str, project: str = "shop") -> dict[str, Any]:
        async with self.process.client() as klepaas:
            found: dict[str, Any] = (await klepaas.deploy(project, key=key))["deployment"]
            return found

    async def roll_back(self, key: str) -> dict[str, Any]:
        """To the warm release."""
        [warm] = self.ground.select(
            sa.select(releases.c.commit_sha).join(apps, apps.c.warm_release_id == releases.c.id)
        )
        async with self.process.client() as klepaas:
            found: dict[str, Any] = (await klepaas.roll_back("shop", key=key, commit=warm.commit_sha))["deployment"]
            return found

    async def ended(self, deployment: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(ENDS_WITHIN_S), self.process.client() as klepaas:
            async for _ in klepaas.follow(deployment["id"]):
                pass
            return await klepaas.deployment(deployment["id"])

    async def dies_and_comes_back(self) -> datetime:
        """Wait for the kill, start again without the fault. Returns when it answered again."""
        assert await self.process.ended(ENDS_WITHIN_S) == -9
        self.fault.write_text("")
        await self.process.start()
        return datetime.now(UTC)

    def claims(self, deployment_id: str) -> list[datetime]:
        """When the deployment was taken on, and taken up again."""
        e = deployment_events.c
        query = sa.select(e.at).where(e.deployment_id == deployment_id, e.kind == "deployment.claimed")
        return [row.at for row in self.ground.select(query)]


@pytest.fixture(scope="module")
def house(docker_host: str) -> Iterator[House]:
    ground = Ground(docker_host)
    made = House(ground)
    yield made
    if made.visitor is not None:
        made.visitor.leave()
    ground.clear()


async def _told_truly(house: House, started: dict[str, Any], back_at: datetime, status: str) -> None:
    """What was interrupted went on at once and ended as it should; the world is as the record says; nobody saw it."""
    ended = await house.ended(started)
    assert ended["status"] == status, ended["failure"]
    assert all(at - back_at < RESUMED_WITHIN for at in house.claims(started["id"]))
    [newest] = house.ground.select(sa.select(deployments).order_by(deployments.c.number.desc()).limit(1))
    assert newest.id == started["id"], "one request, one row"
    await truth.is_true(house.ground, house.repository.versions)
    if house.visitor is not None:
        assert house.visitor.failures == []


@pytest.mark.parametrize("point", SECOND_DEPLOYMENT)
async def test_a_deployment_killed_at_any_point_goes_on_and_ends_well(house: House, point: str) -> None:
    await house.ready()
    commit = house.repository.commit()
    house.fault.write_text(point)
    started = await house.deploy(f"deploy-{point}")
    back_at = await house.dies_and_comes_back()

    assert (await house.deploy(f"deploy-{point}"))["id"] == started["id"], "the same request is the same deployment"
    await _told_truly(house, started, back_at, "succeeded")
    [live] = house.ground.select(sa.select(releases).join(apps, apps.c.live_release_id == releases.c.id))
    assert live.commit_sha == commit


@pytest.mark.parametrize("point", ROLLBACK)
async def test_a_rollback_killed_at_any_point_goes_on_and_ends_well(house: House, point: str) -> None:
    await house.ready()
    house.fault.write_text(point)
    started = await house.roll_back(f"rollback-{point}")
    back_at = await house.dies_and_comes_back()

    await _told_truly(house, started, back_at, "succeeded")
    [live] = house.ground.select(sa.select(apps.c.live_release_id))
    assert live.live_release_id == started["release_id"]


@pytest.mark.parametrize("point", TAKEN_BACK)
async def test_a_switch_that_is_taken_back_and_killed_at_any_point_is_taken_back(house: House, point: str) -> None:
    await house.ready()
    [before] = house.ground.select(sa.select(apps.c.live_release_id))
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": 0.0001})
    house.repository.commit()
    house.fault.write_text(point)
    started = await house.deploy(f"taken-back-{point}")
    back_at = await house.dies_and_comes_back()
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": None})

    await _told_truly(house, started, back_at, "rolled_back_automatically")
    assert house.ground.select(sa.select(apps.c.live_release_id)) == [before]


@pytest.mark.parametrize("point", CANCELLED)
async def test_a_cancellation_survives_a_kill(house: House, point: str) -> None:
    """R-03."""
    await house.ready()
    house.repository.commit()
    house.fault.write_text(point)
    started = await house.deploy(f"cancel-{point}")
    async with house.process.client() as klepaas:
        while (await klepaas.deployment(started["id"]))["status"] == "queued":
            await asyncio.sleep(0.005)
        await klepaas.cancel(started["id"])
    back_at = await house.dies_and_comes_back()

    await _told_truly(house, started, back_at, "cancelled")


@pytest.mark.parametrize("point", FIRST_DEPLOYMENT)
async def test_a_first_deployment_killed_at_a_point_goes_on_and_ends_well(house: House, point: str) -> None:
    await house.ready()
    name = f"new-{FIRST_DEPLOYMENT.index(point)}"
    async with house.process.client() as klepaas:
        await klepaas.register(str(house.repository.path), name=name)
    house.fault.write_text(point)
    started = await house.deploy(f"first-{point}", project=name)
    back_at = await house.dies_and_comes_back()

    await _told_truly(house, started, back_at, "succeeded")
    async with house.process.client() as klepaas:
        await klepaas.retire(name)


async def test_every_transition_there_is_has_its_kill(house: House) -> None:
    """A new transition makes this fail until it is in a list above."""
    await house.ready()
    deployed = await _reached(house, lambda: house.deploy("recorded"))
    rolled_back = await _reached(house, lambda: house.roll_back("recorded-rollback"))
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": 0.0001})
    taken_back = await _reached(house, lambda: house.deploy("recorded-taken-back"))
    async with house.process.client() as klepaas:
        await klepaas.configure("shop", settings={"switch_p99_budget_ms": None})

    assert deployed == set(SECOND_DEPLOYMENT)
    assert rolled_back == set(ROLLBACK)
    assert taken_back - deployed == set(TAKEN_BACK) - deployed
    assert set(TRANSITIONS) - deployed - rolled_back - taken_back == {"settle.started"}, "that one has its own test"


async def _reached(house: House, start: Callable[[], Awaitable[dict[str, Any]]]) -> set[str]:
    """The points one deployment reaches, `port_leased#2` for the second time."""
    house.repository.commit()
    await truth.is_true(house.ground, house.repository.versions)
    house.record.write_text("")
    await house.ended(await start())
    await truth.soon(lambda: house.record.read_text().endswith(("ended\n", "abandon.recorded\n")))
    times: Counter[str] = Counter()
    points = set()
    for point in house.record.read_text().split():
        times[point] += 1
        points.add(point if times[point] == 1 else f"{point}#{times[point]}")
    return points
