"""`klepaas down`: what it names is what goes, and what it leaves comes back."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from tests.acceptance import truth
from tests.acceptance.app_repository import AppRepository
from tests.acceptance.klepaas_process import Ground, KlepaasProcess
from tests.acceptance.visitor import deployed, live, read, rolled_back, until
from tests.servers import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow]


async def test_what_was_live_comes_back_after_it_was_taken_down(ground: Ground, repository: AppRepository) -> None:
    process = ground.process()
    url = await _two_releases(process, repository)
    images = _images(ground)
    await process.stop()

    told = _down(ground, "--yes", "--json")

    assert json.loads(told)["images"] == []
    assert sorted(each.rpartition(" ")[2] for each in json.loads(told)["containers"]) == ["(parked)", "(running)"]
    assert ground.containers() == []
    assert _images(ground) == images

    await process.start()
    assert await _answers(url) == "v2"
    async with process.client() as client:
        assert (await rolled_back(client, "shop", steps_back=1))["status"] == "succeeded"
    assert await _answers(url) == "v1"
    await truth.is_true(ground, repository.versions)
    await process.stop()


async def test_with_its_images_nothing_is_left_but_the_record(ground: Ground, repository: AppRepository) -> None:
    process = ground.process()
    await _two_releases(process, repository)
    refused = _run(ground, "--yes")
    await process.stop()

    asked = _at_a_terminal(ground, "--images", answer="n")

    assert (refused.returncode, "next: Stop klepaas first" in refused.stderr) == (6, True)
    assert len(_images(ground)) == 2
    for sha in repository.versions:
        assert f"the image klepaas/shop-production:{sha}" in asked
        assert f"of {sha[:7]} (" in asked
    assert "No release can be had back without building it again." in asked

    told = json.loads(_down(ground, "--images", "--yes", "--json"))

    assert sorted(told["images"]) == sorted(f"klepaas/shop-production:{sha}" for sha in repository.versions)
    assert (ground.containers(), _images(ground)) == ([], set())
    await process.start()
    async with process.client() as client:
        assert len((await client.deployments("shop"))["deployments"]) == 2
        assert (await deployed(client, "shop"))["status"] == "succeeded"
    await process.stop()


async def test_beside_one_that_runs_on_postgresql_nothing_is_taken_down(shared_ground: Ground) -> None:
    one, two = shared_ground.process(), shared_ground.process()
    await one.start()
    await two.start()
    await one.stop()

    beside = _run(shared_ground, "--yes")

    assert (beside.returncode, "klepaas runs here already" in beside.stderr) == (6, True)
    await two.stop()
    assert _run(shared_ground, "--yes").returncode == 0


async def _two_releases(process: KlepaasProcess, repository: AppRepository) -> str:
    await process.start()
    async with process.client() as client:
        await client.register(str(repository.path), name="shop")
        await live(client, "shop")
        repository.commit()
        return str((await live(client, "shop"))["urls"][0])


async def _answers(url: str) -> str:
    async def version() -> Any:
        try:
            return await read(url, "/version")
        except Exception as error:  # nobody answers yet
            return error

    found = await until(version, lambda seen: isinstance(seen, str))
    assert isinstance(found, str)
    return found


def _images(ground: Ground) -> set[str]:
    return {each["Id"] for each in docker.images(ground.docker_host, label=f"klepaas.instance={ground.instance_id}")}


def _down(ground: Ground, *arguments: str) -> str:
    done = _run(ground, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(ground: Ground, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, environment = _command(ground, *arguments)
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def _at_a_terminal(ground: Ground, *arguments: str, answer: str) -> str:
    """All that is said to somebody who answers so."""
    command, environment = _command(ground, *arguments)
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # how a terminal ends whose last program has gone
            while piece := os.read(ours, 4096):
                said += piece
    os.close(ours)
    return said.decode()


def _command(ground: Ground, *arguments: str) -> tuple[list[str], dict[str, str]]:
    database = {"KLEPAAS_DATABASE_URL": ground.database_url} if ground.database_url else {}
    own = {"KLEPAAS_HOME": str(ground.home), "KLEPAAS_DOCKER__HOST": ground.docker_host, **database}
    return [sys.executable, "-m", "klepaas", "down", *arguments], {"PATH": os.environ["PATH"], **own}
