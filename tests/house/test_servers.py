"""The servers that other tests lean on keep their own promises."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.servers.docker import DockerDaemon, answers, remove_everything
from tests.servers.postgres import PostgresServer
from tests.servers.process import leaves


def _dsn(url: str) -> str:
    return url.replace("+psycopg", "")


def test_each_test_gets_an_empty_database_of_its_own(postgres: PostgresServer, postgres_url: str) -> None:
    other = postgres.create_database()
    with psycopg.connect(_dsn(postgres_url), autocommit=True) as mine:
        mine.execute("CREATE TABLE things (name text)")
    with psycopg.connect(_dsn(other)) as yours:
        found = yours.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'things'").fetchone()
    postgres.drop_database(other)

    assert found == (0,)


def test_an_immediate_restart_breaks_connections_and_keeps_committed_rows() -> None:
    server = PostgresServer()
    try:
        server.start()
        url = _dsn(server.create_database())
        with psycopg.connect(url, autocommit=True) as before:
            before.execute("CREATE TABLE things AS SELECT 'kept' AS name")
            server.restart_immediately()
            with pytest.raises(psycopg.OperationalError):
                before.execute("SELECT 1")
        with psycopg.connect(url) as after:
            assert after.execute("SELECT name FROM things").fetchone() == ("kept",)
        pid = server.pid
    finally:
        server.stop()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not server.folder.exists()


@pytest.mark.docker
def test_the_engine_of_the_test_run_answers(docker_host: str) -> None:
    assert answers(docker_host)


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="a private engine needs root")
def test_a_private_engine_can_be_killed_and_started_again_and_leaves_nothing(docker_host: str) -> None:
    daemon = DockerDaemon()
    try:
        daemon.start()
        networks_of_ours = subprocess.run(
            ["ip", "-n", daemon.netns, "link"], capture_output=True, text=True, check=True
        )
        daemon.kill()
        assert not answers(daemon.host)
        daemon.start()
        assert answers(daemon.host)
    finally:
        daemon.stop()

    assert "docker0" in networks_of_ours.stdout
    assert not daemon.folder.exists()
    assert daemon.netns not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert answers(docker_host)


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="a private engine needs root")
def test_containers_that_outlived_a_killed_engine_are_ended_with_it() -> None:
    daemon = DockerDaemon()
    try:
        daemon.start()
        transport = httpx.HTTPTransport(uds=str(daemon.socket))
        with httpx.Client(transport=transport, base_url="http://docker", timeout=60) as engine:
            engine.post("/build", params={"t": "sample"}, content=_sample_context()).raise_for_status()
            made = engine.post("/containers/create", json={"Image": "sample"}).raise_for_status().json()["Id"]
            engine.post(f"/containers/{made}/start").raise_for_status()
            pid = engine.get(f"/containers/{made}/json").json()["State"]["Pid"]
        daemon.kill()
        os.kill(pid, 0)
    finally:
        daemon.stop()

    assert leaves(pid)
    assert not daemon.folder.exists()


def _sample_context() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(Path(__file__).parents[2] / "examples" / "sample", arcname=".")
    return packed.getvalue()


@pytest.mark.docker
def test_what_carries_a_label_is_removed_and_nothing_else(docker_host: str, instance_id: str) -> None:
    transport = httpx.HTTPTransport(uds=docker_host.removeprefix("unix://"))
    with httpx.Client(transport=transport, base_url="http://docker", timeout=60) as engine:
        made = [
            engine.post("/volumes/create", json={"Labels": {"klepaas.instance": value}}).json()["Name"]
            for value in (instance_id, f"{instance_id}-other")
        ]
        remove_everything(docker_host, label=f"klepaas.instance={instance_id}")
        found = [engine.get(f"/volumes/{name}").status_code for name in made]
        engine.delete(f"/volumes/{made[1]}")

    assert found == [404, 200]
