"""The engine's client, on a real engine, and what it says when there is none."""

import asyncio
import json
import tarfile
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest

from klepaas.docker.archive import archive_of
from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineConflict, EngineNotFound, NameTaken, NetworkBroken, NotRunning, PortTaken
from klepaas.docker.logs import lines_of
from klepaas.errors import EngineTooOld, EngineUnavailable, ImageMissing, Invalid
from tests.targets.apps import image_of

needs_engine = pytest.mark.docker


@pytest.fixture
async def engine(docker_host: str) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(docker_host)
    yield engine
    await engine.close()


class FakeSocket:
    """Something at a socket that answers every request with these bytes, or not at all."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        self.path, self._answer = path, answer

    async def __aenter__(self) -> DockerEngine:
        self._server = await asyncio.start_unix_server(self._handle, str(self.path))
        self._engine = DockerEngine(f"unix://{self.path}")
        return self._engine

    async def __aexit__(self, *_: object) -> None:
        await self._engine.close()
        self._server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if self._answer is not None:
            writer.write(self._answer)
            await writer.drain()
        writer.close()


def _ping(version: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nApi-Version: {version}\r\nContent-Length: 2\r\n\r\nOK".encode()


@pytest.mark.parametrize(("offered", "spoken"), [("1.41", "1.41"), ("1.45", "1.45"), ("1.99", "1.47")])
async def test_the_newest_version_both_know_is_spoken(tmp_path: Path, offered: str, spoken: str) -> None:
    async with FakeSocket(tmp_path / "s", _ping(offered)) as engine:
        assert await engine.connect() == spoken


@pytest.mark.parametrize("offered", ["1.40", "1.9", ""])
async def test_an_engine_that_is_too_old_is_refused_with_what_is_needed(tmp_path: Path, offered: str) -> None:
    """R-18."""
    async with FakeSocket(tmp_path / "s", _ping(offered)) as engine:
        with pytest.raises(EngineTooOld) as refused:
            await engine.info()

    assert "1.41 (Docker 20.10)" in refused.value.message


async def test_no_socket_a_dead_socket_and_a_broken_answer_are_all_unavailable(tmp_path: Path) -> None:
    dead = await asyncio.start_unix_server(lambda *_: None, str(tmp_path / "dead"))
    dead.close()
    for path in (tmp_path / "missing", tmp_path / "dead"):
        engine = DockerEngine(f"unix://{path}")
        with pytest.raises(EngineUnavailable):
            await engine.info()
        await engine.close()
    async with FakeSocket(tmp_path / "mute", None) as mute:
        with pytest.raises(EngineUnavailable):
            await mute.info()


async def test_a_firewall_that_was_emptied_is_told_from_an_app_that_cannot_start(tmp_path: Path) -> None:
    words = (
        "driver failed programming external connectivity on endpoint shop: (iptables failed: iptables --wait -t nat "
        "-A DOCKER -p tcp -j DNAT: iptables: No chain/target/match by that name.)"
    )
    body = json.dumps({"message": words})
    head = f"HTTP/1.1 500 No\r\nApi-Version: 1.41\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    async with FakeSocket(tmp_path / "s", (head + body).encode()) as engine:
        with pytest.raises(NetworkBroken) as refused:
            await engine.start("shop")

    assert "Restart the Docker engine" in refused.value.hint


def test_only_sockets_of_this_machine_are_taken() -> None:
    with pytest.raises(Invalid):
        DockerEngine("tcp://somewhere:2375")


def test_log_frames_are_joined_to_lines() -> None:
    def frame(stream: int, text: str) -> bytes:
        data = text.encode()
        return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data

    body = (
        frame(1, "T1 long ") + frame(2, "T2 error\n") + frame(1, "T3 line\n") + frame(1, "T4 \n") + frame(1, "T5 cut")
    )
    lines = [(line.at, line.stream, line.text) for line in lines_of(body + b"\x01\x00\x00")]

    assert lines == [
        ("T2", "stderr", "error"),
        ("T1", "stdout", "long line"),
        ("T4", "stdout", ""),
        ("T5", "stdout", "cut"),
    ]


async def test_an_archive_is_a_tar_that_other_programs_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"")
    data = b"".join([chunk async for chunk in archive_of({"bin/a": tmp_path / "a", "b": tmp_path / "b"})])
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        sizes = {member.name: (member.size, member.mode) for member in archive}

    assert sizes == {"bin/a": (1000, 0o755), "b": (0, 0o755)}


@needs_engine
async def test_a_container_lives_through_all_its_states(engine: DockerEngine, instance_id: str) -> None:
    image = await image_of(engine, instance_id, "a", "echo out; echo err >&2; exec $bb sleep 1000")
    label = f"klepaas.instance={instance_id}"
    body = {"Image": image, "Labels": {"klepaas.instance": instance_id}, "HostConfig": {"Init": True}}
    container = await engine.create(f"klepaas-{instance_id}", body)
    with pytest.raises(NameTaken):
        await engine.create(f"klepaas-{instance_id}", body)
    await engine.start(container)
    await engine.start(container)
    with pytest.raises(EngineConflict):
        await engine.unpause(container)
    await engine.pause(container)
    with pytest.raises(NotRunning):
        await engine.pause(container)
    await engine.unpause(container)
    lines = {(line.stream, line.text) for line in await engine.logs(container, lines=10)}
    with pytest.raises(EngineConflict):
        await engine.remove_image(image)
    await engine.restart_policy(container, "no")
    await engine.stop(container, grace_s=2)
    with pytest.raises(NotRunning):
        await engine.pause(container)
    listed = [found["Id"] for found in await engine.containers([label])]
    await engine.remove(container)
    for gone in (engine.inspect(container), engine.remove(container), engine.start(container)):
        with pytest.raises(EngineNotFound):
            await gone
    await engine.remove_image(image)

    assert lines == {("stdout", "out"), ("stderr", "err")}
    assert listed == [container]


@needs_engine
async def test_what_is_missing_or_taken_is_told_apart(engine: DockerEngine, instance_id: str) -> None:
    image = await image_of(engine, instance_id, "a", "exec $bb sleep 1000")
    with pytest.raises(ImageMissing):
        await engine.create(f"klepaas-{instance_id}", {"Image": "sha256:" + "0" * 64})
    with pytest.raises(EngineNotFound):
        await engine.inspect_image("sha256:" + "0" * 64)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = {"HostIp": "127.0.0.1", "HostPort": str(server.sockets[0].getsockname()[1])}
        host = {"PortBindings": {"80/tcp": [port]}}
        labels = {"klepaas.instance": instance_id}
        body = {"Image": image, "Labels": labels, "ExposedPorts": {"80/tcp": {}}, "HostConfig": host}
        container = await engine.create(f"klepaas-{instance_id}", body)
        with pytest.raises(PortTaken):
            await engine.start(container)


@needs_engine
async def test_events_are_told_as_they_happen_and_to_who_was_away(engine: DockerEngine, instance_id: str) -> None:
    image = await image_of(engine, instance_id, "a", "exit 4")
    labels = {"klepaas.instance": instance_id, "klepaas.app": "shop"}
    container = await engine.create(f"klepaas-{instance_id}", {"Image": image, "Labels": labels})
    before_ns = time.time_ns()
    await engine.start(container)
    seen = []
    async for event in engine.events([f"klepaas.instance={instance_id}"], since_ns=before_ns):
        seen.append((event.action, event.attributes.get("exitCode")))
        if event.action == "die":
            break

    assert ("start", None) in seen
    assert seen[-1] == ("die", "4")
