"""What goes wrong in the middle: half of a stage, the undoing of it, an outcome nobody could see."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from klepaas.domain.observation import Health
from klepaas.domain.status import Status
from klepaas.errors import BuildFailed, NotFound, NotHealthy, Rejected, Unavailable
from klepaas.operations import projects
from klepaas.settings import Deadlines
from klepaas.storage.tables import deployments as table
from klepaas.storage.tables import projects as projects_table
from klepaas.testing.fake_build import sha_of
from klepaas.watchers.workloads import Workloads
from klepaas.workflows import deploy
from tests.workflows.world import World

ONE, TWO = sha_of("one"), sha_of("two")


async def test_a_refused_front_door_leaves_no_container_that_starts_afterwards(here: World) -> None:
    """R-30: the release was being started at the same moment."""
    project = await here.project()
    here.target.fail("open", Rejected("This host name is another app's."))
    here.target.slow("apply", 0.3)
    async with here.node():
        done = await here.ended(await here.deploy(project))
        await asyncio.sleep(0.5)

    assert done.status is Status.FAILED
    assert here.target.workloads == {}


async def test_nothing_is_written_after_the_end_by_the_other_half_of_a_stage(here: World) -> None:
    project = await here.project()
    here.target.fail("apply", NotHealthy("It cannot be started."))
    here.target.fail("open", *(Unavailable("The proxy is away.") for _ in range(50)))
    async with here.node():
        done = await here.ended(await here.deploy(project))
        await asyncio.sleep(1.5)
        kinds = await here.kinds(done)

    assert kinds[-1] == "deployment.failed"
    assert kinds.count("deployment.failed") == 1


async def test_both_halves_may_have_something_to_tell_at_once(here: World) -> None:
    project = await here.project()
    here.target.fail("apply", Unavailable("The engine is away."))
    here.target.fail("open", Unavailable("The proxy is away."))
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert (done.status, done.fence) == (Status.SUCCEEDED, 1)
    assert (await here.kinds(done)).count("stage.retry_scheduled") == 2


async def test_undoing_that_meets_a_fault_of_our_own_ends_all_the_same(here: World) -> None:
    """What could not be undone is the reconciler's; the app is free for its next deployment."""
    project = await here.project(health_timeout_s=1)
    here.target.script(ONE, Health.STARTING)
    here.target.fail("remove", OSError(28, "No space left on device"))
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        failed = await here.ended(await here.deploy(project, ONE))
        good = await here.ended(await here.deploy(project, TWO))

    assert (failed.status, failed.fence, good.status) == (Status.FAILED, 1, Status.SUCCEEDED)
    assert list(here.target.workloads) == [good.release_id]


@pytest.mark.parametrize("recovers", [True, False])
async def test_an_unknown_outcome_is_settled_well_only_by_an_app_that_serves(
    here: World, monkeypatch: pytest.MonkeyPatch, recovers: bool
) -> None:
    """An answer of the new release that is an error of its own proves nothing, here as in the stage itself."""
    monkeypatch.setattr(deploy, "SETTLE_FOR_S", 1.0)
    here.deadlines = Deadlines(promote=timedelta(seconds=0.3))
    project = await here.project()
    here.target.script(ONE, Health.HEALTHY, Health.HEALTHY, Health.UNHEALTHY)
    async with here.node():
        started = await here.deploy(project, ONE)
        async with asyncio.timeout(10):
            while "traffic.shift_decided" not in await here.kinds(started):
                await asyncio.sleep(0.01)
        here.target.reachable = False
        unknown = await here.reaching(started, Status.UNKNOWN)
        here.target.reachable = True
        if recovers:
            here.target.script(ONE, Health.HEALTHY)
        async with here.database.write() as connection:
            await connection.execute(sa.update(table).values(look_again_at=None))
        here.runner.wake()
        done = await here.ended(started)

    assert unknown.live_at is None
    assert done.status is (Status.SUCCEEDED if recovers else Status.FAILED)
    assert (done.live_at is not None, bool(done.urls), "answer" in done.evidence) == (recovers,) * 3


async def test_what_our_own_memory_could_not_say_is_no_failed_request_of_a_switch(here: World) -> None:
    project = await here.project(switch_failed_budget=0)
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        await here.ended(await here.deploy(project, ONE))
        here.target.fail("answering", *(Unavailable("The database does not answer.") for _ in range(3)))
        done = await here.ended(await here.deploy(project, TWO))

    assert done.status is Status.SUCCEEDED
    assert done.evidence["certificate"]["failed"] == 0
    assert done.evidence["certificate"]["requests"] > 0


async def test_a_rollback_that_waits_for_another_deployment_thaws_nothing_yet(here: World) -> None:
    project = await here.project()
    here.source.branches["main"] = [ONE, TWO]
    async with here.node():
        for commit in (ONE, TWO):
            await here.ended(await here.deploy(project, commit))
        here.builder.building.clear()
        here.builder.gate = asyncio.Event()
        building = await here.deploy(project, TWO, rebuild=True)
        await here.builder.building.wait()
        back = await here.roll_back(project, commit=ONE)
        thawed = [call for call in here.target.calls if call.startswith("thaw_ahead")]
        here.builder.gate.set()
        ends = [(await here.ended(each)).status for each in (building, back)]

    assert thawed == []
    assert ends == [Status.SUCCEEDED, Status.SUCCEEDED]


async def test_a_project_that_was_removed_in_this_moment_is_not_deployed(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking for it and writing the deployment down: a rollback may ask the engine and git meanwhile."""
    project = await here.project()
    ensure = here.context.apps.ensure

    async def removed_meanwhile(*args: object) -> object:
        await here.context.projects.retire(project.id, here.context.clock.now())
        return await ensure(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(here.context.apps, "ensure", removed_meanwhile)
    with pytest.raises(NotFound, match="removed"):
        await here.deploy(project)

    assert await here.context.deployments.of_project(project.id) == []


async def test_of_a_submission_and_a_removal_that_race_one_is_refused(here: World) -> None:
    for number in range(10):
        project = await here.project(f"shop-{number}")
        racing = (here.deploy(project), projects.retire(here.context, here.actor, project.id))
        submitted, removed = await asyncio.gather(*racing, return_exceptions=True)

        assert isinstance(submitted, BaseException) != isinstance(removed, BaseException)


async def test_a_deployment_whose_project_is_gone_ends(here: World) -> None:
    """However that came about: it would be taken up again every second, and nobody could cancel it."""
    project = await here.project()
    started = await here.deploy(project)
    async with here.database.write() as connection:
        await connection.execute(sa.update(projects_table).values(retired_at=datetime.now(UTC)))
    async with here.node():
        done = await here.ended(started)

    assert done.failure is not None
    assert (done.status, done.failure.code) == (Status.FAILED, "not_found")


async def test_images_of_deployments_that_failed_do_not_pile_up(here: World) -> None:
    """R-09: the newest one stays for the next try."""
    project = await here.project(keep_releases=1, health_timeout_s=1)
    good, *bad = commits = [sha_of(str(n)) for n in range(4)]
    here.source.branches["main"] = commits
    for commit in bad:
        here.target.script(commit, Health.STARTING, Health.STOPPED)
    async with here.node():
        for commit in commits:
            await here.ended(await here.deploy(project, commit))
        kept = {image.commit_sha for image in here.builder.images.values()}
        await projects.retire(here.context, here.actor, project.id)

    assert kept == {good, bad[-1]}
    assert here.builder.images == {}


async def test_images_that_cannot_be_collected_are_no_reason_not_to_end(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> list[str]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(here.builder, "collect", broken)
    here.builder.failures.append(BuildFailed("The build failed."))
    project = await here.project()
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert (done.status, done.fence) == (Status.FAILED, 1)


async def test_a_project_is_removed_also_while_its_target_is_away(here: World) -> None:
    """What is left of it is the reconciler's: its images, too."""
    project = await here.project()
    async with here.node():
        await here.ended(await here.deploy(project))
    here.target.reachable = False
    await projects.retire(here.context, here.actor, project.id)
    left = dict(here.builder.images)
    here.target.reachable = True

    async def leads() -> bool:
        return True

    await Workloads(here.context, timedelta(seconds=60), leads).look_everywhere()

    assert left != {}
    assert (here.builder.images, here.target.workloads, here.target.traffic) == ({}, {}, {})


async def test_the_deadline_of_the_whole_deployment_is_named_as_that(here: World) -> None:
    here.deadlines = Deadlines(deployment=timedelta(seconds=0.5))
    project = await here.project()
    here.builder.gate = asyncio.Event()
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.failure is not None
    assert "not live within 0.5 s; it was in its stage build" in done.failure.message
