"""A klepaas server as a child of this process, for the demo: started, watched, asked to end with us."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from klepaas import processes
from klepaas.client import Client
from klepaas.errors import KlepaasError, Unavailable

STARTS_WITHIN_S = 60.0
"""It answers within 2 s on a quiet machine; the first start of a slow disk makes the database."""
ENDS_WITHIN_S = 10.0
USUAL_PORT = 8700
_TOKEN = re.compile(r"\bklp_[0-9a-f]{8,}_[A-Za-z0-9_-]{16,}")


@dataclass
class Child:
    """`token` is the operator's, when this was the very first start of its home."""

    url: str
    process: processes.Child
    token: str = ""
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    async def healthy(self) -> None:
        """Wait until it answers. Errors: Unavailable when it ended or does not answer in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STARTS_WITHIN_S), Client(self.url, "") as client:
                while self.process.returncode is None:
                    with suppress(KlepaasError):
                        if "status" in await client.health():
                            return
                    await asyncio.sleep(0.05)
        raise self.fault("The server did not start.")

    def fault(self, message: str) -> Unavailable:
        return Unavailable(
            message,
            hint=f"Its last words: {self.last_words[-1]}" if self.last_words else "Start it by hand: klepaas up",
            evidence={"exit_code": self.process.returncode, "last_lines": list(self.last_words)},
        )


@asynccontextmanager
async def serving(
    home: Path, environment: Mapping[str, str], port: int, *, keep: Callable[[Child], None] = lambda child: None
) -> AsyncIterator[Child]:
    """Run `klepaas up` for this home until the block is left; its words go to `demo/klepaas.log` there.

    `keep` is called once the token is known, also when the server then does not start: it is shown only once."""
    argv = [sys.executable, "-m", "klepaas", "up", "--host", "127.0.0.1", "--port", str(port)]
    env = {
        **{name: value for name, value in environment.items() if name not in {"KLEPAAS_URL", "KLEPAAS_TOKEN"}},
        "KLEPAAS_HOME": str(home),
        "KLEPAAS_LOCAL_REPOSITORIES": "true",
        "PYTHONUNBUFFERED": "1",
    }
    async with processes.stream(argv, env=env) as (lines, process):
        child = Child(f"http://127.0.0.1:{port}", process)
        reader = asyncio.create_task(_listen(child, lines, home / "demo" / "klepaas.log", keep))
        try:
            await child.healthy()
            yield child
        finally:
            await _end(process)
            # To its last word: the token may be among those that nobody has read yet.
            with suppress(TimeoutError):
                await asyncio.wait_for(reader, ENDS_WITHIN_S)


async def _listen(child: Child, lines: AsyncIterator[str], log: Path, keep: Callable[[Child], None]) -> None:
    """Keep what the server says; its token is caught and goes into no file."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", buffering=1) as file:
        async for line in lines:
            if token := _TOKEN.search(line):
                child.token = token[0]
                keep(child)
                continue
            child.last_words.append(line)
            file.write(f"{line}\n")


async def _end(process: processes.Child) -> None:
    """Ask it to end and give it the time to hand its work over; leaving the stream ends it in any case."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError, TimeoutError):
        os.kill(process.pid, signal.SIGTERM)
        async with asyncio.timeout(ENDS_WITHIN_S):
            await process.wait()


def free_port() -> int:
    """The usual port if nobody has it, else any that nobody has now."""
    return _bound(USUAL_PORT) or any_port()


def any_port() -> int:
    return _bound(0)


def _bound(port: int) -> int:
    """The number of a port that can be bound; 0 when this one cannot."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])
