"""R-21 with real containers: what an app does wrong is named in the observation."""

import asyncio
import time
from collections.abc import Callable

import pytest

from klepaas.domain.observation import Health, Observation
from klepaas.domain.project import ProjectSettings
from tests.targets.apps import LocalPlace, answering, serving

pytestmark = pytest.mark.docker

PATIENCE_S = 30


async def _until(
    place: LocalPlace, script: str, told: Callable[[Observation], bool], settings: ProjectSettings | None = None
) -> Observation:
    release = await place.release_of(1, script, settings)
    await place.target.apply(place.app, release, {})
    deadline = time.monotonic() + PATIENCE_S
    while True:
        observed = await place.target.observe(place.app, release)
        if told(observed):
            return observed
        assert time.monotonic() < deadline, observed
        await asyncio.sleep(0.1)


def _says(*words: str) -> Callable[[Observation], bool]:
    return lambda observed: all(word in observed.detail for word in words)


async def test_an_app_on_loopback_only_is_named_with_its_address(place: LocalPlace) -> None:
    observed = await _until(place, serving("x", listen="127.0.0.1:3000"), _says("127.0.0.1:3000 inside its container"))

    assert observed.listening == ("127.0.0.1:3000",)
    assert observed.health is Health.STARTING


async def test_an_app_on_the_right_port_of_loopback_is_told_to_listen_everywhere(place: LocalPlace) -> None:
    await _until(place, serving("x", listen="127.0.0.1:$PORT"), _says("127.0.0.1:8080", "Listen on 0.0.0.0:8080"))


async def test_an_app_on_another_port_is_named_with_the_setting(place: LocalPlace) -> None:
    await _until(place, serving("x", listen="0.0.0.0:5000"), _says("5000", "port to 5000"))


async def test_an_app_that_listens_nowhere_is_named(place: LocalPlace) -> None:
    await _until(place, "exec $bb sleep 1000", _says("Nothing listens"))


async def test_an_app_that_does_not_speak_http_is_named(place: LocalPlace) -> None:
    script = "while true; do echo SSH-2.0-nothing | $bb nc -l -p $PORT; done"
    observed = await _until(place, script, _says("does not speak HTTP", "SSH-2.0"))

    assert observed.probe is not None
    assert observed.probe.status is None


async def test_an_app_that_is_too_slow_is_named(place: LocalPlace) -> None:
    settings = ProjectSettings(health_path="/cgi-bin/health")
    await _until(place, answering("'/bin/busybox sleep 100'"), _says("no answer within 2 s"), settings)


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests", "500 Oops"])
async def test_a_bad_status_is_named(place: LocalPlace, status: str) -> None:
    script = answering(f"'echo HTTP/1.1 {status}; echo; echo no'")
    settings = ProjectSettings(health_path="/cgi-bin/health")
    code = status.split()[0]
    observed = await _until(place, script, _says(f"HTTP {code}"), settings)

    assert observed.health is Health.STARTING


async def test_a_redirect_counts_as_ready_and_says_where_to(place: LocalPlace) -> None:
    script = answering("'echo HTTP/1.1 301 Moved; echo Location: /login; echo; echo'")
    settings = ProjectSettings(health_path="/cgi-bin/health")
    await _until(place, script, lambda seen: seen.health is Health.HEALTHY and "/login" in seen.detail, settings)


async def test_500_and_then_200_becomes_healthy(place: LocalPlace) -> None:
    lines = "'[ -e /up ] && echo HTTP/1.1 200 OK || echo HTTP/1.1 500 Oops; echo > /up; echo; echo'"
    settings = ProjectSettings(health_path="/cgi-bin/health")
    statuses: list[int] = []

    def ready(observed: Observation) -> bool:
        if observed.probe and observed.probe.status:
            statuses.append(observed.probe.status)
        return observed.health is Health.HEALTHY

    await _until(place, answering(lines), ready, settings)

    assert statuses == [500, 200]


async def test_an_app_that_ends_again_and_again_is_named_with_its_exit_code(place: LocalPlace) -> None:
    observed = await _until(place, "exit 3", lambda seen: seen.health is Health.UNHEALTHY)

    assert "keeps ending" in observed.detail
    assert observed.exit_code == 3
    assert observed.restarts >= 3


async def test_an_app_that_takes_too_much_memory_is_named(place: LocalPlace) -> None:
    script = "exec $bb tail -c 100m /dev/zero"
    settings = ProjectSettings(memory_bytes=16 * 2**20)
    observed = await _until(
        place, script, lambda seen: seen.health is Health.UNHEALTHY and seen.out_of_memory, settings
    )

    assert "more memory than its limit" in observed.detail
    assert observed.exit_code == 137


async def test_an_app_that_is_late_is_unhealthy_rather_than_starting(place: LocalPlace) -> None:
    settings = ProjectSettings(health_timeout_s=0.5)
    observed = await _until(place, "exec $bb sleep 1000", lambda seen: seen.health is Health.UNHEALTHY, settings)

    assert "Nothing listens" in observed.detail
