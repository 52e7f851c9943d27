"""A whole klepaas in one process, without a network: real storage and engine, a target, source and builder in
memory. `node` starts another engine on the same database, as a second process would."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.deployment import Deployment
from klepaas.domain.github_app import GitHubApp
from klepaas.domain.project import Project
from klepaas.domain.status import Status
from klepaas.errors import Unavailable
from klepaas.github.client import GitHub
from klepaas.operations import deployments, projects, rollbacks
from klepaas.operations.context import Context
from klepaas.operations.current_app import CurrentApp
from klepaas.operations.deployments import DeploymentRequest
from klepaas.operations.feed import LiveFeed
from klepaas.operations.past import NoProvider, Past
from klepaas.operations.ports.owners import Owner
from klepaas.operations.projects import Registration
from klepaas.operations.rollbacks import RollbackRequest
from klepaas.settings import Deadlines, EngineSettings
from klepaas.storage.apps import AppTable
from klepaas.storage.branches import BranchTable
from klepaas.storage.build_logs import BuildLogFiles
from klepaas.storage.connections import ConnectionTable
from klepaas.storage.database import Database
from klepaas.storage.deliveries import DeliveryTable
from klepaas.storage.deployments import DeploymentTable
from klepaas.storage.github_app import GitHubAppTable
from klepaas.storage.imported import ImportedTable
from klepaas.storage.migrate import migrate
from klepaas.storage.owners import OwnerTable
from klepaas.storage.projects import ProjectTable
from klepaas.storage.provider_runs import ProviderRunTable
from klepaas.storage.queue import DeploymentQueue
from klepaas.storage.record import RecordTable
from klepaas.storage.releases import ReleaseTable
from klepaas.storage.reports import ReportTable
from klepaas.storage.sealing import Sealer, new_key, parse_keys
from klepaas.storage.tokens import TokenTable
from klepaas.testing.fake_build import FakeBuilder, FakeSource
from klepaas.testing.fake_target import FakeTarget
from klepaas.wiring import CurrentEngine, SystemClock
from klepaas.workflows.abandon import Abandon
from klepaas.workflows.deploy import Deploy
from klepaas.workflows.engine import Engine
from klepaas.workflows.making import Making
from klepaas.workflows.running import Running
from klepaas.workflows.scene import scene_of
from klepaas.workflows.steps import Steps
from tests.databases import have_sqlite

QUICK = EngineSettings(beat=timedelta(milliseconds=200), poll=timedelta(milliseconds=100))
PATIENCE_S = 20.0
LOOKS_EVERY_S = 0.03
NO_GITHUB = "http://127.0.0.1:1"
"""Where nobody listens."""


@dataclass
class World:
    database: Database
    context: Context
    target: FakeTarget
    builder: FakeBuilder
    source: FakeSource
    work: Path
    runner: CurrentEngine
    actor: Actor
    deadlines: Deadlines = field(default_factory=Deadlines)
    settings: EngineSettings = QUICK
    reached_points: list[str] = field(default_factory=list)
    mishaps: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens, once, when a point is reached; what it raises is a fault of the engine."""

    async def project(self, name: str = "shop", **settings: Any) -> Project:
        wanted = Registration(repository="acme/shop", name=name, target="fake", settings=settings)
        return await projects.register(self.context, self.actor, wanted)

    async def deploy(self, project: Project, commit: str | None = None, **more: Any) -> Deployment:
        request = DeploymentRequest(project=project.id, commit=commit, **more)
        return (await deployments.start(self.context, self.actor, request)).submission.deployment

    async def roll_back(self, project: Project, **more: Any) -> Deployment:
        request = RollbackRequest(project=project.id, **more)
        return (await rollbacks.roll_back(self.context, self.actor, request)).submission.deployment

    async def ended(self, deployment: Deployment) -> Deployment:
        """The deployment once it has ended; fails the test when that takes too long."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                now = await self.context.deployments.get(deployment.id)
                assert now is not None
                if now.status.is_terminal:
                    return now
                await asyncio.sleep(LOOKS_EVERY_S)

    async def reaching(self, deployment: Deployment, status: Status) -> Deployment:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                now = await self.context.deployments.get(deployment.id)
                assert now is not None
                if now.status is status:
                    return now
                await asyncio.sleep(LOOKS_EVERY_S)

    async def kinds(self, deployment: Deployment) -> list[str]:
        return [each.event.kind for each in await self.context.deployments.events(deployment.id)]

    def engine(self, **changes: Any) -> Engine:
        context = self.context

        async def reached(point: str) -> None:
            self.reached_points.append(point)
            if mishap := self.mishaps.pop(point, None):
                mishap()

        deploy = Deploy(
            Steps(Making(context, self.work), Running(context, timedelta(minutes=10))),
            Abandon(context),
            lambda run: scene_of(context, run),
            self.deadlines,
            attempts=self.settings.attempts,
            reached=reached,
        )
        settings = self.settings.model_copy(update=changes)
        queue = DeploymentQueue(self.database, context.clock)
        return Engine(queue, deploy.carry, context.feed, settings, reached=reached, alone=self.database.is_sqlite)

    @asynccontextmanager
    async def node(self, **changes: Any) -> AsyncIterator[Engine]:
        """An engine at work; leaving the block stops it the hard way: nothing is handed over. Its lease has run out
        then, so that no test waits for that, and may be as long as it is in the product: a machine that stands still
        for two seconds takes no lease away."""
        engine = self.engine(**changes)
        self.runner.engine = engine
        task = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
            with suppress(Unavailable):
                await DeploymentQueue(self.database, self.context.clock).renew(engine.node, 0.0)


@asynccontextmanager
async def world(
    url: str,
    folder: Path,
    *,
    github_url: str = "https://github.com",
    github_api_url: str = NO_GITHUB,
    github_app: GitHubApp | None = None,
) -> AsyncIterator[World]:
    """`github_url`, `github_api_url` and `github_app` are those of a stand-in; without, no GitHub answers."""
    if url.startswith("sqlite"):
        await have_sqlite(Path(url.partition(":///")[2]))
    database = Database(url)
    await migrate(database)
    clock, sealer = SystemClock(), Sealer(parse_keys(new_key()))
    table = DeploymentTable(database, clock, node="test")
    target, builder, source, runner = FakeTarget(), FakeBuilder(), FakeSource(), CurrentEngine()
    connections = ConnectionTable(database, sealer)
    current_app = CurrentApp(
        GitHubAppTable(database, sealer), github_app, app_secret=github_app.webhook_secret if github_app else None
    )
    github = GitHub(github_api_url, app=current_app.now, open_credential=connections.open)
    context = Context(
        projects=ProjectTable(database, sealer),
        apps=AppTable(database),
        releases=ReleaseTable(database, sealer, clock),
        deployments=table,
        branches=BranchTable(database, clock),
        reports=ReportTable(database, clock),
        deliveries=DeliveryTable(database),
        connections=connections,
        owners=OwnerTable(database),
        tokens=TokenTable(database),
        runs=ProviderRunTable(database, clock),
        past=Past(imported=ImportedTable(database), record=RecordTable(database), provider=NoProvider()),
        logs=BuildLogFiles(folder / "logs", clock),
        feed=LiveFeed(table),
        runner=runner,
        clock=clock,
        source=source,
        builder=builder,
        targets={"fake": target},
        github=github,
        github_app=current_app,
        github_url=github_url,
        github_api_url=github_api_url,
        local_repositories=False,
    )
    owner = Owner(id="own_1", name="operator", created_at=clock.now())
    await context.owners.add(owner)
    actor = Actor(owner_id=owner.id, scope=Scope.OPERATOR, label="token test")
    try:
        yield World(database, context, target, builder, source, folder / "work", runner, actor)
    finally:
        await github.close()
        await database.close()
