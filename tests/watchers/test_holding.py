"""The watcher and a deployment that starts in the same instant: one of them has the app, never both."""

import asyncio
from datetime import timedelta

import pytest

from klepaas.domain.observation import Health
from klepaas.domain.project import Project
from klepaas.domain.status import Status
from klepaas.errors import ImageMissing
from klepaas.operations.ports.apps import AppState
from klepaas.testing.fake_build import sha_of
from klepaas.watchers.workloads import Workloads
from tests.workflows.conftest import here as here
from tests.workflows.world import World

ONE, TWO = sha_of("one"), sha_of("two")


async def test_a_rollback_waits_while_the_watcher_removes_its_warm_release(here: World) -> None:
    """Else it would thaw the release, send traffic there, and lose it."""
    watcher, state = await _live_and_warm(here)
    await here.context.apps.warm(state.app, state.warm_release_id, here.context.clock.now() - timedelta(seconds=1))
    removing = here.target.hang("remove")
    async with here.node():
        looking = asyncio.create_task(watcher.look(await _state(here, state)))
        await _until_called(here, f"remove:{state.warm_release_id}")
        back = await here.roll_back(await _project(here, state), commit=ONE)
        await asyncio.sleep(0.5)
        waiting = await here.context.deployments.get(back.id)
        removing.set()
        await looking
        done = await here.ended(back)

    assert waiting is not None
    assert (waiting.status, done.status) == (Status.QUEUED, Status.SUCCEEDED)
    assert here.target.workloads[done.release_id or ""].state == "running"
    assert here.target.traffic[state.app.key] == done.release_id


async def test_a_watcher_that_read_the_record_before_a_rollback_leaves_its_release_alone(here: World) -> None:
    """It acts on what the record says now: what was warm is live, and what was live is warm."""
    watcher, stale = await _live_and_warm(here)
    async with here.node():
        done = await here.ended(await here.roll_back(await _project(here, stale), commit=ONE))
    await watcher.look(stale)

    states = {release_id: workload.state for release_id, workload in here.target.workloads.items()}
    assert states == {stale.warm_release_id: "running", stale.live_release_id: "parked"}
    assert here.target.traffic[stale.app.key] == done.release_id == stale.warm_release_id


async def test_the_watcher_does_nothing_while_a_deployment_of_the_app_is_under_way(here: World) -> None:
    watcher, state = await _live_and_warm(here)
    here.builder.gate = asyncio.Event()
    async with here.node():
        under_way = await here.deploy(await _project(here, state), ONE, rebuild=True)
        await here.builder.building.wait()
        here.target.traffic[state.app.key] = state.warm_release_id or ""
        before = len(here.target.calls)
        await watcher.look(await _state(here, state))
        during = here.target.calls[before:]
        here.builder.gate.set()
        await here.ended(under_way)

    assert not [call for call in during if call.split(":")[0] in {"apply", "remove", "park", "shift", "close"}]


async def test_traffic_that_goes_elsewhere_is_sent_to_the_live_release_again(here: World) -> None:
    watcher, state = await _live_and_warm(here)
    here.target.traffic[state.app.key] = state.warm_release_id or ""
    await watcher.look(state)

    assert here.target.traffic[state.app.key] == state.live_release_id


async def test_what_a_retired_project_still_runs_is_ended(here: World) -> None:
    """R-30: killed in the middle of retiring it."""
    watcher, state = await _live_and_warm(here)
    await here.context.projects.retire(state.app.project_id, here.context.clock.now())
    await watcher.look_everywhere()

    assert here.target.workloads == {}
    assert here.target.traffic == {}


async def _live_and_warm(here: World) -> tuple[Workloads, AppState]:
    """A watcher, and the state of an app whose commit TWO is live and ONE is warm."""
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        for commit in (ONE, TWO):
            assert (await here.ended(await here.deploy(project, commit))).status is Status.SUCCEEDED
    here.builder.building.clear()
    [state] = await here.context.apps.all()

    async def leads() -> bool:
        return True

    return Workloads(here.context, timedelta(seconds=60), leads), state


async def _state(here: World, state: AppState) -> AppState:
    found = await here.context.apps.get(state.app.project_id, state.app.environment)
    assert found is not None
    return found


async def _project(here: World, state: AppState) -> Project:
    found = await here.context.projects.get(state.app.project_id)
    assert found is not None
    return found


async def _until_called(here: World, call: str) -> None:
    async with asyncio.timeout(10):
        while call not in here.target.calls:
            await asyncio.sleep(0.01)


async def test_a_release_that_cannot_be_started_again_is_not_shown_as_healthy(here: World) -> None:
    """R-06: container and image were removed by hand; the status says so, and why nothing can be done about it."""
    watcher, state = await _live_and_warm(here)
    del here.target.workloads[state.live_release_id or ""]
    for _ in range(2):
        here.target.fail("apply", ImageMissing("The image is gone."))
        with pytest.raises(ImageMissing):
            await watcher.look(await _state(here, state))

    now = await _state(here, state)
    assert (now.health, now.health_detail) == (
        Health.ABSENT,
        "There is no such workload. It cannot be started again: The image is gone.",
    )
    seen = [each.detail for each in await here.context.apps.changes(state.app.key)]
    assert seen.count(now.health_detail) == 1, "told once, however often it is tried"
