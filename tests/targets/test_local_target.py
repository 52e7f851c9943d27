"""The local target on a real engine: crashes in the middle, strangers, and what people do by hand."""

import asyncio
import json
import os
import signal
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from klepaas.docker.archive import archive_of
from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineConflict
from klepaas.domain.observation import Health
from klepaas.domain.project import ProjectSettings
from klepaas.domain.release import Release
from klepaas.errors import ImageMissing, NotHealthy, Rejected
from klepaas.settings import DockerSettings
from klepaas.targets.local import glances
from klepaas.targets.local.adapter import LocalTarget
from klepaas.targets.local.plan import container_name
from klepaas.testing.memory_leases import MemoryLeases
from klepaas.testing.target_contract import becomes
from tests.targets.apps import BUSYBOX, LocalPlace, serving
from tests.targets.releases import NO_IMAGE

pytestmark = pytest.mark.docker


class Killed(BaseException):
    """What a killed process would not have lived to do is not done."""


def _dying_at(place: LocalPlace, leases: MemoryLeases, home: Path, point: str) -> LocalTarget:
    async def reached(name: str) -> None:
        if name == point:
            raise Killed(name)

    return LocalTarget(place.engine, leases, instance_id=place.instance_id, home=home, reached=reached)


@pytest.mark.parametrize("point", ["port_leased", "container_created", "container_started"])
async def test_what_a_killed_process_left_is_finished_by_the_next_one(
    place: LocalPlace, leases: MemoryLeases, home: Path, point: str
) -> None:
    """R-02, R-30: one container at the end, whichever the moment of the crash."""
    release = await place.release(1)
    with suppress(Killed):
        await _dying_at(place, leases, home, point).apply(place.app, release, {})
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)

    assert [found.release_id for found in await place.target.everything()] == [release.id]
    assert len(await leases.leased()) == 1


async def test_a_removal_that_was_cut_short_is_finished(place: LocalPlace, leases: MemoryLeases, home: Path) -> None:
    release = await place.release(1)
    await place.target.apply(place.app, release, {})
    with suppress(Killed):
        await _dying_at(place, leases, home, "container_removed").remove(place.app, release)
    await place.target.remove(place.app, release)

    assert await leases.leased() == {}


async def test_two_owners_at_once_make_one_container(place: LocalPlace, leases: MemoryLeases, home: Path) -> None:
    """R-15: a paused owner that wakes up beside the new one does no harm."""
    release = await place.release(1)
    other = LocalTarget(place.engine, leases, instance_id=place.instance_id, home=home)
    await asyncio.gather(*(target.apply(place.app, release, {}) for target in (place.target, other, place.target)))
    await becomes(place, release, Health.HEALTHY)

    assert len(await place.target.everything()) == 1


async def test_a_container_that_another_owner_removes_before_it_starts_is_made_again(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, start = await place.release(1), place.engine.start
    removed: list[str] = []

    async def start_later(container: str) -> None:
        if removed:
            return await start(container)
        removed.append(container)
        await place.engine.remove(container, force=True)
        raise EngineConflict("container is marked for removal and cannot be started")

    monkeypatch.setattr(place.engine, "start", start_later)
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)

    assert removed[0] not in {each.workload_id for each in await place.target.everything()}


async def test_a_container_made_from_something_else_is_made_anew(place: LocalPlace) -> None:
    release = await place.release(1)
    await place.target.apply(place.app, release, {})
    changed = replace(release, environment_digest="other")
    await place.target.apply(place.app, changed, {"GREETING": "new"})
    container = await place.engine.inspect(container_name(place.app, changed))

    assert "GREETING=new" in container["Config"]["Env"]


async def test_a_port_held_by_a_stranger_is_left_to_him(place: LocalPlace, leases: MemoryLeases) -> None:
    release = await place.release(1)
    port = await leases.lease(f"release:{release.id}")
    with socket.create_server(("127.0.0.1", port)):
        await place.target.apply(place.app, release, {})
        await becomes(place, release, Health.HEALTHY)

    assert (await leases.leased())[f"release:{release.id}"] != port
    assert len(await place.target.everything()) == 1


async def test_a_container_stopped_by_hand_is_seen_and_comes_back(place: LocalPlace) -> None:
    """R-06."""
    release = await place.release(1)
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)
    await place.engine.stop(container_name(place.app, release), grace_s=1)
    stopped = await place.target.observe(place.app, release)
    await place.target.apply(place.app, release, {})

    assert stopped.health is Health.STOPPED
    await becomes(place, release, Health.HEALTHY)


async def test_a_container_killed_by_hand_is_started_again_by_the_engine(place: LocalPlace) -> None:
    release = await place.release(1, ProjectSettings(health_path="/"))
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)
    pid = (await place.engine.inspect(container_name(place.app, release)))["State"]["Pid"]
    await asyncio.to_thread(_kill, pid)
    await becomes(place, release, Health.STARTING)
    again = await becomes(place, release, Health.HEALTHY)

    assert again.restarts == 1


async def test_a_missing_image_is_named(place: LocalPlace) -> None:
    release = replace(await place.release(1), image_digest=NO_IMAGE)
    with pytest.raises(ImageMissing):
        await place.target.apply(place.app, release, {})

    assert await place.target.everything() == []


async def test_an_image_that_cannot_be_started_leaves_nothing_and_says_why(place: LocalPlace) -> None:
    release = await place.release(1)
    broken = await _changed_image(place, "USER nobody-of-this-name")
    with pytest.raises(NotHealthy) as refused:
        await place.target.apply(place.app, replace(release, image_digest=broken), {})

    assert "nobody-of-this-name" in refused.value.message
    assert await place.target.everything() == []


async def test_a_command_that_is_not_in_the_image_is_named(place: LocalPlace) -> None:
    release = replace(await place.release(1), image_digest=await _changed_image(place, 'CMD ["/no-such-program"]'))
    await place.target.apply(place.app, release, {})
    observed = await becomes(place, release, Health.UNHEALTHY)

    assert (observed.exit_code, "not found in the image" in observed.detail) == (127, True)


async def test_strangers_with_our_names_are_neither_used_nor_touched(place: LocalPlace) -> None:
    """R-09: nothing without our label is touched, whatever its name."""
    release = await place.release(1)
    name = container_name(place.app, release)
    labels = {"klepaas.instance": "somebody-else", "klepaas.release": release.id}
    stranger = await place.engine.create(name, {"Image": release.image_digest, "Labels": labels})
    try:
        with pytest.raises(Rejected) as refused:
            await place.target.apply(place.app, release, {})
        await place.target.remove(place.app, release)
        observed = await place.target.observe(place.app, release)

        assert name in refused.value.message
        assert observed.health is Health.ABSENT
        assert await place.target.everything() == []
        assert (await place.engine.inspect(name))["Id"] == stranger
    finally:
        await place.engine.remove(stranger, force=True)


async def test_a_container_run_by_hand_from_our_image_is_not_ours(place: LocalPlace) -> None:
    release = await place.release(1)
    by_hand = await place.engine.create(f"by-hand-{place.instance_id}", {"Image": release.image_digest})

    assert await place.target.everything() == []
    await place.engine.remove(by_hand)


async def test_the_record_of_a_failure_holds_the_last_lines_after_the_container_is_gone(place: LocalPlace) -> None:
    """R-23."""
    # The engine starts it again: the pause keeps the next run's lines apart from those of the run that ended.
    script = "sleep 1; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; sleep 0.2; echo why >&2; exit 5"
    release = await place.release_of(1, script)
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.UNHEALTHY)
    await place.target.remove(place.app, release)
    kept = await place.target.tail(place.app, release, 200)

    assert len(kept) == 200
    assert {"line 299", "why"} <= set(kept)


async def test_variables_reach_the_app_and_nothing_else(place: LocalPlace) -> None:
    release = await place.release_of(1, 'echo "GREETING is $GREETING, PORT is $PORT"; ' + serving("x"))
    await place.target.apply(place.app, release, {"GREETING": "hush-hush"})
    observed = await becomes(place, release, Health.HEALTHY)

    assert "GREETING is hush-hush, PORT is 8080" in await place.target.tail(place.app, release, 10)
    assert "hush-hush" not in json.dumps(observed.as_dict()) + repr(place.target.plan(place.app, release))


async def test_a_parked_release_does_not_come_back_by_itself_and_one_with_traffic_does(place: LocalPlace) -> None:
    """R-17, R-31: `always` revives also what was stopped when the engine starts again."""
    release = await place.release(1)
    await place.target.open(place.app, [])
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)
    policies = []
    await place.target.park(place.app, release)
    policies.append(await _policy(place, container_name(place.app, release)))
    await place.target.apply(place.app, release, {})
    await place.target.shift(place.app, release)
    policies.append(await _policy(place, container_name(place.app, release)))

    assert policies == ["no", "always"]


async def test_a_frozen_release_thaws_by_itself_once_it_is_about_to_be_wanted(place: LocalPlace) -> None:
    release = await _frozen(place)
    place.target.thaw_ahead(place.app, release)
    async with asyncio.timeout(20):
        while [found.state for found in await place.target.everything()] != ["running"]:
            await asyncio.sleep(0.01)
    await place.target.apply(place.app, release, {})

    assert (await place.target.observe(place.app, release)).health is Health.HEALTHY


async def test_what_answered_as_it_thawed_is_not_looked_at_again(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = await _frozen(place)
    monkeypatch.setattr(glances, "BELIEVED_S", 60.0)
    monkeypatch.setattr(glances, "ANSWER_BELIEVED_S", 60.0)
    place.target.thaw_ahead(place.app, release)
    await place.target.apply(place.app, release, {})
    looks = _noted(monkeypatch, place.engine, "inspect")
    seen = await place.target.observe(place.app, release)

    assert (seen.health, seen.image_digest) == (Health.HEALTHY, release.image_digest)
    assert looks == []
    assert (await place.target.observe(place.app, release)).health is Health.HEALTHY
    assert looks == ["inspect"], "the second look is a look"


async def test_who_looks_while_a_release_thaws_waits_for_the_engines_word(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers before the engine has said that it runs; until then the engine may call it frozen."""
    release = await _frozen(place)
    unpause = place.engine.unpause
    done = _noted(monkeypatch, place.engine, "inspect")

    async def late(container: str) -> None:
        await unpause(container)
        await asyncio.sleep(0.5)
        done.append("said")

    monkeypatch.setattr(place.engine, "unpause", late)
    await place.target.apply(place.app, release, {})
    assert "said" not in done, "it answered before"
    done.clear()
    assert await place.target.park(place.app, release)

    assert done == ["said", "inspect"]
    assert [found.state for found in await place.target.everything()] == ["parked"]


async def test_a_release_that_ended_after_its_thaw_is_not_taken_for_a_running_one(place: LocalPlace) -> None:
    release = await _frozen(place)
    place.target.thaw_ahead(place.app, release)
    await place.target.apply(place.app, release, {})
    await place.engine.stop(container_name(place.app, release), grace_s=0)

    assert (await place.target.observe(place.app, release)).health is not Health.HEALTHY
    assert (await place.target.observe(place.app, release)).health is Health.STOPPED


async def test_nothing_is_parked_when_no_warm_release_is_wanted(
    place: LocalPlace, engine: DockerEngine, leases: MemoryLeases, home: Path
) -> None:
    cold = LocalTarget(
        engine, leases, instance_id=place.instance_id, home=home, docker=DockerSettings.model_validate({"warm_for": 0})
    )
    release = await place.release(1)
    await cold.apply(place.app, release, {})

    assert await cold.park(place.app, release) is False


async def test_without_the_engine_the_state_is_unknown(home: Path, leases: MemoryLeases, place: LocalPlace) -> None:
    """R-06: what is not known is shown as unknown."""
    gone = DockerEngine(f"unix://{home}/no.sock")
    target = LocalTarget(gone, leases, instance_id=place.instance_id, home=home)
    observed = await target.observe(place.app, await place.release(1))

    assert observed.health is Health.UNKNOWN
    assert "cannot be reached" in observed.detail


async def test_changes_name_the_app_whose_container_ended(place: LocalPlace) -> None:
    release = await place.release(1)
    await place.target.apply(place.app, release, {})
    changes = place.target.changes()
    first = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.1)
    await place.engine.stop(container_name(place.app, release), grace_s=1)

    assert await asyncio.wait_for(first, 20) == place.app.name


async def _policy(place: LocalPlace, name: str) -> str:
    return str((await place.engine.inspect(name))["HostConfig"]["RestartPolicy"]["Name"])


async def _changed_image(place: LocalPlace, change: str) -> str:
    changes = ['CMD ["/bin/busybox", "true"]', change, f"LABEL klepaas.instance={place.instance_id}"]
    files = archive_of({"bin/busybox": BUSYBOX})
    return await place.engine.import_image(
        files, repository=f"klepaas-test-{place.instance_id}", tag="broken", changes=changes
    )


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def _frozen(place: LocalPlace) -> Release:
    """One that was healthy."""
    release = await place.release(1)
    await place.target.apply(place.app, release, {})
    await becomes(place, release, Health.HEALTHY)
    await place.target.park(place.app, release)
    return release


def _noted(monkeypatch: pytest.MonkeyPatch, engine: DockerEngine, method: str) -> list[str]:
    """The calls of this method from now on."""
    calls: list[str] = []
    real = getattr(engine, method)

    async def noted(*args: Any) -> Any:
        calls.append(method)
        return await real(*args)

    monkeypatch.setattr(engine, method, noted)
    return calls
