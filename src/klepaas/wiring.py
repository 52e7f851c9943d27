"""Settings in, parts out: the one module that knows which concrete part plays which role."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

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
from klepaas.errors import EngineUnavailable
from klepaas.github.client import GitHub
from klepaas.operations.connections import opened
from klepaas.operations.context import Context
from klepaas.operations.current_app import CurrentApp
from klepaas.operations.feed import LiveFeed
from klepaas.operations.intake import Intake, decide, refuse
from klepaas.operations.past import NoProvider, Past
from klepaas.operations.ports.deployments import Submission
from klepaas.operations.ports.runner import Submit
from klepaas.settings import NcpSettings, Settings, process_environment
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
from klepaas.wiring_around import Around
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

    async def begin(self, submit: Submit) -> Submission:
        return await (self.engine.begin(submit) if self.engine is not None else submit(None))

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
async def assembled(settings: Settings, *, alone: bool = False) -> AsyncIterator[Parts]:
    """Build the parts and take them apart again. `alone`: no other klepaas may use this home meanwhile, whatever the
    database. Errors: Conflict (another klepaas uses this home), WrongKey, Unavailable (the database is away)."""
    async with AsyncExitStack() as stack:
        home = stack.enter_context(Home(settings.home))
        url = settings.database_url.get_secret_value() if settings.database_url else f"sqlite:///{home.database}"
        database = Database(url, lease_s=settings.engine.lease.total_seconds())
        stack.push_async_callback(database.close)
        if alone:
            home.claim(hint="Stop klepaas first: it would start again what is gone.")
        elif database.is_sqlite:
            home.claim()
        else:
            home.share()
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
        Abandon(context),
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


async def examine_providers(settings: Settings) -> list[Finding]:
    """What a doctor finds at the providers that are configured."""
    from klepaas.targets.ncp.examination import examine

    return await examine(settings.ncp)


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
