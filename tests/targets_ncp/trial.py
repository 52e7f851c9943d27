"""A whole klepaas in this process whose target is a stand-in of Naver Cloud, with a repository on this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.deployment import Deployment
from klepaas.domain.project import Project
from klepaas.domain.status import Status
from klepaas.operations import deployments, projects, rollbacks
from klepaas.operations.deployments import DeploymentRequest
from klepaas.operations.ports.owners import Owner
from klepaas.operations.projects import Registration
from klepaas.operations.rollbacks import RollbackRequest
from klepaas.settings import Deadlines, NcpSettings, Settings
from klepaas.targets.ncp.adapter import NcpTarget
from klepaas.targets.protocol import nothing_reached
from klepaas.testing.ncp import StandInNcp
from klepaas.wiring import Parts, assembled
from klepaas.workflows.engine import Engine
from tests.targets_ncp.origin import OriginRepository

PATIENCE_S = 50.0
DOCKERFILE = "FROM scratch\nEXPOSE 3000\nCOPY . /\n"


@dataclass
class Trial:
    ncp: StandInNcp
    parts: Parts
    origin: OriginRepository
    actor: Actor
    project: Project
    commits: list[str] = field(default_factory=list)

    @property
    def mirror(self) -> Any:
        return self.ncp.repositories[self.ncp.build_projects[0].settings.source.config.repository]

    @property
    def app(self) -> str:
        """Its name in the cluster."""
        return str(self.chain["names"]["app"])

    @property
    def image(self) -> str:
        return str(self.chain["names"]["image"])

    @property
    def chain(self) -> Any:
        return self.project.chain

    def commit(self, text: str = "", **files: str) -> str:
        text = text or f"print({len(self.commits)})\n"
        self.commits.append(self.origin.commit({"Dockerfile": DOCKERFILE, "app.py": text, **files}))
        return self.commits[-1]

    async def configure(self, **settings: Any) -> None:
        change = projects.ProjectChange(settings=settings)
        self.project = await projects.configure(self.parts.context, self.actor, self.project.id, change)

    async def deploy(self, commit: str | None = None, **more: Any) -> Deployment:
        request = DeploymentRequest(project=self.project.id, commit=commit, **more)
        return (await deployments.start(self.parts.context, self.actor, request)).submission.deployment

    async def roll_back(self, **more: Any) -> Deployment:
        request = RollbackRequest(project=self.project.id, **more)
        return (await rollbacks.roll_back(self.parts.context, self.actor, request)).submission.deployment

    async def ended(self, deployment: Deployment) -> Deployment:
        return await self.reaching(deployment, *(status for status in Status if status.is_terminal))

    async def reaching(self, deployment: Deployment, *wanted: Status) -> Deployment:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                now = await self.parts.context.deployments.get(deployment.id)
                assert now is not None
                if now.status in wanted:
                    found = await self.parts.context.projects.get(self.project.id)
                    self.project = found or self.project
                    return now
                await asyncio.sleep(0.02)

    async def log(self, deployment: Deployment) -> str:
        return "\n".join(line.text for line in await self.parts.context.logs.tail(deployment.id, 200))

    @asynccontextmanager
    async def node(self) -> AsyncIterator[Engine]:
        """An engine at work; leaving the block stops it the hard way: nothing is handed over."""
        engine = Engine(
            self.parts.queue,
            self.parts.deploy.carry,
            self.parts.context.feed,
            self.parts.settings.engine,
            reached=nothing_reached,
            alone=True,
        )
        self.parts.runner.engine = engine
        task = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def quick(ncp: StandInNcp, **changes: Any) -> NcpSettings:
    given = {name.removeprefix("KLEPAAS_NCP_").lower(): value for name, value in ncp.endpoints.items()}
    quickly = {
        "look_every": timedelta(milliseconds=30),
        "watch_every": timedelta(0),
        "runs_appear_within": timedelta(seconds=1),
        "images_appear_within": timedelta(seconds=1),
        "calls_per_minute": 6000,
    }
    return NcpSettings.model_validate({**given, **quickly, **changes})


@asynccontextmanager
async def trial(
    folder: Path, ncp: StandInNcp, *, deadlines: Deadlines | None = None, **ncp_changes: Any
) -> AsyncIterator[Trial]:
    origin = OriginRepository(folder / "shop")
    settings = Settings(
        home=folder / "home",
        local_repositories=True,
        ncp=quick(ncp, **ncp_changes),
        deadlines=deadlines or Deadlines(),
    )
    async with assembled(settings) as parts:
        target = parts.context.targets["ncp"]
        assert isinstance(target, NcpTarget)
        target._cloud.client.looks_s = (0.05, 0.1, 0.2, 0.5, 1.0)  # what appears late does so within a second here
        owner = Owner(id="own_1", name="operator", created_at=parts.context.clock.now())
        await parts.context.owners.add(owner)
        actor = Actor(owner_id=owner.id, scope=Scope.OPERATOR, label="token test")
        wanted = Registration(repository=str(origin.path), name="shop", target="ncp")
        project = await projects.register(parts.context, actor, wanted)
        yield Trial(ncp, parts, origin, actor, project)
