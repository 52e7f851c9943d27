"""A demo as a user starts it, in a home of its own, and whether it left anything."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers import docker


def demo(home: Path, docker_host: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Leave its block to wait for it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "klepaas", "demo", *arguments],
        env=kept | {"KLEPAAS_HOME": str(home), "KLEPAAS_DOCKER__HOST": docker_host} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def nothing_is_left(home: Path, docker_host: str) -> None:
    assert list(home.iterdir()) == []
    assert _processes_in(home) == []
    assert not [
        container["Names"]
        for container in docker.containers(docker_host, label="klepaas.managed=1")
        if any(mount.get("Source", "").startswith(str(home)) for mount in container["Mounts"])
    ]


def _processes_in(folder: Path) -> Sequence[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found
