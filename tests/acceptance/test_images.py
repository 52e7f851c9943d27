"""Which images and containers there are, when, and whose: what a rollback needs stays, what is ours and over goes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from klepaas.client import Client
from klepaas.errors import ImageMissing, Unavailable
from klepaas.storage.tables import deployments
from tests.acceptance.app_repository import AppRepository
from tests.acceptance.klepaas_process import Ground, KlepaasProcess
from tests.acceptance.visitor import (
    bring,
    deployed,
    docker,
    live,
    reaching,
    read,
    rolled_back,
    running,
    serving_git,
    until,
)
from tests.servers import docker as engines
from tests.servers.base_images import static_base

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def process(docker_host: str) -> Iterator[KlepaasProcess]:
    static_base(docker_host)
    with running(docker_host, DOCKER__WARM_FOR="PT0S") as started:
        yield started


@pytest.fixture
async def client(process: KlepaasProcess) -> AsyncIterator[Client]:
    async with process.client() as opened:
        yield opened


def digests(host: str, project: dict[str, Any]) -> set[str]:
    """Of the images of this project's app."""
    return {image["Id"] for image in engines.images(host, label=f"klepaas.app={project['name']}-production")}


@pytest.mark.slow
async def test_r09_after_12_deployments_only_what_can_be_had_back_is_left(
    process: KlepaasProcess, client: Client
) -> None:
    host, name = process.ground.docker_host, f"many-{process.ground.instance_id[-6:]}"
    foreign, renamed = f"klepaas-test-foreign:{name}", f"klepaas-test-renamed:{name}"
    repository = AppRepository(process.ground.folder / name)
    settings = {"drain_timeout_s": 0, "keep_releases": 3}
    project = await client.register(str(repository.path), name=name, settings=settings)
    images: list[str] = []
    try:
        for number in range(1, 13):
            repository.commit(f"v{number}")
            images.append((await live(client, name))["image_digest"])
            if number == 1:
                # A stranger's image, and a name that a stranger gave to one of ours.
                docker(host, "tag", static_base(host), foreign)
                docker(host, "tag", images[0], renamed)
            if number % 4 == 0:
                await _every_candidate_exists(client, host, name, images)

        assert digests(host, project) == {*images[-4:], images[0]}
        assert docker(host, "image", "inspect", "--format", "{{.Id}}", renamed) == images[0]
        assert docker(host, "image", "inspect", "--format", "ok", foreign) == "ok"
        assert [c["way"] for c in await client.candidates(name)][:4] == ["image"] * 4
        back = await rolled_back(client, name, steps_back=3)
        assert (back["status"], back["image_digest"]) == ("succeeded", images[-4])
    finally:
        for image in (foreign, renamed):
            docker(host, "rmi", image)


async def _every_candidate_exists(client: Client, host: str, name: str, images: list[str]) -> None:
    there = digests(host, await client.project(name))
    for candidate in await client.candidates(name):
        if candidate["way"] == "image":
            assert images[candidate["number"] - 1] in there, candidate


async def test_r09_a_nearly_full_disk_is_a_refusal_with_a_reason(ground: Ground) -> None:
    repository = AppRepository(ground.folder / "app")
    repository.commit()
    process = ground.process(DOCKER__MIN_FREE_BYTES=str(2**60))
    await process.start()
    async with process.client() as client:
        project = await client.register(str(repository.path), name="nowhere-to-put")

        deployment = await deployed(client, "nowhere-to-put")

        assert (deployment["status"], deployment["failure"]["code"]) == ("failed", "disk_full")
        assert deployment["failure"]["stage"] == "build"
        assert "MiB free" in deployment["failure"]["message"]
        assert deployment["failure"]["hint"]
        assert digests(ground.docker_host, project) == set()
    assert await process.stop() == 0


async def test_r08_each_of_five_releases_is_had_back_without_repository_tag_or_build(
    process: KlepaasProcess, client: Client
) -> None:
    host, name = process.ground.docker_host, f"pinned-{process.ground.instance_id[-6:]}"
    with serving_git() as server:
        repository = bring(server, "dockerfile-in-root", name)
        await client.register(repository.url, name=name, settings={"drain_timeout_s": 0})
        released = [await live(client, name)]
        for number in range(2, 7):
            repository.publish({"site/index.html": f"Version {number}"})
            released.append(await live(client, name))
    url = released[-1]["urls"][0]
    for older, newer in pairwise(released):
        docker(host, "tag", newer["image_digest"], older["image_ref"])

    undone = await rolled_back(client, name, steps_back=5)
    assert (undone["status"], undone["image_digest"]) == ("succeeded", released[0]["image_digest"])
    assert await read(url) == "Hello"
    for number in range(2, 6):
        wanted = released[number - 1]
        undone = await rolled_back(client, name, commit=wanted["commit_sha"][:10])
        assert (undone["status"], undone["image_digest"]) == ("succeeded", wanted["image_digest"])
        assert not {"fetch", "build"} & {stage["stage"] for stage in undone["stages"]}
        assert _running(host, undone) == wanted["image_digest"]
        assert await read(url) == f"Version {number}"

    # And what cannot be had back is refused before anything is touched: nobody can say, or it is gone for good.
    lost, possible = released[2], released[1]["commit_sha"][:7]
    docker(host, "rmi", "--force", lost["image_digest"])
    before = process.ground.select(sa.select(sa.func.count()).select_from(deployments))[0][0]
    with pytest.raises(Unavailable) as unsure:
        await client.roll_back(name, commit=lost["commit_sha"])
    other = AppRepository(process.ground.folder / f"{name}-other")
    other.commit()
    await client.configure(name, repository=str(other.path))
    with pytest.raises(ImageMissing) as refused:
        await client.roll_back(name, commit=lost["commit_sha"])
    assert lost["commit_sha"][:7] in refused.value.message
    assert all(possible in fault.value.hint for fault in (unsure, refused)), "the alternatives are named"
    assert process.ground.select(sa.select(sa.func.count()).select_from(deployments))[0][0] == before
    assert await read(url) == "Version 5"


def _running(host: str, deployment: dict[str, Any]) -> str:
    """The digest that really runs as the release of a deployment."""
    found = engines.containers(host, label=f"klepaas.release={deployment['release_id']}")
    return str(found[0]["ImageID"])


# seen from outside, all through a switch.


async def test_r24_live_is_said_only_when_every_new_request_gets_the_new_release(
    process: KlepaasProcess, client: Client
) -> None:
    repository = AppRepository(process.ground.folder / "switched")
    repository.commit("v1")
    await client.register(str(repository.path), name="switched", settings={"drain_timeout_s": 1})
    url = (await live(client, "switched"))["urls"][0]
    answers: list[tuple[datetime, str]] = []

    async def keep_asking() -> None:
        async with httpx.AsyncClient(trust_env=False) as visitor:
            while True:
                asked = datetime.now(UTC)
                answers.append((asked, (await visitor.get(f"{url}/version")).text.strip()))
                await asyncio.sleep(0.002)

    asking = asyncio.create_task(keep_asking())
    for version in ("v2", "v3", "v4"):
        before = len(answers)
        repository.commit(version)
        deployment = await live(client, "switched")
        said = datetime.fromisoformat(deployment["live_at"])
        assert _running(process.ground.docker_host, deployment) == deployment["image_digest"]
        assert deployment["evidence"]["answer"]["release_id"] == deployment["release_id"]
        await asyncio.sleep(0.05)
        late = [answer for asked, answer in answers[before:] if asked >= said]
        assert late
        assert set(late) == {version}
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asks_for_s", "is_answered"), [pytest.param(3, True, id="drained"), pytest.param(60, False, id="cut off")]
)
async def test_r17_the_old_container_ends_with_its_last_request_or_with_its_drain_and_grace(
    process: KlepaasProcess, client: Client, asks_for_s: int, is_answered: bool
) -> None:
    drain_s, grace_s, name = 6.0, 10.0, f"draining-{asks_for_s}"
    with serving_git() as server:
        repository = bring(server, "takes-its-time", name)
        await client.register(repository.url, name=name, settings={"drain_timeout_s": drain_s})
        first = await live(client, name)
        repository.publish({"site/index.html": "Second"})
        submitted = await client.deploy(name)
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=90) as visitor:
            # Its container has yet to start: the request is there before the switch.
            await reaching(client, submitted["deployment"]["id"], "release")
            slow = asyncio.create_task(visitor.get(f"{first['urls'][0]}/cgi-bin/slow?{asks_for_s}"))
            seen_alive = time.monotonic()
            while _state(process.ground, first) == "running":
                seen_alive = time.monotonic()
                await asyncio.sleep(0.1)
            second = await live_again(client, submitted["deployment"]["id"])
            switched = datetime.fromisoformat(second["live_at"])
            lived_on_s = seen_alive - _monotonic_of(switched)
            assert lived_on_s < drain_s + grace_s + 5
            if is_answered:
                assert (await slow).text.strip() == "Hello", "the request in flight was served to its end"
            else:
                assert lived_on_s > drain_s - 1
                async with asyncio.timeout(grace_s + 5):
                    [end] = await asyncio.gather(slow, return_exceptions=True)
                assert isinstance(end, httpx.HTTPError) or end.status_code == 502, "it is ended, not left waiting"
            assert await read(second["urls"][0]) == "Second"


def _state(ground: Ground, deployment: dict[str, Any]) -> str:
    found = engines.containers(ground.docker_host, label=f"klepaas.release={deployment['release_id']}")
    return str(found[0]["State"]) if found else "gone"


def _monotonic_of(moment: datetime) -> float:
    return time.monotonic() - (datetime.now(UTC) - moment).total_seconds()


async def live_again(client: Client, deployment_id: str) -> dict[str, Any]:
    return await until(lambda: client.deployment(deployment_id), lambda found: found["status"] == "succeeded")
