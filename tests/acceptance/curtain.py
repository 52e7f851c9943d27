"""A Docker engine behind a curtain: the same engine on another socket, which a test can close or hold silent."""

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self


class Curtain:
    """Forwards a unix socket to the real engine. Use it as `async with Curtain(docker_host, folder) as curtain`."""

    def __init__(self, docker_host: str, folder: Path) -> None:
        self._real = docker_host.removeprefix("unix://")
        self._path = folder / "docker.sock"
        self.host = f"unix://{self._path}"
        self.silent = False
        """New requests are taken and never answered."""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.lift()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object | TracebackType
    ) -> None:
        await self.fall()

    async def lift(self) -> None:
        """Have the engine answer."""
        self._server = await asyncio.start_unix_server(self._forward, str(self._path))

    async def fall(self) -> None:
        """The engine is gone: its socket is away and every connection is cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._path.unlink(missing_ok=True)
        await self._cut()

    async def hush(self) -> None:
        """The engine hangs: it takes connections, and never answers any more."""
        self.silent = True
        await self._cut()

    async def _cut(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if self.silent:
                await asyncio.Event().wait()
            there, back = await asyncio.open_unix_connection(self._real)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, back))
                    both.create_task(_pump(there, writer))
            finally:
                back.close()
        except (OSError, ExceptionGroup):
            pass
        except asyncio.CancelledError:
            pass  # cut on purpose; a server's task that ends cancelled is reported as a fault
        finally:
            self._open.discard(task)
            writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    with contextlib.suppress(OSError, RuntimeError):
        sink.write_eof()
