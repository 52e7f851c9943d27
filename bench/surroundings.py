"""What a bench needs around it, and its disappearance afterwards: an engine, a folder, a mark on what it makes."""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import BenchFailed
from tests.servers import docker
from tests.servers.docker import SBIN, DockerDaemon

LABEL = "klepaas-bench.run"
FLOOR_PORTS = range(30000, 32768)
"""Above those klepaas takes, below those the kernel gives away by itself."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """`folder` is in /tmp, and short: Unix sockets below it may not have long names."""

    engine: str
    """`unix:///…`"""
    folder: Path
    run_id: str

    @property
    def label(self) -> str:
        """Marks containers and images that were made for the floor."""
        return f"{LABEL}={self.run_id}"


@contextmanager
def surroundings() -> Iterator[Surroundings]:
    """Errors: BenchFailed when there is no engine and none can be started."""
    folder = Path(tempfile.mkdtemp(prefix="kb-", dir="/tmp"))
    try:
        with _engine() as engine:
            around = Surroundings(engine=engine, folder=folder, run_id=secrets.token_hex(4))
            try:
                yield around
            finally:
                docker.remove_everything(engine, label=around.label)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _engine() -> Iterator[str]:
    """The machine's own when one answers, else one that lives as long as the bench."""
    if host := docker.usable_engine():
        yield host
        return
    if os.geteuid() != 0 or not shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{SBIN}"):
        raise BenchFailed("No Docker engine answers, and only root with dockerd installed can start one.")
    daemon = DockerDaemon(isolated=False)
    try:
        daemon.start()
        yield daemon.host
    finally:
        daemon.stop()


def tied() -> list[str]:
    """What to put before a command so that its process ends with ours, whatever way ours ends."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def free_port(among: range | None = None) -> int:
    """A loopback port nobody has now; without `among` one of the kernel's choice."""
    for candidate in (0,) if among is None else secrets.SystemRandom().sample(among, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BenchFailed("No port is free.")
