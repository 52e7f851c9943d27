"""Nothing of a bench stays behind, also when it is interrupted."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from tests.servers import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[2]
T = TypeVar("T")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_leaves_no_container_no_image_no_process_and_no_folder(
    docker_host: str, signum: signal.Signals
) -> None:
    environment = {**os.environ, "DOCKER_HOST": docker_host}
    argv = [sys.executable, "-m", "bench", "idle"]
    bench = subprocess.Popen(argv, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        server, home = _until(lambda: _server_of(bench.pid))
        instance = _until(lambda: _instance_of(home))
        _until(lambda: docker.containers(docker_host, label=f"klepaas.instance={instance}"))
        bench.send_signal(signum)
        _, said = bench.communicate(timeout=90)
    finally:
        bench.kill()
        bench.wait()

    assert (bench.returncode, "interrupted" in said) == (130, True), said
    assert not home.parent.exists()
    assert not Path(f"/proc/{server}").exists()
    assert docker.containers(docker_host, label=f"klepaas.instance={instance}") == []
    assert docker.images(docker_host, label=f"klepaas.instance={instance}") == []


def _until(look: Callable[[], T | None], within_s: float = 60) -> T:
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, "the bench did not get that far"
        time.sleep(0.05)
    return found


def _server_of(bench: int) -> tuple[int, Path] | None:
    """Process id and home of the klepaas that the bench has started."""
    for child in Path(f"/proc/{bench}/task/{bench}/children").read_text().split():
        variables = dict(
            entry.split("=", 1) for entry in Path(f"/proc/{child}/environ").read_text().split("\0") if "=" in entry
        )
        if home := variables.get("KLEPAAS_HOME"):
            return int(child), Path(home)
    return None


def _instance_of(home: Path) -> str | None:
    if not (home / "klepaas.db").exists():
        return None
    with closing(sqlite3.connect(home / "klepaas.db")) as database:
        try:
            row = database.execute("SELECT value FROM facts WHERE name = 'instance_id'").fetchone()
        except sqlite3.OperationalError:  # its tables are just being made
            return None
    return str(row[0]) if row else None
