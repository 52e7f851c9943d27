"""The demo with GitHub, the whole way: a merge puts the app's next version live, GitHub says so, and so it does of
the way back."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def _demo(home: Path, docker_host: str, *arguments: str) -> subprocess.Popen[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "klepaas", "demo", "--github", *arguments],
        env=kept | {"KLEPAAS_HOME": str(home), "KLEPAAS_DOCKER__HOST": docker_host},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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


def _nothing_is_left(home: Path, docker_host: str) -> None:
    assert list(home.iterdir()) == []
    assert _processes_in(home) == []
    assert not [
        container["Names"]
        for container in docker.containers(docker_host, label="klepaas.managed=1")
        if any(mount.get("Source", "").startswith(str(home)) for mount in container["Mounts"])
    ]


def test_a_merge_goes_live_and_a_rollback_takes_it_back_and_github_says_so(tmp_path: Path, docker_host: str) -> None:
    with _demo(tmp_path, docker_host, "--once") as demo:
        out, err = demo.communicate(timeout=110)

    assert demo.returncode == 0, err
    last = out.splitlines()[-1]
    assert last.startswith("demo: ok: a merged pull request put version 1.1 live and a rollback brought version 1 back")
    before, after = err.split("Rolling back …")
    assert "The webhook arrived: merge by webhook." in before
    assert before.count("in_progress → success\n") == 1
    assert after.count("to production: success\n") == 1
    assert after.count("→ success → inactive\n") == 2
    assert "not running any more" in after
    _nothing_is_left(tmp_path, docker_host)


def test_interrupted_it_takes_everything_away(tmp_path: Path, docker_host: str) -> None:
    with _demo(tmp_path, docker_host) as demo:
        assert demo.stdout is not None
        url = demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=60)

    assert url.startswith("http://127.0.0.1:"), err
    assert demo.returncode in {0, 130}, err
    _nothing_is_left(tmp_path, docker_host)
