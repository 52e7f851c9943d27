"""One klepaas and one app that live through many kills, while somebody keeps asking the app."""

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from klepaas.errors import Unavailable
from klepaas.storage.tables import apps, deployment_events, deployments, releases
from tests.acceptance import truth
from tests.acceptance.app_repository import AppRepository
from tests.acceptance.crashing import Crashing
from tests.acceptance.klepaas_process import Ground

RESUMED_WITHIN = timedelta(seconds=5)


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


class House(Crashing):
    """One klepaas, its app `shop` with a live and a warm release, and a visitor of it."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground, RECONCILER__INTERVAL="PT1S")
        self.repository = AppRepository(ground.folder / "app")
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

    async def roll_back(self, key: str) -> dict[str, Any]:
        """To the warm release."""
        [warm] = self.ground.select(
            sa.select(releases.c.commit_sha).join(apps, apps.c.warm_release_id == releases.c.id)
        )
        async with self.process.client() as klepaas:
            found: dict[str, Any] = (await klepaas.roll_back("shop", key=key, commit=warm.commit_sha))["deployment"]
            return found

    async def roll_back_and_die(self, key: str) -> tuple[dict[str, Any], datetime]:
        """The deployment, and when klepaas answered again. It may die before it has answered: then it is asked once
        more, with the same key."""
        started = None
        with contextlib.suppress(Unavailable):
            started = await self.roll_back(key)
        back_at = await self.dies_and_comes_back()
        return started or await self.roll_back(key), back_at

    def claims(self, deployment_id: str) -> list[datetime]:
        """When the deployment was taken on, and taken up again."""
        e = deployment_events.c
        query = sa.select(e.at).where(e.deployment_id == deployment_id, e.kind == "deployment.claimed")
        return [row.at for row in self.ground.select(query)]


async def told_truly(house: House, started: dict[str, Any], back_at: datetime, status: str) -> None:
    """What was interrupted went on at once and ended as it should; the world is as the record says; nobody saw it."""
    ended = await house.ended(started)
    assert ended["status"] == status, ended["failure"]
    assert all(at - back_at < RESUMED_WITHIN for at in house.claims(started["id"]))
    [newest] = house.ground.select(sa.select(deployments).order_by(deployments.c.number.desc()).limit(1))
    assert newest.id == started["id"], "one request, one row"
    await truth.is_true(house.ground, house.repository.versions)
    if house.visitor is not None:
        assert house.visitor.failures == []


async def points_of(house: House, start: Callable[[], Awaitable[dict[str, Any]]]) -> set[str]:
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
