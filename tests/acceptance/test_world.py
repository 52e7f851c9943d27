"""R-06: whatever happens to the world by hand or by accident, within one look it is what the record says again, and
`status` tells what was done. What cannot be known is shown as unknown."""

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from klepaas.client import Client
from tests.acceptance.app_repository import AppRepository
from tests.acceptance.curtain import Curtain
from tests.acceptance.klepaas_process import Ground, KlepaasProcess
from tests.acceptance.visitor import docker, live, read, rolled_back, running, until
from tests.servers.docker import DockerDaemon

pytestmark = pytest.mark.docker

LOOKS_EVERY = "PT1S"
WITHIN_S = 30.0
"""One look and what it has to do, on a machine that others use too."""


@pytest.fixture(scope="module")
def process(docker_host: str) -> Iterator[KlepaasProcess]:
    with running(docker_host, RECONCILER__INTERVAL=LOOKS_EVERY) as started:
        yield started


@pytest.fixture
async def client(process: KlepaasProcess) -> AsyncIterator[Client]:
    async with process.client() as opened:
        yield opened


@dataclass(frozen=True)
class Shop:
    """An app with version "two" live and version "one" frozen behind it."""

    name: str
    url: str
    ground: Ground
    client: Client
    live_release: str
    warm_release: str

    @property
    def host(self) -> str:
        return self.ground.docker_host

    async def container(self, release: str) -> dict[str, Any] | None:
        return next((c for c in await self.containers() if c["Labels"].get("klepaas.release") == release), None)

    async def live_container(self) -> str:
        found = await self.container(self.live_release)
        assert found is not None
        return str(found["Id"])

    async def warm_container(self) -> str:
        found = await self.container(self.warm_release)
        assert found is not None
        return str(found["Id"])

    async def containers(self) -> list[dict[str, Any]]:
        """Of this app, in any state."""
        ours = await asyncio.to_thread(self.ground.containers)
        return [c for c in ours if c["Labels"].get("klepaas.app") == f"{self.name}-production"]

    def proxy(self) -> str:
        return f"klepaas-proxy-{self.ground.instance_id}"

    def upstream_file(self) -> Path:
        """What the proxy reads to know where this app is."""
        return self.ground.home / "proxy" / "up" / self.url.rpartition(":")[2]

    async def world(self) -> dict[str, str]:
        """Each release that has a container, and the state of it."""
        ours = [c for c in await self.containers() if "klepaas.release" in c["Labels"]]
        return {c["Labels"]["klepaas.release"]: c["State"] for c in ours}

    async def page(self) -> str:
        try:
            return await read(self.url, "/version")
        except Exception as error:  # whatever a visitor may meet
            return repr(error)

    async def is_as_recorded(self, *, warm: bool = True) -> None:
        """Wait until the world is what the record says, and the record says that all is well."""

        async def look() -> tuple[dict[str, str], str, str]:
            return await self.world(), await self.page(), (await self.client.status(self.name))["health"]

        world = {self.live_release: "running", **({self.warm_release: "paused"} if warm else {})}
        await until(look, lambda seen: seen == (world, "two", "healthy"), WITHIN_S)

    async def changes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.client.status(self.name))["changes"]
        return found

    async def last_change(self) -> int:
        return max((change["number"] for change in await self.changes()), default=0)

    async def told(self, words: str, *, after: int = 0) -> None:
        """Wait until `status` tells this among what was done since change number `after`."""

        async def actions() -> list[str]:
            return [change["action"] for change in await self.changes() if change["number"] > after]

        await until(actions, lambda found: any(words in action for action in found), WITHIN_S)


async def shop(process: KlepaasProcess, client: Client, name: str) -> Shop:
    repository = AppRepository(process.ground.folder / name)
    repository.commit("one")
    await client.register(str(repository.path), name=name, settings={"drain_timeout_s": 0})
    first = await live(client, name)
    repository.commit("two")
    second = await live(client, name)
    made = Shop(name, second["urls"][0], process.ground, client, second["release_id"], first["release_id"])
    await made.is_as_recorded()
    return made


@pytest.fixture(scope="module")
def market(process: KlepaasProcess) -> Shop:
    """An app that several worlds happen to, one after another: each ends as it began."""

    async def make() -> Shop:
        async with process.client() as client:
            return await shop(process, client, "market")

    return asyncio.run(make())


async def _killed(shop: Shop) -> None:
    docker(shop.host, "kill", "--signal", "KILL", await shop.live_container())


async def _stopped(shop: Shop) -> None:
    docker(shop.host, "stop", "--time", "1", await shop.live_container())


async def _removed(shop: Shop) -> None:
    docker(shop.host, "rm", "--force", await shop.live_container())


async def _paused(shop: Shop) -> None:
    docker(shop.host, "pause", await shop.live_container())


async def _sent_elsewhere(shop: Shop) -> None:
    shop.upstream_file().write_text("127.0.0.1:1")


async def _sent_nowhere(shop: Shop) -> None:
    shop.upstream_file().unlink()


async def _proxy_removed(shop: Shop) -> None:
    docker(shop.host, "rm", "--force", shop.proxy())


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        pytest.param(_killed, "started again", id="killed"),
        pytest.param(_stopped, "started again", id="stopped"),
        pytest.param(_removed, "started again", id="removed"),
        pytest.param(_paused, "started again", id="paused"),
        pytest.param(_sent_elsewhere, "front door", id="upstream overwritten"),
        pytest.param(_sent_nowhere, "front door", id="upstream removed"),
        pytest.param(_proxy_removed, "proxy", id="proxy removed"),
    ],
)
async def test_r06_what_somebody_did_by_hand_is_put_right_and_told(
    market: Shop, client: Client, happens: Callable[[Shop], Awaitable[None]], told: str
) -> None:
    made = replace(market, client=client)
    seen_before = await made.last_change()

    await happens(made)

    await made.told(told, after=seen_before)
    await made.is_as_recorded()


async def test_r06_an_app_that_was_killed_runs_again(market: Shop, client: Client) -> None:
    made = replace(market, client=client)
    before = docker(made.host, "inspect", "--format", "{{.State.Pid}}", await made.live_container())

    os.kill(int(before), signal.SIGKILL)

    async def pid() -> str:
        return docker(made.host, "inspect", "--format", "{{.State.Pid}}", await made.live_container())

    await until(pid, lambda now: now not in {before, "0"}, WITHIN_S)
    await made.is_as_recorded()


async def test_r06_a_proxy_that_was_killed_serves_again(market: Shop, client: Client) -> None:
    made = replace(market, client=client)

    docker(made.host, "kill", "--signal", "KILL", made.proxy())

    await made.is_as_recorded()


async def test_r06_a_warm_release_that_somebody_thawed_is_frozen_again(market: Shop, client: Client) -> None:
    made = replace(market, client=client)

    docker(made.host, "unpause", await made.warm_container())

    await made.is_as_recorded()


async def test_r06_a_warm_release_that_somebody_removed_is_not_promised_any_more(
    process: KlepaasProcess, client: Client
) -> None:
    made = await shop(process, client, "unfrozen")
    assert (await client.candidates("unfrozen"))[1]["way"] == "warm"

    docker(made.host, "rm", "--force", await made.warm_container())

    assert (await client.candidates("unfrozen"))[1]["way"] == "image"
    back = await rolled_back(client, "unfrozen", steps_back=1)
    assert back["status"] == "succeeded"
    assert await read(made.url, "/version") == "one"


async def test_r06_containers_of_strangers_are_left_alone(process: KlepaasProcess, client: Client) -> None:
    made = await shop(process, client, "visited")
    image = (await client.status("visited"))["live"]["release"]["image_digest"]
    named_like_ours = f"klepaas-visited-production-r9-{process.ground.instance_id[-6:]}"
    run_by_hand = f"{named_like_ours}-by-hand"
    label = "klepaas-test.stranger=1"
    try:
        # An image made by klepaas hands its labels on to every container made of it.
        docker(made.host, "run", "--detach", "--name", run_by_hand, "--label", label, image)
        docker(
            *(made.host, "create", "--name", named_like_ours, "--label", label),
            *("--label", "klepaas.instance=", "--label", "klepaas.managed=", image),
        )
        strangers = {run_by_hand: "running", named_like_ours: "created"}

        await asyncio.sleep(2.5)  # two looks
        docker(made.host, "kill", await made.live_container())  # and one that has something to do
        await made.told("started again")
        await live(client, "visited", rebuild=True)

        states = {
            name: docker(made.host, "inspect", "--format", "{{.State.Status}}", name)
            for name in (run_by_hand, named_like_ours)
        }
        assert states == strangers
    finally:
        for name in (run_by_hand, named_like_ours):
            docker(made.host, "rm", "--force", name)


async def test_r06_what_happened_while_klepaas_was_down_is_put_right_when_it_is_back(
    process: KlepaasProcess, client: Client
) -> None:
    shops = await asyncio.gather(*(shop(process, client, f"alone-{number}") for number in range(4)))
    stopped, removed, misled, thawed = shops

    process.kill()
    docker(stopped.host, "stop", "--time", "1", await stopped.live_container())
    docker(removed.host, "rm", "--force", await removed.live_container())
    misled.upstream_file().write_text("127.0.0.1:1")
    docker(thawed.host, "unpause", await thawed.warm_container())
    docker(stopped.host, "rm", "--force", stopped.proxy())
    await process.start()

    async with process.client() as again:
        for made in shops:
            await replace(made, client=again).is_as_recorded()


# An engine that cannot be asked.


async def test_r06_without_an_engine_nothing_is_called_healthy(docker_host: str, ground: Ground) -> None:
    async with Curtain(docker_host, ground.folder) as curtain:
        process = ground.process(RECONCILER__INTERVAL=LOOKS_EVERY, DOCKER__HOST=curtain.host)
        await process.start()
        async with process.client() as client:
            made = await shop(process, client, "unseen")

            await curtain.fall()

            seen = await until(lambda: client.status("unseen"), lambda status: status["health"] != "healthy", 30)
            assert seen["health"] == "unknown"
            assert "engine" in seen["health_detail"].lower()
            assert await made.page() == "two", "the app itself has nothing to do with that"
            await until(client.health, lambda health: health["engine"] == "unavailable", 30)

            await curtain.lift()

            await made.is_as_recorded()
            await until(client.health, lambda health: health["status"] == "ok", 30)


@pytest.mark.slow
async def test_r06_an_engine_that_hangs_is_unknown_as_well(docker_host: str, ground: Ground) -> None:
    async with Curtain(docker_host, ground.folder) as curtain:
        process = ground.process(RECONCILER__INTERVAL=LOOKS_EVERY, DOCKER__HOST=curtain.host)
        await process.start()
        async with process.client() as client:
            await shop(process, client, "unheard")

            await curtain.hush()

            seen = await until(lambda: client.status("unheard"), lambda status: status["health"] != "healthy", 60)
            assert seen["health"] == "unknown"
            assert seen["health_detail"]


@pytest.fixture
def own_daemon() -> Iterator[DockerDaemon]:
    if os.geteuid() != 0:
        pytest.skip("only root can start an engine")
    daemon = DockerDaemon()
    daemon.start()
    yield daemon
    daemon.stop()


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """Have this thread, and the programs it starts, in that network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> None:
        namespace = os.open(path, os.O_RDONLY)
        try:
            if libc.setns(namespace, 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(namespace)

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    enter(f"/var/run/netns/{netns}")
    try:
        yield
    finally:
        enter(f"/proc/self/fd/{home}")
        os.close(home)


@pytest.mark.slow
async def test_r31_after_a_power_cut_apps_routes_and_history_are_back_without_a_hand(
    own_daemon: DockerDaemon, tmp_path: Path
) -> None:
    """As a reboot does it: the engine comes back by itself, and with it apps and proxy, before klepaas is up."""
    ground = Ground(own_daemon.host)
    try:
        with inside(own_daemon.netns):
            process = ground.process(RECONCILER__INTERVAL=LOOKS_EVERY)
            await process.start()
            async with process.client() as client:
                made = await shop(process, client, "enduring")
                history = await client.deployments("enduring")

            process.kill()
            own_daemon.lose_power()
            own_daemon.start()

            await until(made.page, lambda page: page == "two", 60)
            await process.start()
            async with process.client() as client:
                # A frozen container does not survive a power cut.
                await replace(made, client=client).is_as_recorded(warm=False)
                assert await client.deployments("enduring") == history
                assert (await client.candidates("enduring"))[1]["way"] == "image"
                back = await rolled_back(client, "enduring", steps_back=1)
                assert back["status"] == "succeeded"
                assert await made.page() == "one"
    finally:
        ground.clear()
