"""The demo, the whole way: an engine, a server, a repository, a deployment, an answer, and nothing left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_the_demo_goes_the_whole_way_once_and_leaves_nothing(tmp_path: Path, docker_host: str) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "klepaas", "demo", "--once"],
        env=kept | {"KLEPAAS_HOME": str(tmp_path), "KLEPAAS_DOCKER__HOST": docker_host},
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("demo: ok: version 1 answered 200 at http://127.0.0.1:")
    assert list(tmp_path.iterdir()) == []
    assert not [
        container["Names"]
        for container in docker.containers(docker_host, label="klepaas.managed=1")
        if any(mount.get("Source", "").startswith(str(tmp_path)) for mount in container["Mounts"])
    ]
