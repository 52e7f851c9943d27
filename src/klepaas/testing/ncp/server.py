"""A Naver Cloud of one's own: its developer tools, registry and cluster on loopback, for tests, trials and the demo."""

import asyncio
import concurrent.futures
import secrets
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, get_args

import uvicorn

from klepaas.testing.ncp import image_program, source_build, source_deploy, source_pipeline
from klepaas.testing.ncp.application import Application, Requested
from klepaas.testing.ncp.build import Build, BuildProject
from klepaas.testing.ncp.certificate import write_certificate
from klepaas.testing.ncp.cluster import Cluster
from klepaas.testing.ncp.control import Control
from klepaas.testing.ncp.deploy import Deploy, DeployProject
from klepaas.testing.ncp.engine_builds import EngineBuilds
from klepaas.testing.ncp.faults import Door, Faults
from klepaas.testing.ncp.handle import StandInRepository
from klepaas.testing.ncp.image_program import ImageProgram
from klepaas.testing.ncp.image_store import ImageStore
from klepaas.testing.ncp.images import Images, small_image
from klepaas.testing.ncp.nks import kubeconfig_text, routes
from klepaas.testing.ncp.pipeline import PipelineProject, PipelineRun
from klepaas.testing.ncp.signature import KeyPair
from klepaas.testing.ncp.world import World

T = TypeVar("T")

PATIENCE_S = 60.0
"""No call from outside takes longer than this."""

DOORS: tuple[Door, ...] = get_args(Door)

ACCOUNT = "3000001"


class StandInNcp:
    """Runs in a thread of this process from `start` to `stop`, or for a `with` block.

    Each service has a port of its own, as each has a host of its own in truth; the cluster's speaks TLS. Calls may
    come from any thread but the server's own."""

    def __init__(
        self,
        *,
        port: int = 0,
        folder: Path | None = None,
        docker_host: str | None = None,
        registry: Literal["auto", "program", "own"] = "auto",
        build_time_ms: int = 30,
        deploy_time_ms: int = 30,
    ) -> None:
        """`port` is the first of eight in a row (0: free ones). `docker_host` is the `unix:///…` of an engine that
        builds; without one a build is a time and a small image. `registry` `program` is Debian's docker-registry,
        `auto` takes it when an engine builds and it is installed.

        Errors: RuntimeError when `program` is not installed."""
        self._own_folder = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="stand-in-ncp-"))
        self._sockets = {door: _listen(port + place if port else 0) for place, door in enumerate(DOORS)}
        host = f"127.0.0.1:{self._port('registry')}"
        self._pair = KeyPair(secrets.token_hex(10).upper(), secrets.token_hex(20))
        self.world = World(
            folder=self._folder / "repositories",
            images=self._images(registry, builds=docker_host is not None),
            cluster=Cluster(str(uuid.uuid4()), "trial-nks", 801),
            registry_name="trial-registry",
            registry_host=host,
            git_url=self.url("git"),
            account=ACCOUNT,
            git_user="trial-deployer",
            git_password=secrets.token_urlsafe(12),
            pairs={self._pair.access_key: self._pair},
            build_time=timedelta(milliseconds=build_time_ms),
            deploy_time=timedelta(milliseconds=deploy_time_ms),
        )
        self._docker_host = docker_host
        self._certificate, self._key = self._prepared()
        nks = routes(self.url("kubernetes"), self._certificate.read_bytes())
        ports = {self._port(door): door for door in DOORS}
        self._application = Application(self.world, ports, nks, Control(self).respond)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="stand-in-ncp")

    # Its life

    def start(self) -> "StandInNcp":
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while not self._started.wait(0.02):
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the stand-in of Naver Cloud did not start")
        return self

    def stop(self) -> None:
        """End it and remove what it kept (a `folder` that was given stays)."""
        if self._loop is not None and self._ending is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(PATIENCE_S)
        for listening in self._sockets.values():
            listening.close()
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def wait(self) -> None:
        """Until it ends by itself, which is never."""
        self._thread.join()

    def __enter__(self) -> "StandInNcp":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Where it is

    def url(self, door: Door) -> str:
        return f"{'https' if door == 'kubernetes' else 'http'}://127.0.0.1:{self._port(door)}"

    @property
    def access_key(self) -> str:
        return self._pair.access_key

    @property
    def secret_key(self) -> str:
        return self._pair.secret_key

    @property
    def registry_host(self) -> str:
        """As in image references, without a scheme."""
        return self.world.registry_host

    @property
    def registry_name(self) -> str:
        """As SourceBuild calls it; in truth it is the first label of the host."""
        return self.world.registry_name

    @property
    def has_registry_program(self) -> bool:
        """Whether images are in a docker-registry; else the stand-in keeps them itself."""
        return isinstance(self.world.images, ImageProgram)

    @property
    def endpoints(self) -> dict[str, str]:
        """The environment variables that point a klepaas here."""
        world = self.world
        return {
            "KLEPAAS_NCP_ACCESS_KEY": self.access_key,
            "KLEPAAS_NCP_SECRET_KEY": self.secret_key,
            "KLEPAAS_NCP_REGION": world.cluster.region,
            "KLEPAAS_NCP_SOURCECOMMIT_ENDPOINT": self.url("sourcecommit"),
            "KLEPAAS_NCP_SOURCEBUILD_ENDPOINT": self.url("sourcebuild"),
            "KLEPAAS_NCP_SOURCEDEPLOY_ENDPOINT": self.url("sourcedeploy"),
            "KLEPAAS_NCP_SOURCEPIPELINE_ENDPOINT": self.url("sourcepipeline"),
            "KLEPAAS_NCP_NKS_ENDPOINT": self.url("nks"),
            "KLEPAAS_NCP_CONTAINER_REGISTRY_URL": self.registry_host,
            "KLEPAAS_NCP_CONTAINER_REGISTRY_NAME": self.registry_name,
            "KLEPAAS_NCP_SOURCECOMMIT_USERNAME": world.git_user,
            "KLEPAAS_NCP_SOURCECOMMIT_PASSWORD": world.git_password,
            "KLEPAAS_NCP_SOURCECOMMIT_PROJECT_ID": world.account,
            "KLEPAAS_NCP_NKS_CLUSTER_ID": world.cluster.uuid,
        }

    @property
    def kubeconfig(self) -> str:
        """YAML, as NKS gives it out: without a user."""
        return kubeconfig_text(self.url("kubernetes"), self._certificate.read_bytes())

    # What a test does

    def create_repository(
        self, name: str = "team-shop", files: Mapping[str, str | bytes] | None = None, *, branch: str = "main"
    ) -> StandInRepository:
        """In SourceCommit, with `files` in a first commit on `branch`."""

        async def created() -> None:
            self.world.create_repository(name)

        self.call(created)
        made = self.repositories[name]
        if files:
            made.commit(dict(files), message="First commit", branch=branch)
        return made

    def create_image(self, name: str, tag: str, text: str = "") -> str:
        """Have an image in the registry; its digest."""
        image = small_image({}, text or f"{name} {tag}\n")
        self.call(lambda: self.world.images.put(name, [tag], image))
        return image.digest

    def delete_image(self, name: str, tag: str) -> None:
        """Errors: LookupError."""
        self.call(lambda: self.world.images.delete(name, tag))

    def digest_of(self, name: str, tag: str) -> str | None:
        return self.call(lambda: self.world.images.digest(name, tag))

    def create_key(self, user: str = "another") -> KeyPair:
        """Another sub account's key pair."""
        made = KeyPair(secrets.token_hex(10).upper(), secrets.token_hex(20), user)
        self.world.pairs[made.access_key] = made
        return made

    def revoke_key(self, access_key: str) -> None:
        del self.world.pairs[access_key]

    def start_build(self, project: str) -> str:
        """As a person in the console does; the build's id."""

        async def started() -> str:
            return source_build.start_build(self.world, _named(self.build_projects, project)).id

        return self.call(started)

    def start_deploy(self, project: str, stage: str = "production", scenario: str = "deploy-app") -> int:
        """As a person in the console does; the history's id."""

        async def started() -> int:
            found = _named(self.deploy_projects, project)
            on = _named(list(found.stages.values()), stage)
            how = _named(list(on.scenarios.values()), scenario)
            return source_deploy.start_deploy(self.world, found, on, how).id

        return self.call(started)

    def start_pipeline(self, project: str) -> int:
        """As a person in the console does; the history's id."""

        async def started() -> int:
            return source_pipeline.start_pipeline(self.world, _named(self.pipeline_projects, project)).id

        return self.call(started)

    def advance(self, by: timedelta) -> None:
        """Set the time of builds, deployments, lags and tokens ahead. The gateway's clock stays."""

        async def moved() -> None:
            self.world.clock.advance(by)
            # What was waiting has its turn before this returns.
            for _ in range(20):
                await asyncio.sleep(0)

        self.call(moved)

    def wait_for_runs(self, timeout_s: float = 30.0) -> None:
        """Until every build, deployment and pipeline has ended. Errors: TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while number := self._open_runs():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{number} runs have not ended")
            time.sleep(0.005)

    def forget_requests(self) -> None:
        self._application.requests.clear()

    # What a test looks at and sets

    @property
    def faults(self) -> Faults:
        return self.world.faults

    @property
    def requests(self) -> list[Requested]:
        """Every request that came, oldest first."""
        return list(self._application.requests)

    @property
    def repositories(self) -> dict[str, StandInRepository]:
        pushed = self._application.pushed
        return {
            name: StandInRepository(self.world, found, self._do, pushed)
            for name, found in list(self.world.repositories.items())
        }

    @property
    def build_projects(self) -> list[BuildProject]:
        return list(self.world.build_projects.values())

    @property
    def deploy_projects(self) -> list[DeployProject]:
        return list(self.world.deploy_projects.values())

    @property
    def pipeline_projects(self) -> list[PipelineProject]:
        return list(self.world.pipeline_projects.values())

    @property
    def builds(self) -> list[Build]:
        """Every build ever started, oldest first; also of projects that are gone."""
        return list(self.world.builds.values())

    @property
    def deploys(self) -> list[Deploy]:
        """Every deployment ever started, oldest first."""
        return list(self.world.deploys.values())

    @property
    def pipelines(self) -> list[PipelineRun]:
        """Every run of a pipeline, oldest first."""
        return list(self.world.pipeline_runs.values())

    @property
    def cluster(self) -> Cluster:
        return self.world.cluster

    @property
    def images(self) -> dict[str, list[str]]:
        """Image name → its tags."""
        return self.call(self.world.images.tags)

    @property
    def build_time_ms(self) -> int:
        """Of builds without an engine, begun from now on."""
        return int(self.world.build_time.total_seconds() * 1000)

    @build_time_ms.setter
    def build_time_ms(self, time: int) -> None:
        self.world.build_time = timedelta(milliseconds=time)

    @property
    def deploy_time_ms(self) -> int:
        return int(self.world.deploy_time.total_seconds() * 1000)

    @deploy_time_ms.setter
    def deploy_time_ms(self, time: int) -> None:
        self.world.deploy_time = timedelta(milliseconds=time)

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something on the server's loop."""
        return self._do(make())

    # Inside

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "the stand-in is not started"
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(PATIENCE_S)

    def _open_runs(self) -> int:
        runs: list[Build | Deploy | PipelineRun] = [*self.builds, *self.deploys, *self.pipelines]
        return sum(not run.ended.is_set() for run in runs)

    def _port(self, door: Door) -> int:
        port: int = self._sockets[door].getsockname()[1]
        return port

    def _images(self, registry: Literal["auto", "program", "own"], *, builds: bool) -> Images:
        program = image_program.installed() if registry == "program" or (registry == "auto" and builds) else None
        if registry == "program" and program is None:
            raise RuntimeError("docker-registry is not installed")
        folder = self._folder / "registry"
        return ImageProgram(program, folder) if program else ImageStore(folder)

    def _prepared(self) -> tuple[Path, Path]:
        self.world.folder.mkdir(parents=True, exist_ok=True)
        return write_certificate(self._folder)

    def _serve(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        world = self.world
        await world.images.start()
        world.engine = EngineBuilds(self._docker_host) if self._docker_host else None
        try:
            await self._serve_until_the_end(self._ending)
        finally:
            await world.end()
            if world.engine is not None:
                await world.engine.stop()
            await world.images.stop()

    async def _serve_until_the_end(self, ending: asyncio.Event) -> None:
        plain = [listening for door, listening in self._sockets.items() if door != "kubernetes"]
        tls = {"ssl_certfile": str(self._certificate), "ssl_keyfile": str(self._key)}
        servers = [uvicorn.Server(_config(self._application)), uvicorn.Server(_config(self._application, **tls))]
        tasks = [
            asyncio.create_task(server.serve(sockets=sockets))
            for server, sockets in zip(servers, (plain, [self._sockets["kubernetes"]]), strict=True)
        ]
        while not all(server.started for server in servers):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.002)
        self._started.set()
        await ending.wait()
        # Not uvicorn's own end, which takes a fifth of a second and waits for requests that hang.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in servers:
            for listening in server.servers:
                listening.close()
            for connection in list(server.server_state.connections):
                if (transport := getattr(connection, "transport", None)) is not None:
                    transport.abort()


def _listen(port: int) -> socket.socket:
    # With the protocol named, asyncio sends small answers at once; without, each waits 40 ms for the client's word.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


def _config(application: Application, **tls: str) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ssl_certfile=tls.get("ssl_certfile"),
        ssl_keyfile=tls.get("ssl_keyfile"),
    )


def _named(things: list[T], name: str) -> T:
    """Errors: LookupError."""
    for thing in things:
        if getattr(thing, "name", "") == name:
            return thing
    raise LookupError(f"there is no {name}")
