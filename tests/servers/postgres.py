"""One PostgreSQL server of our own, from Debian's package: never the machine's, never a fixed port."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psycopg

from tests.servers.short_lived import short_lived_folder

STARTS_WITHIN_S = 60
"""A start takes about 0.3 s; the rest is patience with a busy machine."""


class PostgresServer:
    """A server in a folder of its own, answering on 127.0.0.1 and on a unix socket.

    Unless it is `durable`, fsync is off: what we test survives the death of a process, not of the machine."""

    def __init__(self, *, durable: bool = False) -> None:
        self._sync = "on" if durable else "off"
        self.folder = short_lived_folder("klepaas-pg-")
        self.port = 0
        self.log = self.folder / "log"
        self._programs = _programs()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._child is not None, "not started"
        return self._child.pid

    def start(self) -> None:
        """Have the server answering: its first start makes its data, a later one uses the same port again."""
        if not (self.folder / "data").exists():
            self._make_data()
        if self.port:
            self._start_on(self.port)
            return
        for attempt in range(5):  # somebody may take the port between our look and the server's start
            try:
                self._start_on(_free_port())
                return
            except RuntimeError:
                if attempt == 4:
                    raise

    def stop(self) -> None:
        """End the server and remove its data."""
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart_immediately(self) -> None:
        """Break every connection without a goodbye, as a crash does, and recover on the same port."""
        self._end(signal.SIGQUIT)
        self.start()

    def create_database(self, *, template: str | None = None) -> str:
        """Make a database and return its URL, `postgresql+psycopg://…`: empty, or like the one at the URL `template`,
        which nobody may be using."""
        name = f"t{secrets.token_hex(6)}"
        like = f' TEMPLATE "{template.rpartition("/")[2]}"' if template else ""
        self._execute(f'CREATE DATABASE "{name}"{like}')
        return f"postgresql+psycopg://klepaas@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database, ending the connections that a test left open."""
        name = url.rpartition("/")[2]
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _make_data(self) -> None:
        if user := _unprivileged():
            shutil.chown(self.folder, user)
        made = subprocess.run(
            [
                *_as_user(),
                str(self._programs / "initdb"),
                *("--pgdata", str(self.folder / "data"), "--username", "klepaas"),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.strip()}")

    def _start_on(self, port: int) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": self.folder,
            "fsync": self._sync,
            "full_page_writes": self._sync,
            "max_connections": 300,
            "timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*_as_user(), str(self._programs / "postgres"), "-D", str(self.folder / "data"), *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            )
        self.port = port
        try:
            self._wait_until_it_answers()
        except RuntimeError:
            self._end(signal.SIGQUIT)
            self.port = 0
            raise

    def _wait_until_it_answers(self) -> None:
        assert self._child is not None
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise RuntimeError(f"postgres ended at once: {self._last_words()}")
            with contextlib.suppress(psycopg.OperationalError):
                self._execute("SELECT 1")
                return
            time.sleep(0.05)
        raise RuntimeError(f"postgres does not answer after {STARTS_WITHIN_S} s: {self._last_words()}")

    def _execute(self, statement: str) -> None:
        # Through the socket in our own folder: what answers there is our server and nobody else's.
        with psycopg.connect(
            host=str(self.folder), port=self.port, user="klepaas", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def _end(self, signum: signal.Signals) -> None:
        if self._child is None or self._child.poll() is not None:
            return
        self._child.send_signal(signum)
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.send_signal(signal.SIGQUIT)
            self._child.wait(20)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def _programs() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    if debian:
        return debian[-1].parent
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    raise RuntimeError("PostgreSQL is not installed: ./run test installs it, or apt-get install postgresql")


def _unprivileged() -> str:
    """The user to become, because PostgreSQL refuses root; empty when we are not root."""
    if os.geteuid() != 0:
        return ""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


def _as_user() -> list[str]:
    # SIGQUIT makes the postmaster end its children at once: nothing outlives a killed test run.
    dying_with_us = ["setpriv", "--pdeathsig", "QUIT"]
    if user := _unprivileged():
        entry = pwd.getpwnam(user)
        dying_with_us += ["--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups"]
    return [*dying_with_us, "--"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
