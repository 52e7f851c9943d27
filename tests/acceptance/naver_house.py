"""One klepaas without a Docker engine, a stand-in of Naver Cloud, and one app that lives through many kills there."""

import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa

from klepaas.storage.tables import deployments, provider_runs
from klepaas.testing.ncp import StandInNcp
from tests.acceptance import truth
from tests.acceptance.cradle import Cradle
from tests.acceptance.crashing import Crashing
from tests.acceptance.klepaas_process import Ground
from tests.targets_ncp.origin import OriginRepository

APP, IMAGE = "local-shop", "local-shop"


class NaverHouse(Crashing):
    def __init__(self, cradle: Cradle) -> None:
        self.ncp = StandInNcp(build_time_ms=20, deploy_time_ms=20).start()
        super().__init__(
            Ground("unix:///nonexistent/docker.sock", cradle=cradle),
            **{name.removeprefix("KLEPAAS_"): value for name, value in self.ncp.endpoints.items()},
            NCP_LOOK_EVERY="PT0.05S",
            NCP_CALLS_PER_MINUTE="6000",
        )
        self.origin = OriginRepository(self.ground.folder / "shop")
        self._numbers = 0

    def clear(self) -> None:
        for process in self.ground.processes:
            process.kill()
        self.ncp.stop()
        shutil.rmtree(self.ground.folder, ignore_errors=True)

    async def ready(self) -> None:
        """Running without a fault, with two releases of the app; made by whichever test comes first."""
        self.fault.write_text("")
        if not self.process.runs:
            await self.process.start()
        if self._numbers:
            return
        self.commit()
        async with self.process.client() as klepaas:
            await klepaas.register(str(self.origin.path), name="shop", target="ncp")
        for n in range(2):
            self.commit()
            ended = await self.ended(await self.deploy(f"first-{n}"))
            assert ended["status"] == "succeeded", ended["failure"]

    def commit(self) -> str:
        self._numbers += 1
        return self.origin.commit({"Dockerfile": "FROM scratch\nCOPY . /\n", "app.py": f"print({self._numbers})\n"})

    async def roll_back(self, key: str) -> dict[str, Any]:
        async with self.process.client() as klepaas:
            found: dict[str, Any] = (await klepaas.roll_back("shop", key=key, steps_back=1))["deployment"]
            return found

    async def told_truly(self, start: Callable[[], Awaitable[dict[str, Any]]], *, builds: int) -> dict[str, Any]:
        """One request, killed and taken up again: one row, that many builds, one run of SourceDeploy, and the cluster
        runs what the record says."""
        before = len(self.ncp.builds), len(self.ncp.deploys), self._rows(deployments), self._rows(provider_runs)
        started = await start()
        await self.dies_and_comes_back()
        assert (await start())["id"] == started["id"], "the same request is the same deployment"
        ended = await self.ended(started)
        after = len(self.ncp.builds), len(self.ncp.deploys), self._rows(deployments), self._rows(provider_runs)

        assert ended["status"] == "succeeded", ended["failure"]
        assert [new - old for new, old in zip(after, before, strict=True)] == [builds, 1, 1, builds + 1]
        assert self.ncp.cluster.digests_of(APP) == {ended["image_digest"]}
        # Its checkout goes right after its end, for which nobody has to wait.
        await truth.soon(lambda: not list((self.ground.home / "work").glob("dep_*")))
        return ended

    def _rows(self, table: sa.Table) -> int:
        [row] = self.ground.select(sa.select(sa.func.count()).select_from(table))
        count: int = row[0]
        return count
