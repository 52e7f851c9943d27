"""A real `klepaas up`, as a user runs it: started, stopped, killed, and started again on the same home."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from klepaas.client import Client
from klepaas.storage.database import normalise
from klepaas.storage.tables import facts
from tests.acceptance.cradle import DIES_WITH_US, Cradle, Forked
from tests.servers import docker

UP_WITHIN_S = 60.0
"""A start takes about a second; the rest is patience with a busy machine."""
STOPS_WITHIN_S = 30.0

_TOKEN = re.compile(r"\bklp_\S+")
_URL = re.compile(r"klepaas serves at (http://\S+)")


def _ports_of_this_worker() -> str:
    """Of the product's range: each klepaas chooses at random, and those of two workers know nothing of each other."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    first = 20_000 + 1_250 * worker
    return json.dumps([first, first + 1_249])


class Ground:
    """Where klepaas lives: a home, a database, a Docker engine. Several processes may share one (PostgreSQL).

    The folder is directly below /tmp: the path of a proxy's socket must be short."""

    def __init__(self, docker_host: str, *, database_url: str | None = None, cradle: Cradle | None = None) -> None:
        """With a `cradle`, processes are forked there."""
        self.docker_host, self.database_url, self.cradle = docker_host, database_url, cradle
        self.folder = Path(tempfile.mkdtemp(prefix="klepaas-t-", dir="/tmp"))
        self.home = self.folder / "home"
        self.token = ""
        """The operator's; known once the first process has said it."""
        self.processes: list[KlepaasProcess] = []
        self._engine = sa.create_engine(
            sa.make_url(normalise(database_url)) if database_url else f"sqlite:///{self.home / 'klepaas.db'}",
            poolclass=sa.pool.NullPool,
        )

    def process(self, **settings: str) -> "KlepaasProcess":
        """One more process, not started yet. Settings by the names of their variables, without `KLEPAAS_`."""
        made = KlepaasProcess(self, settings)
        self.processes.append(made)
        return made

    def select(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        """Rows of klepaas's own database (`klepaas.storage.tables`), read past klepaas."""
        with self._engine.connect() as connection:
            return list(connection.execute(query))

    def execute(self, statement: sa.Update | sa.Insert | sa.Delete) -> None:
        """Change the database behind the back of klepaas."""
        with self._engine.begin() as connection:
            connection.execute(statement)

    @property
    def instance_id(self) -> str:
        """What this klepaas labels its containers and images with (`klepaas.instance`)."""
        found: str = self.select(sa.select(facts.c.value).where(facts.c.name == "instance_id"))[0].value
        return found

    def containers(self) -> list[dict[str, Any]]:
        """Every container of this klepaas, in any state, the proxy included, as the engine lists them."""
        return docker.containers(self.docker_host, label=f"klepaas.instance={self.instance_id}")

    def clear(self) -> None:
        """End every process and leave nothing behind. The caller removes a PostgreSQL database."""
        for process in self.processes:
            process.kill()
        with contextlib.suppress(sa.exc.SQLAlchemyError, IndexError):  # without a database nothing was started
            docker.remove_everything(self.docker_host, label=f"klepaas.instance={self.instance_id}")
        shutil.rmtree(self.folder, ignore_errors=True)


class KlepaasProcess:
    """`klepaas up` on a free port. `log` is everything it said in all its lives."""

    def __init__(self, ground: Ground, settings: Mapping[str, str]) -> None:
        self.ground, self.settings = ground, dict(settings)
        self.url = ""
        self.log = ground.folder / f"log-{len(ground.processes)}"
        self._child: subprocess.Popen[bytes] | Forked | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None, "not started"
        return self._child.pid

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    async def start(self, **more: str) -> None:
        """Have it answering. `more` are settings of this one life, e.g. TESTING__CRASH_AT="promote.recorded"."""
        assert not self.runs, "it runs already"
        said_before = self.log.stat().st_size if self.log.exists() else 0
        self._child = self._started(more)
        async with asyncio.timeout(UP_WITHIN_S):
            while not (found := _URL.search(self._said(said_before))):
                if not self.runs:
                    raise RuntimeError(
                        f"klepaas ended with {self._child.returncode}: {self._said(said_before)[-3000:]}"
                    )
                await asyncio.sleep(0.02)
        self.url = found[1]
        if token := _TOKEN.search(self._said(0)):
            self.ground.token = token[0]

    def _started(self, more: Mapping[str, str]) -> "subprocess.Popen[bytes] | Forked":
        argv, env, cwd = ["up", "--port", "0"], self._environment(more), self.ground.folder
        if self.ground.cradle is not None:
            return self.ground.cradle.start(argv, env=env, cwd=cwd, log=self.log)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*DIES_WITH_US, sys.executable, "-m", "klepaas", *argv],
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            )

    def client(self) -> Client:
        """Use it as `async with process.client() as klepaas`."""
        # Plain HTTP: reading the machine's certificates for every client would cost more than most requests.
        return Client(self.url, self.ground.token, transport=httpx.AsyncHTTPTransport(verify=False))

    def kill(self) -> None:
        """End it as a power cut would. Idempotent."""
        if self._child is not None and self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            self._child.wait()

    async def stop(self) -> int:
        """End it as Ctrl-C does. Returns its exit code."""
        if self.runs:
            self.send(signal.SIGTERM)
        return await self.ended()

    def send(self, signum: signal.Signals) -> None:
        """SIGSTOP and SIGCONT make it sleep and wake."""
        assert self._child is not None, "not started"
        self._child.send_signal(signum)

    async def ended(self, within_s: float = STOPS_WITHIN_S) -> int:
        """Wait until it has ended by itself. Returns its exit code, -9 after a kill."""
        assert self._child is not None, "not started"
        async with asyncio.timeout(within_s):
            while (code := self._child.poll()) is None:
                await asyncio.sleep(0.01)
        return code

    async def sleeps(self, within_s: float = STOPS_WITHIN_S) -> None:
        """Wait until it was stopped by SIGSTOP."""
        async with asyncio.timeout(within_s):
            while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                await asyncio.sleep(0.01)

    def _said(self, after: int) -> str:
        return self.log.read_bytes()[after:].decode(errors="replace")

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KLEPAAS_")}
        own = {
            "HOME": str(self.ground.home),
            "LOCAL_REPOSITORIES": "true",
            "DOCKER__HOST": self.ground.docker_host,
            "DOCKER__PORT_RANGE": _ports_of_this_worker(),
            **({"DATABASE_URL": self.ground.database_url} if self.ground.database_url else {}),
            **self.settings,
            **more,
        }
        return {**inherited, "COLUMNS": "200", **{f"KLEPAAS_{name}": value for name, value in own.items()}}
