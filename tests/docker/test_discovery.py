"""Which engine is taken, and the one thing a person is told when there is none."""

import hashlib
import http.server
import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from klepaas.docker import discovery
from klepaas.docker.discovery import Trouble, find_engine
from klepaas.docker.machine import Machine
from klepaas.errors import EngineUnavailable

LAPTOP = Machine(root=False, user="ada", families=("ubuntu", "debian"), systemd=True, dockerd=False, apt=True)


class EnginePing(http.server.BaseHTTPRequestHandler):
    headers_of_it: ClassVar = {"Api-Version": "1.45"}

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in self.headers_of_it.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def address_string(self) -> str:
        return "-"

    def log_request(self, code: object = "-", size: object = "-") -> None:
        return


class WebServerPing(EnginePing):
    headers_of_it: ClassVar = {}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    """The socket of something that answers /_ping as an engine does."""
    yield from _serve(tmp_path / "engine.sock", EnginePing)


def _serve(path: Path, handler: type[EnginePing]) -> Iterator[Path]:
    with socketserver.ThreadingUnixStreamServer(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def _trouble(home: Path, *sockets: Path, machine: Machine = LAPTOP, explicit: str | None = None) -> EngineUnavailable:
    with pytest.raises(EngineUnavailable) as refused:
        find_engine(explicit, None, home, machine=machine, sockets=sockets)
    return refused.value


def _choose_context(home: Path, name: str, host: str) -> None:
    meta = home / ".docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (home / ".docker/config.json").write_text(json.dumps({"currentContext": name}))
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))


def test_the_setting_comes_before_docker_host_and_the_context(tmp_path: Path, engine: Path) -> None:
    _choose_context(tmp_path, "desktop", "unix:///nowhere/context.sock")

    assert find_engine(f"unix://{engine}", "unix:///nowhere/env.sock", tmp_path) == f"unix://{engine}"


def test_docker_host_comes_before_the_context(tmp_path: Path, engine: Path) -> None:
    _choose_context(tmp_path, "desktop", "unix:///nowhere/context.sock")

    assert find_engine(None, f"unix://{engine}", tmp_path) == f"unix://{engine}"


def test_the_docker_context_comes_before_the_usual_sockets(tmp_path: Path, engine: Path) -> None:
    _choose_context(tmp_path, "desktop", f"unix://{engine}")

    assert find_engine(None, None, tmp_path, sockets=[tmp_path / "usual.sock"]) == f"unix://{engine}"


@pytest.mark.parametrize("config", ["", "[]", "{", '{"currentContext": 3}', '{"currentContext": "lost"}'])
def test_a_broken_docker_configuration_chooses_nothing(tmp_path: Path, engine: Path, config: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(config)

    assert find_engine(None, None, tmp_path, sockets=[engine]) == f"unix://{engine}"


def test_the_first_usual_socket_that_answers_is_taken(tmp_path: Path, engine: Path) -> None:
    assert find_engine(None, None, tmp_path, sockets=[tmp_path / "missing.sock", engine]) == f"unix://{engine}"


def test_the_usual_sockets_include_those_of_docker_desktop_colima_and_podman(tmp_path: Path) -> None:
    usual = discovery.usual_sockets(tmp_path)

    assert usual[0] == Path("/var/run/docker.sock")
    assert {tmp_path / ".docker/run/docker.sock", tmp_path / ".colima/default/docker.sock"} < set(usual)
    assert Path("/run/podman/podman.sock") in usual


def test_a_chosen_engine_that_is_gone_is_not_replaced_by_another(tmp_path: Path, engine: Path) -> None:
    refused = _trouble(tmp_path, engine, explicit=f"unix://{tmp_path}/gone.sock")

    assert refused.evidence["trouble"] is Trouble.NO_SOCKET
    assert "KLEPAAS_DOCKER__HOST" in refused.message


@pytest.mark.parametrize(
    "host", ["tcp://10.0.0.7:2376", "ssh://ops@example.org", "npipe:////./pipe/docker", "nonsense"]
)
def test_an_engine_on_another_machine_is_refused_by_name(tmp_path: Path, host: str) -> None:
    refused = _trouble(tmp_path, explicit=host)

    assert refused.evidence["trouble"] is Trouble.UNSUPPORTED
    assert host in refused.message


def test_a_remote_context_is_named(tmp_path: Path) -> None:
    _choose_context(tmp_path, "production", "ssh://ops@example.org")
    with pytest.raises(EngineUnavailable, match="docker context 'production' points at 'ssh://"):
        find_engine(None, None, tmp_path)


def test_a_stale_socket_means_the_engine_has_stopped(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(stale))
    refused = _trouble(tmp_path, stale, machine=replace(LAPTOP, dockerd=True))

    assert refused.evidence["trouble"] is Trouble.REFUSED
    assert str(stale) in refused.message
    assert "sudo systemctl enable --now docker" in refused.hint


def test_an_engine_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "PING_S", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        refused = _trouble(tmp_path, tmp_path / "silent.sock")

    assert refused.evidence["trouble"] is Trouble.SILENT


def test_another_servers_socket_is_not_an_engine(tmp_path: Path) -> None:
    for path in _serve(tmp_path / "web.sock", WebServerPing):
        assert _trouble(tmp_path, path).evidence["trouble"] is Trouble.STRANGER


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_user_outside_the_docker_group_is_told_the_command_and_its_price(engine: Path) -> None:
    os.chmod(engine, 0o600)
    opened = [part for part in engine.parents if not part.stat().st_mode & 0o001]
    modes = {part: part.stat().st_mode for part in opened}
    for part in opened:
        part.chmod(modes[part] | 0o001)
    os.seteuid(65534)
    try:
        refused = _trouble(Path("/nonexistent"), engine)
    finally:
        os.seteuid(0)
        for part in opened:
            part.chmod(modes[part])

    assert refused.evidence["trouble"] is Trouble.DENIED
    assert "sudo usermod -aG docker ada" in refused.hint
    assert "as powerful as root" in refused.hint


def test_an_installed_engine_that_does_not_run_is_to_be_started(tmp_path: Path) -> None:
    refused = _trouble(tmp_path, tmp_path / "missing.sock", machine=replace(LAPTOP, dockerd=True))

    assert refused.evidence["trouble"] is Trouble.NOT_RUNNING
    assert "sudo systemctl enable --now docker" in refused.hint


@pytest.mark.parametrize(
    ("families", "command"),
    [
        (("ubuntu", "debian"), "sudo apt-get install -y docker.io"),
        (("linuxmint", "ubuntu"), "sudo apt-get install -y docker.io"),
        (("fedora",), "sudo dnf install -y moby-engine && sudo systemctl enable --now docker"),
        (("darwin",), "brew install colima docker && colima start"),
        (("plan9",), "Install Docker or Podman"),
    ],
)
def test_a_machine_without_an_engine_is_told_its_own_command(
    tmp_path: Path, families: tuple[str, ...], command: str
) -> None:
    refused = _trouble(tmp_path, machine=replace(LAPTOP, families=families))

    assert refused.evidence["trouble"] is Trouble.ABSENT
    assert command in refused.hint


def test_root_is_not_told_to_use_sudo(tmp_path: Path) -> None:
    assert "sudo" not in _trouble(tmp_path, machine=replace(LAPTOP, root=True)).hint


@pytest.mark.docker
def test_a_real_engine_is_found(docker_host: str, tmp_path: Path) -> None:
    assert find_engine(None, docker_host, tmp_path) == docker_host
