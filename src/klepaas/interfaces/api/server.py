"""uvicorn around the app: its socket, its end, nothing of its own in the log."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI
from sse_starlette.sse import AppStatus

from klepaas.errors import Conflict, Invalid
from klepaas.interfaces.api.app import create_app
from klepaas.interfaces.api.gathered import GathersWrites
from klepaas.operations.context import Context
from klepaas.operations.health import HealthReport
from klepaas.operations.intake import Intake
from klepaas.settings import ServerSettings

OPEN_REQUESTS_END_WITHIN_S = 5
"""After that, whatever is still open when klepaas stops is cut off. Streams are ended at once: they can resume."""

IDLE_CONNECTIONS_STAY_S = 75
"""Longer than clients keep theirs (5 to 60 s): whoever closes first is not the one who may be sent a request."""

BACKLOG = 2048
"""1,000 subscribers may come at the same moment, when the previous process has just gone."""


async def serve(
    context: Context,
    settings: ServerSettings,
    *,
    health: Callable[[], Awaitable[HealthReport]],
    intake: Intake,
    say: Callable[[str], None],
    stopped: asyncio.Event,
) -> None:
    """The HTTP door over one context: `serving.Door`."""
    app = create_app(context, settings=settings, health=health, intake=intake)
    await serve_app(app, settings, say=say, stopped=stopped)


async def serve_app(
    app: FastAPI, settings: ServerSettings, *, say: Callable[[str], None], stopped: asyncio.Event
) -> None:
    """Serve until `stopped`. Errors: Conflict when the port is taken, Invalid when the host is none of ours."""
    with listening(settings) as listener:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=GathersWrites,
            timeout_graceful_shutdown=OPEN_REQUESTS_END_WITHIN_S,
            timeout_keep_alive=IDLE_CONNECTIONS_STAY_S,
        )
        server = _Server(config, announce=lambda: say(f"klepaas serves at {url_of(listener)}"))
        AppStatus.should_exit = False
        # Tasks of their own: also when we are cancelled, open requests get their time to end.
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            AppStatus.should_exit = True  # open streams end
            server.end()
            await serving
            AppStatus.should_exit = False  # it speaks of every stream of the process, also of who serves after us


@contextmanager
def listening(settings: ServerSettings) -> Iterator[socket.socket]:
    """A socket that accepts connections at the settings' host and port; port 0 takes a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _refusal(settings, error) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise _refusal(settings, error) from error
        listener.setblocking(False)
        yield listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to whoever runs it, and says when it serves."""

    def __init__(self, config: uvicorn.Config, *, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce
        self._ending = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()

    async def main_loop(self) -> None:
        """As uvicorn's own, which gets up ten times a second: once is enough for the header with the date."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ending.wait()


def _refusal(settings: ServerSettings, error: OSError) -> Conflict | Invalid:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"Port {settings.port} of {settings.host} is taken by another program.",
            hint="Does klepaas run already? Otherwise choose another port: KLEPAAS_SERVER__PORT=8701.",
        )
    return Invalid(
        f"klepaas cannot listen at {settings.host} port {settings.port}: {error.strerror or error}.",
        hint="Set KLEPAAS_SERVER__HOST to an address of this machine and KLEPAAS_SERVER__PORT to a free port.",
    )
