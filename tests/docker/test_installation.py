"""An engine of klepaas' own: started, adopted, ended, and its refusals in words for people."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from klepaas.docker.daemon import explain
from klepaas.docker.discovery import Trouble
from klepaas.docker.installation import SOCKET, ensure_engine
from klepaas.docker.machine import Machine
from klepaas.errors import EngineUnavailable
from tests.servers.docker import DockerDaemon, answers
from tests.servers.process import leaves

SERVER = Machine(root=True, user="root", families=("debian",), systemd=False, dockerd=True, apt=True)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("failed to start daemon: Devices cgroup isn't mounted", "control groups"),
        ("dockerd needs to be started with root privileges. To see how ...", "as root"),
        ("remount /, flags: 0x44000: invalid argument\nremount /, flags: invalid argument", "chroot"),
        ("Error initializing network controller: Iptables not found", "iptables is missing"),
        ("failed to find runc binary: no such file", "runc is missing"),
        ("failed to start daemon: pid file found, ensure docker is not running", "another dockerd"),
        ("iptables: Permission denied (you must be root).", "firewall"),
        ("write /var/lib/docker/x: no space left on device", "disk is full"),
    ],
)
def test_a_daemon_that_did_not_start_is_explained(said: str, meaning: str, tmp_path: Path) -> None:
    error = explain(f"level=info msg=starting\n{said}\n", tmp_path / "dockerd.log")

    assert meaning in error.message
    assert error.hint
    assert error.evidence["last_lines"][-1] in said


def test_an_unknown_reason_is_quoted_and_its_log_named(tmp_path: Path) -> None:
    error = explain("first\nsomething new went wrong\n", tmp_path / "dockerd.log")

    assert "something new went wrong" in error.message
    assert str(tmp_path / "dockerd.log") in error.hint


@pytest.mark.parametrize(
    ("host", "machine"),
    [
        ("unix:///nowhere/docker.sock", SERVER),
        ("tcp://10.0.0.7:2375", SERVER),
        (f"unix://{SOCKET}", replace(SERVER, root=False)),
        (f"unix://{SOCKET}", replace(SERVER, dockerd=False, apt=False)),
    ],
    ids=["chosen elsewhere", "remote", "not root", "no way to install"],
)
async def test_nothing_is_installed_or_started_where_we_may_not(
    host: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klepaas.docker.discovery.look", lambda path: Trouble.NO_SOCKET)
    said: list[str] = []
    with pytest.raises(EngineUnavailable):
        await ensure_engine(
            host, None, user_home=tmp_path, state=tmp_path, environment={}, say=said.append, machine=machine
        )

    assert said == []


@pytest.fixture
def namespace() -> Iterator[DockerDaemon]:
    """A folder and a network namespace in which a dockerd disturbs nobody; its own dockerd is not started."""
    room = DockerDaemon()
    room.make_namespace()
    yield room
    room.stop()


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="dockerd needs root")
def test_a_started_engine_outlives_us_and_is_ended_by_its_process_id(namespace: DockerDaemon, docker_host: str) -> None:
    """Started twice: the second start finds the socket answered and says that nothing was started."""
    pid = _call(namespace, "start_daemon(folder, socket, environment={}, options=options)")
    try:
        assert answers(namespace.host)
        assert os.getpgid(pid) == pid
        assert _call(namespace, "start_daemon(folder, socket, environment={}, options=options)") is None
        assert answers(namespace.host)
        assert _call(namespace, f"end_daemon({pid})") is None
        assert not answers(namespace.host)
        assert leaves(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _call(room: DockerDaemon, call: str) -> int:
    """Call a function of klepaas.docker.daemon in a short-lived process inside the room's namespace."""
    options = [
        *("--data-root", str(room.folder / "data"), "--exec-root", str(room.folder / "exec")),
        *("--containerd-namespace", room.containerd_namespace),
        *("--containerd-plugins-namespace", f"{room.containerd_namespace}-p"),
    ]
    program = (
        "import asyncio, json\n"
        "from pathlib import Path\n"
        "from klepaas.docker.daemon import end_daemon, start_daemon\n"
        f"folder, socket = Path({str(room.folder)!r}), Path({str(room.socket)!r})\n"
        f"options = {options!r}\n"
        f"print(json.dumps(asyncio.run({call})))\n"
    )
    done = subprocess.run(
        ["nsenter", f"--net=/var/run/netns/{room.netns}", "--", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pid: int = json.loads(done.stdout)
    return pid
