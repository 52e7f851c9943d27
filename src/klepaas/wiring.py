"""Settings in, parts out: the one module that knows which concrete part plays which role."""

import asyncio
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import sqlalchemy as sa
import structlog
from pydantic import SecretStr

from klepaas.builders.docker import BuildLimits, DockerBuilder
from klepaas.docker.discovery import find_engine
from klepaas.docker.engine import DockerEngine
from klepaas.docker.metadata_address import MetadataAddress
from klepaas.domain.connection import Credential
from klepaas.domain.finding import Finding
from klepaas.domain.github_app import GitHubApp
from klepaas.domain.project import Project
from klepaas.errors import EngineUnavailable, KlepaasError, Outside, Unavailable
from klepaas.github.client import GitHub
from klepaas.operations import tokens
from klepaas.operations.connections import opened
from klepaas.operations.context import Context
from klepaas.operations.current_app import CurrentApp
from klepaas.operations.feed import LiveFeed
from klepaas.operations.health import HealthReport
from klepaas.operations.intake import Intake, decide, refuse
from klepaas.operations.past import NoProvider, Past
from klepaas.operations.ports.queue import Lost
from klepaas.settings import EngineSettings, NcpSettings, ServerSettings, Settings, process_environment
from klepaas.sources.git import GitSource
from klepaas.sources.git_program import GitProgram
from klepaas.storage.apps import AppTable
from klepaas.storage.branches import BranchTable
from klepaas.storage.build_logs import BuildLogFiles
from klepaas.storage.chains import ChainTable
from klepaas.storage.connections import ConnectionTable
from klepaas.storage.database import Database
from klepaas.storage.deliveries import DeliveryTable
from klepaas.storage.deployments import DeploymentTable
from klepaas.storage.facts import FactTable
from klepaas.storage.github_app import GitHubAppTable
from klepaas.storage.home import Home
from klepaas.storage.imported import ImportedTable
from klepaas.storage.keys import open_sealer
from klepaas.storage.migrate import migrate
from klepaas.storage.owners import OwnerTable
from klepaas.storage.ports import PortLeaseTable
from klepaas.storage.projects import ProjectTable
from klepaas.storage.provider_runs import ProviderRunTable
from klepaas.storage.queue import DeploymentQueue
from klepaas.storage.record import RecordTable
from klepaas.storage.releases import ReleaseTable
from klepaas.storage.reports import ReportTable
from klepaas.storage.tokens import TokenTable
from klepaas.targets.local.adapter import LocalTarget
from klepaas.testing.faults import reached_from
from klepaas.watchers.branches import Branches
from klepaas.watchers.inbox import Inbox
from klepaas.watchers.reports import Reports
from klepaas.watchers.workloads import Workloads
from klepaas.wiring_around import Around
from klepaas.workflows import leftovers, watchdog
from klepaas.workflows.abandon import Abandon
from klepaas.workflows.deploy import Deploy
from klepaas.workflows.engine import Engine, Run
from klepaas.workflows.making import Making
from klepaas.workflows.running import Running
from klepaas.workflows.scene import Scene, scene_of
from klepaas.workflows.steps import Steps

if TYPE_CHECKING:
    from klepaas.wiring_ncp import NcpParts

log = structlog.get_logger()

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
"""Asked for when no engine answers at our start: it may come back there."""
GIT_SILENCE = timedelta(seconds=60)
"""A git server that sends nothing for this long is given up, and tried again."""
REST_AFTER_LOST_S = 1.0
LOOK_AT_PARTS_EVERY_S = 5.0
THREADS_WAIT_AT_MOST_S = 0.0005
"""For the interpreter, while the event loop has work: the thread that writes webhooks to PostgreSQL needs it a dozen
times for one transaction, and would wait Python's own 5 ms each time."""
ALONE_POLL = timedelta(seconds=10)
ALONE_BEAT = timedelta(seconds=10)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class CurrentEngine:
    """The Runner operations ring: the engine of now; after a lost lease that is another one."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    def wake(self) -> None:
        if self.engine is not None:
            self.engine.wake()

    def interrupt(self, deployment_id: str) -> None:
        if self.engine is not None:
            self.engine.interrupt(deployment_id)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything a running klepaas consists of."""

    settings: Settings
    database: Database
    queue: DeploymentQueue
    context: Context
    docker: DockerEngine
    target: LocalTarget
    runner: CurrentEngine
    deploy: Deploy
    work: Path
    intake: Intake


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Parts]:
    """Build the parts and take them apart again. Errors: Conflict (another klepaas uses this home), WrongKey,
    Unavailable (the database is away)."""
    async with AsyncExitStack() as stack:
        home = stack.enter_context(Home(settings.home))
        url = settings.database_url.get_secret_value() if settings.database_url else f"sqlite:///{home.database}"
        database = Database(url, lease_s=settings.engine.lease.total_seconds())
        stack.push_async_callback(database.close)
        if database.is_sqlite:
            home.claim()
        await migrate(database)
        yield await _parts(settings, home, database, stack)


async def _parts(settings: Settings, home: Home, database: Database, stack: AsyncExitStack) -> Parts:
    clock, reached = SystemClock(), reached_from(settings.testing)
    facts = FactTable(database)
    instance_id = await facts.instance_id()
    given = settings.encryption_key.get_secret_value() if settings.encryption_key else None
    sealer = await open_sealer(facts, key_file=home.key_file, given=given)
    engine = DockerEngine(_engine_host(settings))
    stack.push_async_callback(engine.close)
    target = LocalTarget(
        engine,
        PortLeaseTable(database, clock, port_range=settings.docker.port_range),
        instance_id=instance_id,
        home=settings.home,
        docker=settings.docker,
        proxy=settings.proxy,
        reached=reached,
        clock=clock.now,
    )
    stack.push_async_callback(target.close_connections)
    deployments = DeploymentTable(database, clock, node="api_" + secrets.token_hex(4))
    runner = CurrentEngine()
    connections = ConnectionTable(database, sealer)
    github_app = _github_app(settings, GitHubAppTable(database, sealer))
    github = GitHub(
        settings.github_api,
        app=github_app.now,
        open_credential=connections.open,
        outbound_hosts=settings.outbound_hosts,
    )
    stack.push_async_callback(github.close)
    projects, runs = ProjectTable(database, sealer), ProviderRunTable(database, clock)

    async def credential(project: Project) -> Credential | None:
        return await opened(context, project.connection_id, project.repository)

    ncp = _ncp(
        settings,
        stack,
        Around(
            projects=projects,
            book=ChainTable(database),
            runs=runs,
            credential=credential,
            git=GitProgram(
                allow_local=settings.local_repositories, network_timeout=GIT_SILENCE, environment=process_environment()
            ),
            mirrors=home.mirrors,
            now=clock.now,
            reached=reached,
        ),
    )
    context = Context(
        projects=projects,
        apps=AppTable(database),
        releases=ReleaseTable(database, sealer, clock),
        deployments=deployments,
        branches=BranchTable(database, clock),
        reports=ReportTable(database, clock),
        deliveries=DeliveryTable(database),
        connections=connections,
        owners=OwnerTable(database),
        tokens=TokenTable(database),
        runs=runs,
        past=Past(
            imported=ImportedTable(database),
            record=RecordTable(database),
            provider=ncp.provider if ncp else NoProvider(),
        ),
        logs=BuildLogFiles(home.build_logs, clock),
        feed=LiveFeed(deployments),
        runner=runner,
        clock=clock,
        source=GitSource(
            allow_local=settings.local_repositories,
            network_timeout=GIT_SILENCE,
            environment=process_environment(),
            scratch=home.work,
        ),
        builder=DockerBuilder(
            engine,
            instance=instance_id,
            limits=BuildLimits(
                memory_bytes=settings.docker.build_memory_bytes,
                min_free_bytes=settings.docker.min_free_bytes,
                max_image_bytes=settings.docker.max_image_bytes,
            ),
            work=home.work,
            metadata_address=MetadataAddress(engine) if settings.docker.metadata_address == "closed" else None,
        ),
        targets={target.name: target, **({"ncp": ncp.target} if ncp and ncp.target else {})},
        github=github,
        github_app=github_app,
        github_url=settings.github_url,
        github_api_url=settings.github_api,
        public_url=settings.public_url,
        main_branch=settings.github_branch_main,
        local_repositories=settings.local_repositories,
        pipelines={"ncp": ncp.chains} if ncp else {},
        builders={"ncp": ncp.builder} if ncp and ncp.builder else {},
        absent_targets=_absent(settings.ncp),
    )

    async def scene(run: Run) -> Scene:
        return await scene_of(context, run)

    deploy = Deploy(
        Steps(Making(context, home.work), Running(context, settings.docker.warm_for)),
        Abandon(context, home.work),
        scene,
        settings.deadlines,
        attempts=settings.engine.attempts,
        reached=reached,
        deadlines_of={"ncp": settings.ncp.deadlines(settings.deadlines)},
    )
    return Parts(
        settings=settings,
        database=database,
        queue=DeploymentQueue(database, clock),
        context=context,
        docker=engine,
        target=target,
        runner=runner,
        deploy=deploy,
        work=home.work,
        intake=Intake(context, decide, refuse=refuse, budget=settings.webhooks.answer_within),
    )


class Door(Protocol):
    """The HTTP door, handed in by whoever starts klepaas: doors know the wiring, not the other way round."""

    async def __call__(
        self,
        context: Context,
        settings: ServerSettings,
        *,
        health: Callable[[], Awaitable[HealthReport]],
        intake: Intake,
        say: Callable[[str], None],
        stopped: asyncio.Event,
    ) -> None:
        """Serve until `stopped`."""


async def serve(settings: Settings, *, say: Callable[[str], None], door: Door) -> int:
    """Serve until SIGINT or SIGTERM: the door, the engine and the watchers. `say` tells the person at the terminal
    what they must know. Returns the process's exit code."""
    sys.setswitchinterval(THREADS_WAIT_AT_MOST_S)
    async with assembled(settings) as parts:
        token = await tokens.first(parts.context)
        if token is not None:
            say(f"Operator token (shown only now, keep it): {token}")
        await leftovers.clear(parts.context, parts.work)
        stopped = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        board = HealthBoard(parts)
        work = [
            asyncio.create_task(
                door(
                    parts.context,
                    settings.server,
                    health=board.show,
                    intake=parts.intake,
                    say=say,
                    stopped=stopped,
                )
            ),
            asyncio.create_task(board.keep()),
            asyncio.create_task(_carry_deployments(parts)),
            asyncio.create_task(_watch(parts)),
            asyncio.create_task(_look_into_inbox(parts)),
            asyncio.create_task(_watch_branches(parts)),
            asyncio.create_task(_tell_github(parts)),
            asyncio.create_task(stopped.wait()),
        ]
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (fault := task.exception()) is not None:
                raise fault
    return 0


async def examine_providers(settings: Settings) -> list[Finding]:
    """What a doctor finds at the providers that are configured."""
    from klepaas.targets.ncp.examination import examine

    return await examine(settings.ncp)


async def take_down(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Remove every container and image of this klepaas from the engine, the proxy included. Its records stay."""
    async with assembled(settings) as parts:
        for found in await parts.target.everything():
            await parts.target.discard(found)
            say(f"Removed {found.app}.")
        for state in await parts.context.apps.all():
            await parts.context.builder.collect(state.app, keep=())  # images of this machine's engine
        await parts.target.remove_proxy()
        say("Removed the proxy.")


async def _carry_deployments(parts: Parts) -> None:
    """Run engines, one after another: a node that lost its lease starts anew under another id."""
    guarded = False
    while True:
        engine = Engine(
            parts.queue,
            parts.deploy.carry,
            parts.context.feed,
            _pace(parts),
            reached=reached_from(parts.settings.testing),
            alone=parts.database.is_sqlite,
        )
        parts.runner.engine = engine
        if not parts.database.is_sqlite and not guarded:
            watchdog.start(lambda: _renewed_at(parts.runner), parts.settings.engine.lease.total_seconds())
            guarded = True
        try:
            await engine.run()
        except Lost:
            log.warning("lease_lost", node=engine.node)
            await asyncio.sleep(REST_AFTER_LOST_S)
        finally:
            with suppress(KlepaasError):
                await asyncio.shield(engine.leave())


def _pace(parts: Parts) -> EngineSettings:
    """Alone on SQLite there is nobody to take over from and every submission rings: looking seldom is enough."""
    engine = parts.settings.engine
    if not parts.database.is_sqlite:
        return engine
    seldom = {"poll": ALONE_POLL, "beat": ALONE_BEAT}
    return engine.model_copy(update={k: v for k, v in seldom.items() if k not in engine.model_fields_set})


def _renewed_at(runner: CurrentEngine) -> float:
    return runner.engine.renewed_at if runner.engine is not None else float("inf")


async def _watch(parts: Parts) -> None:
    await Workloads(parts.context, parts.settings.reconciler.interval, lambda: _leads(parts)).run()


async def _look_into_inbox(parts: Parts) -> None:
    await Inbox(
        context=parts.context,
        intake=parts.intake,
        leads=lambda: _leads(parts),
        keep=parts.settings.webhooks.keep,
        alone=parts.database.is_sqlite,
    ).run()


async def _watch_branches(parts: Parts) -> None:
    await Branches(
        context=parts.context,
        intake=parts.intake,
        interval=parts.settings.branches.interval,
        leads=lambda: _leads(parts),
    ).run()


async def _tell_github(parts: Parts) -> None:
    await Reports(context=parts.context, leads=lambda: _leads(parts), alone=parts.database.is_sqlite).run()


async def _leads(parts: Parts) -> bool:
    """Whether this process is the one that watches."""
    engine = parts.runner.engine
    if engine is None:
        return False
    return parts.database.is_sqlite or await parts.queue.leads(engine.node)  # on SQLite there is no other


@dataclass
class HealthBoard:
    """What was last seen of the parts this process needs, so that asking costs nothing."""

    parts: Parts
    report: HealthReport = field(default_factory=lambda: HealthReport(database="ok"))

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            self.report = HealthReport(database=await self._database(), engine=await self._engine())
            await asyncio.sleep(LOOK_AT_PARTS_EVERY_S)

    async def show(self) -> HealthReport:
        return self.report

    async def _database(self) -> Literal["ok", "unavailable"]:
        try:
            async with asyncio.timeout(LOOK_AT_PARTS_EVERY_S), self.parts.database.read() as connection:
                await connection.execute(sa.select(1))
        except (Unavailable, TimeoutError):
            return "unavailable"
        return "ok"

    async def _engine(self) -> Literal["ok", "unavailable"]:
        try:
            async with asyncio.timeout(LOOK_AT_PARTS_EVERY_S):
                await self.parts.docker.connect()
        except (Outside, TimeoutError):
            return "unavailable"
        return "ok"


def _github_app(settings: Settings, stored: GitHubAppTable) -> CurrentApp:
    def opened(secret: SecretStr | None) -> str | None:
        return secret.get_secret_value() if secret is not None else None

    given, key = None, opened(settings.github_app_private_key)
    app_secret = opened(settings.github_app_webhook_secret)
    if settings.github_app_id is not None and key is not None:
        given = GitHubApp(app_id=settings.github_app_id, private_key=key, webhook_secret=app_secret)
    return CurrentApp(stored, given, app_secret=app_secret, legacy_secret=opened(settings.github_webhook_secret))


def _ncp(settings: Settings, stack: AsyncExitStack, around: Around) -> "NcpParts | None":
    """None without keys. Imported here: who does without Naver Cloud does not pay for it."""
    if settings.ncp.access_key is None or settings.ncp.secret_key is None:
        return None
    from klepaas.wiring_ncp import ncp_parts

    return ncp_parts(settings.ncp, around, stack)


def _absent(settings: NcpSettings) -> Mapping[str, str]:
    """Targets that are not set up, with what sets them up."""
    if settings.access_key is None or settings.secret_key is None:
        return {"ncp": "Set KLEPAAS_NCP_ACCESS_KEY and KLEPAAS_NCP_SECRET_KEY, then look with: klepaas doctor"}
    if settings.container_registry_url is None:
        return {"ncp": "Set KLEPAAS_NCP_CONTAINER_REGISTRY_URL to the host of the registry."}
    return {}


def _engine_host(settings: Settings) -> str:
    try:
        return find_engine(settings.docker.host, settings.docker_host_env, Path.home())
    except EngineUnavailable as missing:
        log.warning("engine_missing", reason=missing.message)
        return settings.docker.host or DEFAULT_SOCKET
