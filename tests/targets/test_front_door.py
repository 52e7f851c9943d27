"""The proxy on a real engine: switches without a lost request, doors without a reload, and what breaks it."""

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from klepaas.docker.engine import DockerEngine
from klepaas.domain.observation import Health
from klepaas.domain.project import ProjectSettings
from klepaas.domain.release import Release
from klepaas.errors import Rejected, SwitchFailed
from klepaas.settings import ProxySettings
from klepaas.targets.local.adapter import LocalTarget
from klepaas.targets.local.doors import SPARES
from klepaas.targets.local.plan import container_name
from klepaas.targets.local.proxy_config import UPSTREAM_HEADER, VERIFY_HEADER
from klepaas.testing.memory_leases import MemoryLeases
from klepaas.testing.target_contract import becomes
from tests.targets.apps import LocalPlace, answering
from tests.targets.releases import a_release, an_app

pytestmark = pytest.mark.docker


async def _live(place: LocalPlace, number: int) -> Release:
    release = await place.release(number)
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)
    await place.target.shift(place.app, release)
    return release


@dataclass
class Clients:
    """Clients that keep their connections and never try again."""

    url: str
    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: bool = False

    async def run(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            while not self.stopped:
                try:
                    answer = await client.get(self.url)
                    (self.answers if answer.is_success else self.failures).append(answer.text.strip())
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                await asyncio.sleep(0.002)


async def test_no_request_is_lost_while_traffic_is_switched(place: LocalPlace) -> None:
    """R-10, in small: keep-alive clients without retries, the old release frozen after each switch."""
    url = (await place.target.open(place.app, [])).urls[0]
    current, other = await _live(place, 1), await place.release(2)
    clients = Clients(url)
    running = [asyncio.create_task(clients.run()) for _ in range(8)]
    for _ in range(10):
        await place.target.apply(place.app, other, {})
        await becomes(place, other, Health.HEALTHY)
        await place.target.shift(place.app, other)
        while await place.target.open_connections(place.app, current):
            await asyncio.sleep(0.05)
        assert await place.target.park(place.app, current)
        current, other = other, current
    clients.stopped = True
    await asyncio.gather(*running)

    assert clients.failures == []
    assert set(clients.answers) == {"release 1", "release 2"}


async def test_a_request_in_flight_is_answered_by_the_old_release(place: LocalPlace) -> None:
    slow = answering("'/bin/busybox sleep 2; echo HTTP/1.1 200 OK; echo; echo old'")
    url = (await place.target.open(place.app, [])).urls[0]
    old = await place.release_of(1, slow)
    await place.target.apply(place.app, old, {})
    await becomes(place, old, Health.HEALTHY)
    await place.target.shift(place.app, old)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        asked = asyncio.create_task(client.get(f"{url}/cgi-bin/health"))
        while not await place.target.open_connections(place.app, old):
            await asyncio.sleep(0.01)
        await _live(place, 2)
        while_it_runs = await place.target.open_connections(place.app, old)
        answer = await asked

    assert (answer.status_code, answer.text.strip()) == (200, "old")
    assert while_it_runs


async def test_which_release_answered_is_told_only_to_who_has_the_token(place: LocalPlace, home: Path) -> None:
    """R-24; and the app behind never sees the token."""
    script = answering("'echo HTTP/1.1 200 OK; echo; env'")
    url = (await place.target.open(place.app, [])).urls[0]
    release = await place.release_of(1, script)
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)
    await place.target.shift(place.app, release)
    token = (home / "proxy/token").read_text()
    async with httpx.AsyncClient(trust_env=False) as client:
        plain = await client.get(url)
        guessed = await client.get(url, headers={VERIFY_HEADER: "guess"})
        seen_by_app = await client.get(f"{url}/cgi-bin/health", headers={VERIFY_HEADER: token})
    told = await place.target.answering(place.app, "/")

    assert UPSTREAM_HEADER not in plain.headers
    assert UPSTREAM_HEADER not in guessed.headers
    assert UPSTREAM_HEADER in seen_by_app.headers
    assert token not in seen_by_app.text
    assert told.release_id == release.id


async def test_secrets_of_the_proxy_are_for_its_owner_only(place: LocalPlace, home: Path) -> None:
    """S-06: the token and the admin socket can move traffic."""
    await place.target.open(place.app, [])
    modes = {
        name: stat.S_IMODE((home / "proxy" / name).stat().st_mode) for name in ("token", "caddy.json", "admin.sock")
    }

    assert modes == {"token": 0o600, "caddy.json": 0o600, "admin.sock": 0o600}
    assert stat.S_IMODE((home / "proxy").stat().st_mode) == 0o700


async def test_new_apps_get_spare_doors_without_a_reload(place: LocalPlace, home: Path) -> None:
    await place.target.open(place.app, [])
    before = (home / "proxy/caddy.json").stat().st_mtime_ns
    addresses = [
        (await place.target.open(an_app(name=f"app-{number}", project_id=f"p{number}"), [])).urls[0]
        for number in range(SPARES)
    ]
    unchanged = (home / "proxy/caddy.json").stat().st_mtime_ns == before
    await place.target.open(an_app(name="app-more", project_id="more"), [])

    assert len(set(addresses)) == SPARES
    assert unchanged
    assert (home / "proxy/caddy.json").stat().st_mtime_ns != before


async def test_a_killed_proxy_comes_back_with_the_same_addresses_and_traffic(place: LocalPlace) -> None:
    url = (await place.target.open(place.app, [])).urls[0]
    release = await _live(place, 1)
    await asyncio.to_thread(
        _kill_proxy, (await place.engine.inspect(f"klepaas-proxy-{place.instance_id}"))["State"]["Pid"]
    )
    again = (await place.target.open(place.app, [])).urls[0]
    answer = await _until_answered(place)

    assert (again, answer) == (url, release.id)


async def test_a_removed_proxy_is_repaired_and_a_wrong_upstream_is_seen(place: LocalPlace, home: Path) -> None:
    await place.target.open(place.app, [])
    release = await _live(place, 1)
    door = next(iter((home / "proxy/up").iterdir()))
    door.write_text("127.0.0.1:1")
    await place.engine.remove(f"klepaas-proxy-{place.instance_id}", force=True)
    fresh = LocalTarget(place.engine, place.target._leases, instance_id=place.instance_id, home=home)
    repaired = await fresh.repair(place.app, [], release)
    nothing = await fresh.repair(place.app, [], release)
    misled = await fresh.is_misled(place.app, release)
    await fresh.shift(place.app, release)
    well_led = not await fresh.is_misled(place.app, release)
    await fresh.close_connections()

    assert "The proxy was started." in repaired
    assert list(nothing) == []
    assert (misled, well_led) == (True, True)
    assert await _until_answered(place) == release.id


async def test_a_repair_that_was_cut_short_is_told_by_the_next_look(
    place: LocalPlace, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.target.open(place.app, [])
    release = await _live(place, 1)
    await place.engine.remove(f"klepaas-proxy-{place.instance_id}", force=True)
    fresh = LocalTarget(place.engine, place.target._leases, instance_id=place.instance_id, home=home)
    start = fresh._proxy.container.start

    async def start_and_be_cut_short(answers: Callable[[], Awaitable[bool]]) -> None:
        await start(answers)
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(fresh._proxy.container, "start", start_and_be_cut_short)
        with pytest.raises(TimeoutError):
            await fresh.repair(place.app, [], release)
    told = [list(await fresh.repair(place.app, [], release)) for _ in range(2)]
    await fresh.close_connections()

    assert told == [["The proxy was started."], []]


async def test_a_door_taken_by_a_stranger_leaves_the_other_doors_alone(place: LocalPlace, leases: MemoryLeases) -> None:
    other = an_app(name="other", project_id="other")
    taken = await leases.lease(f"door:{other.key}")
    with socket.create_server(("127.0.0.1", taken)):
        address = await place.target.open(place.app, [])
        moved = await place.target.open(other, [])
        release = await _live(place, 1)

    assert str(taken) not in moved.urls[0]
    assert await _until_answered(place) == release.id
    assert address.urls[0] != moved.urls[0]


async def test_an_app_that_restarts_keeps_its_callers_waiting_instead_of_failing(place: LocalPlace) -> None:
    url = (await place.target.open(place.app, [])).urls[0]
    release = await _live(place, 1)
    await place.engine.stop(container_name(place.app, release), grace_s=0)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        asked = asyncio.create_task(client.get(url))
        await asyncio.sleep(0.2)
        await place.target.apply(place.app, release, {})
        answer = await asked

    assert answer.status_code == 200


async def test_a_release_that_does_not_run_gets_no_traffic(place: LocalPlace) -> None:
    """R-07: the release that serves goes on serving."""
    await place.target.open(place.app, [])
    live = await _live(place, 1)
    with pytest.raises(SwitchFailed):
        await place.target.shift(place.app, a_release(place.app, 9))

    assert (await place.target.answering(place.app, "/")).release_id == live.id


async def test_custom_host_names_lead_to_their_app(
    place: LocalPlace, engine: DockerEngine, leases: MemoryLeases, home: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ProxySettings(http_listen=f"127.0.0.1:{port}")
    place.target = LocalTarget(engine, leases, instance_id=place.instance_id, home=home, proxy=settings)
    address = await place.target.open(place.app, ["shop.lan"])
    await _live(place, 1)
    async with httpx.AsyncClient(trust_env=False) as client:
        named = await client.get(f"http://127.0.0.1:{port}/", headers={"Host": "shop.lan"})
        unknown = await client.get(f"http://127.0.0.1:{port}/", headers={"Host": "other.lan"})
    with pytest.raises(Rejected) as claimed:
        await place.target.open(an_app(name="thief", project_id="thief"), ["shop.lan"])

    assert address.urls[0] == f"http://shop.lan:{port}"
    assert (named.text.strip(), unknown.text.strip()) == ("release 1", "")
    assert "shop.lan" in claimed.value.message


async def test_a_stranger_on_the_address_for_host_names_is_named_and_the_doors_work(
    place: LocalPlace, engine: DockerEngine, leases: MemoryLeases, home: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        listen = f"127.0.0.1:{stranger.getsockname()[1]}"
        settings = ProxySettings(http_listen=listen)
        place.target = LocalTarget(engine, leases, instance_id=place.instance_id, home=home, proxy=settings)
        with pytest.raises(Rejected) as refused:
            await place.target.open(place.app, ["shop.lan"])
        release = await _live(place, 1)
        answer = await place.target.answering(place.app, "/")

    assert listen in refused.value.message
    assert answer.release_id == release.id


async def test_host_names_without_a_place_to_serve_them_are_refused(place: LocalPlace) -> None:
    with pytest.raises(Rejected) as refused:
        await place.target.open(place.app, ["shop.klepaas.dev"])

    assert "KLEPAAS_PROXY__HTTP_LISTEN" in refused.value.hint


async def test_the_probe_asks_for_the_first_host_name(place: LocalPlace) -> None:
    lines = "'case $HTTP_HOST in shop.lan) echo HTTP/1.1 200 OK;; *) echo HTTP/1.1 421 Wrong;; esac; echo; echo'"
    settings = ProjectSettings(health_path="/cgi-bin/health", hosts=("shop.lan",))
    release = await place.release_of(1, answering(lines), settings)
    await place.target.apply(place.app, release, {})

    await becomes(place, release, Health.HEALTHY)


async def _until_answered(place: LocalPlace) -> str | None:
    for _ in range(200):
        answer = await place.target.answering(place.app, "/")
        if answer.release_id:
            return answer.release_id
        await asyncio.sleep(0.05)
    return None


def _kill_proxy(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
