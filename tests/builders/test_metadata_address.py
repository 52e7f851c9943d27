"""S-14: a build does not get the credentials that a cloud hands to its machine."""

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from klepaas import processes
from klepaas.builders.docker import DockerBuilder
from klepaas.docker.engine import DockerEngine
from klepaas.docker.machine import SYSTEM_PATH
from klepaas.docker.metadata_address import ADDRESS, MetadataAddress, Reach, command
from klepaas.domain.project import App
from tests.builders.checkout import Lines, checkout, request_for

pytestmark = pytest.mark.docker

NEIGHBOUR, GATEWAY = "169.254.169.253", "169.254.169.249"
"""The cloud answers at a second address, too: what is not refused gets through."""
_SERVER = """
import http.server, threading
class Cloud(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"SECRET of " + self.server.server_address[0].encode() + b"\\n")
    def log_message(self, *_):
        pass
servers = [http.server.ThreadingHTTPServer((address, 80), Cloud) for address in %r]
print("serving", flush=True)
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
"""


def _as_root(*argv: str) -> bool:
    return subprocess.run(argv, env={"PATH": SYSTEM_PATH}, capture_output=True, check=False).returncode == 0


def _must(*argv: str) -> None:
    subprocess.run(argv, env={"PATH": SYSTEM_PATH}, capture_output=True, check=True)


@pytest.fixture
def cloud() -> Iterator[None]:
    """Something behind an interface of this machine that hands out secrets, as the clouds do."""
    if os.geteuid() != 0 or not shutil.which("iptables", path=SYSTEM_PATH):
        pytest.skip("only root with iptables can change the firewall")
    name = f"kp{secrets.token_hex(4)}"
    inside = ("nsenter", f"--net=/var/run/netns/{name}", "--")
    _must("ip", "netns", "add", name)
    try:
        _must("ip", "link", "add", name, "type", "veth", "peer", "name", "cloud0", "netns", name)
        _must("ip", "addr", "add", f"{GATEWAY}/29", "dev", name)
        _must("ip", "link", "set", name, "up")
        for address in (ADDRESS, NEIGHBOUR):
            _must("ip", "-n", name, "addr", "add", f"{address}/29", "dev", "cloud0")
        _must("ip", "-n", name, "link", "set", "cloud0", "up")
        with subprocess.Popen(
            [*inside, sys.executable, "-c", _SERVER % ([ADDRESS, NEIGHBOUR],)], stdout=subprocess.PIPE
        ) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"serving\n"
            yield
            server.terminate()
    finally:
        _as_root("ip", "link", "delete", name)
        _as_root("ip", "netns", "delete", name)


@pytest.fixture
def open_firewall() -> None:
    """As before the first klepaas of this machine."""
    rule = command().removeprefix("sudo ").replace(" -I ", " -D ").split()
    while _as_root(*rule):
        pass


@pytest.mark.usefixtures("cloud", "open_firewall")
async def test_s14_a_build_gets_nothing_from_the_metadata_address(
    engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path
) -> None:
    address = MetadataAddress(engine)
    builder = DockerBuilder(engine, instance=instance_id, metadata_address=address)
    request = r"printf 'GET /latest/meta-data/ HTTP/1.0\r\n\r\n'"
    asks = " ; ".join(f"({request}; sleep 1) | nc -w 3 {each} 80" for each in (ADDRESS, NEIGHBOUR))
    source = checkout(tmp_path, {"Dockerfile": f"FROM {fresh}\nRUN {asks}; echo asked both\n"})
    lines = Lines()

    await builder.build(request_for(source, app), lines.add)

    told = [line for line in lines if not re.search(r"RUN|---> ", line)]
    assert any("asked both" in line for line in told), lines.text
    assert any(f"SECRET of {NEIGHBOUR}" in line for line in told), "the question is asked rightly"
    assert not any(f"SECRET of {ADDRESS}" in line for line in told)
    assert await address.reach() is Reach.NOTHING


@pytest.mark.usefixtures("open_firewall")
async def test_the_rule_is_there_once_however_many_klepaas_build_on_this_machine(engine: DockerEngine) -> None:
    if os.geteuid() != 0 or not shutil.which("iptables", path=SYSTEM_PATH):
        pytest.skip("only root with iptables can change the firewall")
    # Each of its own, as of several klepaas on this machine.
    await asyncio.gather(*(MetadataAddress(engine).keep_closed() for _ in range(5)))
    await MetadataAddress(engine).keep_closed()

    rules = await processes.run(["iptables", "-S", "DOCKER-USER"], env={"PATH": SYSTEM_PATH})
    assert rules.stdout.count(ADDRESS) == 1


@pytest.mark.usefixtures("open_firewall")
async def test_where_no_lock_can_be_written_the_rule_is_put_there_all_the_same(
    engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0 or not shutil.which("iptables", path=SYSTEM_PATH):
        pytest.skip("only root with iptables can change the firewall")
    monkeypatch.setattr("klepaas.docker.metadata_address._LOCK", tmp_path / "missing" / "lock")
    address = MetadataAddress(engine)
    await address.keep_closed()

    assert await address.reach() is Reach.NOTHING


async def test_where_we_may_not_look_nobody_knows(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert await MetadataAddress(engine).reach() is Reach.UNKNOWN


async def test_a_firewall_that_cannot_be_changed_is_no_reason_not_to_build(
    engine: DockerEngine, instance_id: str, app: App, fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klepaas.docker.metadata_address.SYSTEM_PATH", str(tmp_path))
    builder = DockerBuilder(engine, instance=instance_id, metadata_address=MetadataAddress(engine))
    source = checkout(tmp_path / "app", {"Dockerfile": f"FROM {fresh}\nRUN echo built\n"})

    assert await builder.build(request_for(source, app), Lines().add)
