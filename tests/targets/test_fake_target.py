"""The fake keeps the same contract as the real targets, so that tests that use it mean something."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from klepaas.domain.observation import Health
from klepaas.domain.project import App, ProjectSettings
from klepaas.domain.release import Release
from klepaas.errors import Rejected, Unavailable
from klepaas.testing.fake_target import EVERY, FakeTarget
from klepaas.testing.target_contract import (
    KeepsWarmContract,
    RunsCommandsContract,
    ShiftsTrafficContract,
    ShowsEverythingContract,
    TargetContract,
)
from tests.targets.releases import a_release, an_app


class _Saying(FakeTarget):
    async def apply(
        self, app: App, release: Release, variables: Mapping[str, str], *, deployment_id: str | None = None
    ) -> None:
        new = release.id not in self.workloads
        await super().apply(app, release, variables)
        if new:
            self.print(release.id, f"release {release.number} began")


@dataclass
class FakePlace:
    target: FakeTarget = field(default_factory=_Saying)
    app: App = field(default_factory=an_app)

    async def release(self, number: int) -> Release:
        return a_release(self.app, number)

    async def release_with_command(self, number: int, *, exit_code: int) -> Release:
        self.target.command_ends.append(exit_code)
        return a_release(self.app, number, settings=ProjectSettings(release_command=("migrate",)))

    async def broken_release(self, number: int) -> Release:
        release = a_release(self.app, number)
        self.target.script(release.id, Health.STARTING, Health.UNHEALTHY)
        return release


@pytest.fixture
def place() -> FakePlace:
    return FakePlace()


class TestFakeTarget(
    TargetContract, ShiftsTrafficContract, KeepsWarmContract, RunsCommandsContract, ShowsEverythingContract
):
    pass


async def test_looks_follow_the_script_and_stay_at_its_end(place: FakePlace) -> None:
    place.target.script(EVERY, Health.STARTING, Health.UNHEALTHY, Health.HEALTHY)
    release = await place.release(1)
    await place.target.apply(place.app, release, {})
    seen = [(await place.target.observe(place.app, release)).health for _ in range(4)]

    assert seen == [Health.STARTING, Health.UNHEALTHY, Health.HEALTHY, Health.HEALTHY]


async def test_a_planned_failure_happens_once_and_touches_nothing(place: FakePlace) -> None:
    release = await place.release(1)
    place.target.fail("apply", Rejected("no"))
    with pytest.raises(Rejected):
        await place.target.apply(place.app, release, {})

    assert list(await place.target.running(place.app)) == []
    await place.target.apply(place.app, release, {})


async def test_out_of_reach_is_unknown_to_a_look_and_unavailable_to_a_change(place: FakePlace) -> None:
    release = await place.release(1)
    place.target.reachable = False
    with pytest.raises(Unavailable):
        await place.target.apply(place.app, release, {})

    assert (await place.target.observe(place.app, release)).health is Health.UNKNOWN


async def test_a_hanging_call_goes_on_when_it_is_let_go(place: FakePlace) -> None:
    gate = place.target.hang("apply")
    release = await place.release(1)
    task = asyncio.create_task(place.target.apply(place.app, release, {}))
    await asyncio.sleep(0.01)
    waiting = not task.done()
    gate.set()
    await task

    assert waiting


async def test_an_ended_workload_is_told_as_a_change(place: FakePlace) -> None:
    release = await place.release(1)
    await place.target.apply(place.app, release, {})
    place.target.end(release.id, exit_code=7)
    changed = await anext(place.target.changes())
    observed = await place.target.observe(place.app, release)

    assert changed == place.app.name
    assert (observed.health, observed.exit_code) == (Health.STOPPED, 7)
