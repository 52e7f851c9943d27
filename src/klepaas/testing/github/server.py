"""A GitHub of one's own: REST, git and webhooks on a loopback port, for tests, trials and the demo."""

import asyncio
import concurrent.futures
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import uvicorn

from klepaas.testing.github.application import Application, Requested
from klepaas.testing.github.apps import EVENTS, App, Installation
from klepaas.testing.github.control import Control
from klepaas.testing.github.faults import Faults
from klepaas.testing.github.handle import StandInRepository
from klepaas.testing.github.hooks import Delivery
from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Links
from klepaas.testing.github.world import World

T = TypeVar("T")

PATIENCE_S = 60.0
"""No call from outside takes longer than this."""


class StandInGitHub:
    """Runs in a thread of this process from `start` to `stop`, or for a `with` block.

    Its calls may come from any thread but the server's own. A call returns when GitHub has done what was asked;
    webhooks are on their way then, and `wait_for_webhooks` waits for them (from a coroutine by `asyncio.to_thread`,
    when they go to a server on the coroutine's own loop)."""

    def __init__(self, *, port: int = 0, folder: Path | None = None, app_slug: str = "klepaas-trial") -> None:
        self._own_folder = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="stand-in-github-"))
        # With the protocol named, asyncio sends small answers at once; without, each waits 40 ms for the client's word.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_url = f"{self.url}/api/v3"
        """The API answers at `url` as well."""
        self.world = World(Links(self.url, self.api_url), self._folder)
        self.app: App = self.world.create_app(app_slug, webhook_secret="trial-webhook-secret", events=EVENTS)
        self._application = Application(self.world, Control(self).respond)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="stand-in-github")

    # Its life

    def start(self) -> "StandInGitHub":
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while self._server is None or not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the stand-in GitHub did not start")
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        """End it and remove its repositories (those in a `folder` that was given stay)."""
        if self._loop is not None and self._ending is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(PATIENCE_S)
        self._socket.close()
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def wait(self) -> None:
        """Until it ends by itself, which is never."""
        self._thread.join()

    def __enter__(self) -> "StandInGitHub":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What a test does

    def create_repository(
        self,
        full_name: str = "team/shop",
        *,
        private: bool = True,
        files: Mapping[str, str | bytes] | None = None,
        default_branch: str = "main",
    ) -> StandInRepository:
        """With `files` in a first commit; that one causes no webhook."""

        async def created() -> Repository:
            return self.world.create_repository(full_name, private=private, default_branch=default_branch)

        found = self.call(created)
        made = StandInRepository(self.world, found, self._do)
        if files:
            made.commit(dict(files), message="First commit", branch=default_branch, quiet=True)
        return made

    def repository(self, full_name: str) -> StandInRepository:
        """Errors: LookupError."""
        found = self.world.find(full_name)
        if found is None:
            raise LookupError(f"there is no repository {full_name}")
        return StandInRepository(self.world, found, self._do)

    def install(
        self, owner: str, *, repositories: Sequence[StandInRepository | str] | None = None, app: App | None = None
    ) -> int:
        """Install the App for an account, for some of its repositories or (None) all; the installation's id."""
        ids = None if repositories is None else self._ids(repositories, owner)

        async def installed() -> int:
            return self.world.install(app or self.app, owner, ids).id

        return self.call(installed)

    def suspend(self, installation_id: int) -> None:
        self.call(lambda: self._suspend(installation_id, True))

    def unsuspend(self, installation_id: int) -> None:
        self.call(lambda: self._suspend(installation_id, False))

    def uninstall(self, installation_id: int) -> None:
        """Its tokens end at once."""

        async def uninstalled() -> None:
            found = self.world.installations[installation_id]
            self.world.tell_installation(found, "deleted")
            del self.world.installations[installation_id]

        self.call(uninstalled)

    def choose(self, installation_id: int, repositories: Sequence[StandInRepository | str]) -> None:
        """Have the installation reach exactly these."""

        async def chosen() -> None:
            found = self.world.installations[installation_id]
            before = {repo.id: repo for repo in self.world.repositories_of(found)}
            found.repositories = set(self._ids(repositories, found.account.login))
            after = {repo.id: repo for repo in self.world.repositories_of(found)}
            for added, removed in (
                ([repo for repo in after.values() if repo.id not in before], []),
                ([], [repo for repo in before.values() if repo.id not in after]),
            ):
                if added or removed:
                    self.world.tell_selection(found, added, removed)

        self.call(chosen)

    def create_token(
        self,
        user: str = "dana",
        *,
        repositories: Sequence[StandInRepository | str] | None = None,
        permissions: Mapping[str, str] | None = None,
    ) -> str:
        """A personal access token for some repositories, or (None) all there are."""
        ids = None if repositories is None else self._ids(repositories, user)
        return self.world.create_token(user, ids, permissions)

    def create_installation_token(
        self, installation_id: int, *, repositories: Sequence[StandInRepository | str] | None = None
    ) -> str:
        """A token as the App would get it, without asking as the App."""
        found = self.world.installations[installation_id]
        ids = None if repositories is None else frozenset(self._ids(repositories, found.account.login))
        return self.world.create_installation_token(found, ids, dict(found.permissions)).value

    def send_webhooks_to(self, url: str) -> None:
        """The URL of the App's webhook; its pings come with `ping`. Empty: it sends none."""
        self.app.hook.url = url

    def ping(self) -> None:
        """Send the App's webhook a ping."""
        self.call(self._ping)

    def redeliver(self, delivery: Delivery) -> None:
        async def again() -> None:
            self.world.postman.redeliver(delivery)

        self.call(again)

    def wait_for_webhooks(self, timeout_s: float = 30.0) -> None:
        """Until every webhook on its way is answered, failed or lost. Errors: TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while self.world.postman.unsent:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.world.postman.unsent} webhooks are still on their way")
            time.sleep(0.005)

    # What a test looks at and sets

    @property
    def faults(self) -> Faults:
        return self.world.faults

    @property
    def deliveries(self) -> list[Delivery]:
        """Every attempt to send a webhook, oldest first."""
        return list(self.world.postman.sent)

    @property
    def lost_deliveries(self) -> list[Delivery]:
        return list(self.world.postman.lost)

    @property
    def requests(self) -> list[Requested]:
        """Every request that came, oldest first."""
        return list(self._application.requests)

    @property
    def token_lifetime(self) -> timedelta:
        """Of installation tokens made from now on."""
        return self.world.token_lifetime

    @token_lifetime.setter
    def token_lifetime(self, lifetime: timedelta) -> None:
        self.world.token_lifetime = lifetime

    @property
    def requests_per_hour(self) -> int:
        return self._application.api.limits.per_hour

    @requests_per_hour.setter
    def requests_per_hour(self, number: int) -> None:
        self._application.api.limits.per_hour = number

    def advance(self, by: timedelta) -> None:
        """Set GitHub's clock ahead: tokens expire, rate limits begin anew."""
        self.world.clock_ahead += by

    def forget_requests(self) -> None:
        self._application.requests.clear()

    def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Run something on the server's loop."""
        return self._do(make())

    # Inside

    def _do(self, work: Awaitable[T]) -> T:
        assert self._loop is not None, "the stand-in is not started"
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        return future.result(PATIENCE_S)

    def _serve(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        config = uvicorn.Config(
            self._application,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        tasks = [
            asyncio.create_task(self._server.serve(sockets=[self._socket])),
            asyncio.create_task(self.world.postman.work()),
        ]
        await self._ending.wait()
        # Not uvicorn's own end, which takes a fifth of a second and waits for requests that hang.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._server.servers:
            listening.close()
        for connection in list(self._server.server_state.connections):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()

    def _ids(self, repositories: Sequence[StandInRepository | str], owner: str) -> list[int]:
        names = [r.full_name if isinstance(r, StandInRepository) else r for r in repositories]
        return [self.repository(name if "/" in name else f"{owner}/{name}").id for name in names]

    async def _suspend(self, installation_id: int, suspended: bool) -> None:
        found: Installation = self.world.installations[installation_id]
        found.suspended_at = self.world.now() if suspended else None
        self.world.tell_installation(found, "suspend" if suspended else "unsuspend")

    async def _ping(self) -> None:
        self.world.ping(self.app.hook)


async def _awaited(work: Awaitable[T]) -> T:
    return await work
