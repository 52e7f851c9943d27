"""A klepaas of the bench's own: `klepaas up` as a child process, asked over HTTP."""

import http.client
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.answers import body_at, port_of
from bench.report import BenchFailed
from bench.surroundings import Surroundings, free_port, tied
from tests.servers import docker

STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 20.0
LOOK_EVERY_S = 0.005
_TOKEN = re.compile(r"\bklp_[0-9a-f]{8,}_[A-Za-z0-9_-]{16,}")
_ENDED = {"succeeded", "failed", "cancelled", "superseded", "rolled_back"}


class Server:
    """`start` may be called again after `kill`; state and address stay."""

    def __init__(self, around: Surroundings, name: str, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are environment variables without `KLEPAAS_`."""
        self.home = around.folder / name
        self.port = free_port()
        self._log = around.folder / f"{name}.log"
        self._engine = around.engine
        self._settings = _settings(around, self.home) | {f"KLEPAAS_{k}": v for k, v in (settings or {}).items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.token = ""

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self, *, extra: Mapping[str, str] | None = None) -> float:
        """Have it answer /health; returns the seconds that took. Errors: BenchFailed with its last words."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KLEPAAS_")}
        argv = [*tied(), sys.executable, "-m", "klepaas", "up", "--host", "127.0.0.1", "--port", str(self.port)]
        with self._log.open("ab") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                argv,
                env={**inherited, **self._settings, **(extra or {}), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the bench, which then ends it in order
            )
        while body_at(self.port, "/health") is None:
            if self._process.poll() is not None or time.perf_counter() - began > STARTS_WITHIN_S:
                raise BenchFailed(f"klepaas did not start: {self._last_words()}")
            time.sleep(LOOK_EVERY_S)
        took_s = time.perf_counter() - began
        if not self.token and (found := _TOKEN.search(self._log.read_text())):
            self.token = found[0]
        return took_s

    def wait(self, *, within_s: float) -> None:
        """Until the process has ended by itself. Errors: BenchFailed."""
        assert self._process is not None, "not started"
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise BenchFailed(f"klepaas still runs after {within_s:g} s.") from None

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def remove_what_it_made(self) -> None:
        """From the engine, after `stop`."""
        database = self.home / "klepaas.db"
        if not database.exists():
            return
        with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.Error):
            for (instance,) in connection.execute("SELECT value FROM facts WHERE name = 'instance_id'").fetchall():
                docker.remove_everything(self._engine, label=f"klepaas.instance={instance}")

    # The API.

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Errors: BenchFailed when the answer is an error."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, f"/api/v1{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise BenchFailed(f"{method} {path} was answered with {answer.status}: {text.decode()[:500]}")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def register(self, name: str, repository: Path, settings: Mapping[str, Any]) -> None:
        self.ask("POST", "/projects", {"name": name, "repository": str(repository), "settings": dict(settings)})

    def deploy(self, project: str, **fields: Any) -> str:
        """The id of the new deployment."""
        return str(self.ask("POST", f"/projects/{project}/deployments", fields)["deployment"]["id"])

    def roll_back(self, project: str, commit: str) -> str:
        """The id of the new deployment."""
        return str(self.ask("POST", f"/projects/{project}/rollback", {"commit": commit})["deployment"]["id"])

    def deployment(self, deployment_id: str) -> dict[str, Any]:
        return self.ask("GET", f"/deployments/{deployment_id}")

    def ended(self, deployment_id: str, *, within_s: float = 120) -> dict[str, Any]:
        """Wait for its end. Errors: BenchFailed unless it succeeded."""
        deadline = time.monotonic() + within_s
        while (found := self.deployment(deployment_id))["status"] not in _ENDED:
            if time.monotonic() > deadline:
                raise BenchFailed(f"Deployment {deployment_id} is still {found['status']} ({found['stage']}).")
            time.sleep(0.05)
        if found["status"] != "succeeded":
            raise BenchFailed(f"Deployment {deployment_id} {found['status']}: {found['failure']}")
        return found

    def events(self, deployment_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/deployments/{deployment_id}/events?limit=1000")["events"]
        return found

    def door(self, project: str) -> int:
        """The loopback port the project is reachable at."""
        return port_of(self.ask("GET", f"/projects/{project}/status")["urls"][-1])

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-1500:]


@contextmanager
def server(around: Surroundings, name: str = "k", settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server that answers; nothing of it is left afterwards."""
    ours = Server(around, name, settings)
    try:
        ours.start()
        yield ours
    finally:
        ours.stop()
        ours.remove_what_it_made()


def _settings(around: Surroundings, home: Path) -> dict[str, str]:
    # Apart from other klepaas on this machine: a port that somebody else was quicker to take costs a start.
    first = random.SystemRandom().randrange(22000, 29000, 200)
    return {
        "KLEPAAS_HOME": str(home),
        "KLEPAAS_LOCAL_REPOSITORIES": "true",
        "KLEPAAS_DOCKER__HOST": around.engine,
        "KLEPAAS_DOCKER__PORT_RANGE": f"[{first}, {first + 199}]",
    }
