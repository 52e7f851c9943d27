"""Deployments to a target that moves its traffic itself and may carry out what it was told after our deadline."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from klepaas.domain.observation import Health
from klepaas.domain.project import Project
from klepaas.domain.status import Status
from klepaas.errors import Invalid, Rejected
from klepaas.operations import projects
from klepaas.operations.projects import Registration
from klepaas.settings import Deadlines
from klepaas.testing.fake_build import sha_of
from klepaas.testing.rolling_target import RollingTarget
from klepaas.watchers.workloads import Workloads
from tests.workflows.world import World

ONE, TWO = sha_of("one"), sha_of("two")


@pytest.fixture
def rolling(here: World) -> RollingTarget:
    target = RollingTarget()
    here.context = replace(here.context, targets={**here.context.targets, "rolling": target})
    here.source.branches["main"] = [ONE, TWO]
    here.deadlines = Deadlines(verify=timedelta(seconds=0.2))
    return target


async def _project(here: World) -> Project:
    wanted = Registration(
        repository="acme/shop",
        name="shop",
        target="rolling",
        settings={"hosts": ["shop.example.org"], "health_timeout_s": 0.2},
    )
    return await projects.register(here.context, here.actor, wanted)


async def test_what_was_seen_of_the_rollout_is_the_proof(here: World, rolling: RollingTarget) -> None:
    project = await _project(here)
    async with here.node():
        ended = await here.ended(await here.deploy(project, ONE))

    assert ended.status is Status.SUCCEEDED
    assert ended.evidence["answer"]["health"] == "healthy"
    assert ended.evidence["answer"]["image_digest"] == ended.image_digest
    assert ended.urls == ("https://shop.example.org",)
    assert ended.live_at is not None


async def test_a_rollback_is_told_as_a_deployment_of_its_own(here: World, rolling: RollingTarget) -> None:
    """The release is the earlier one's, and so would be a key made of it."""
    project = await _project(here)
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        second = await here.ended(await here.deploy(project, TWO))
        back = await here.ended(await here.roll_back(project, steps_back=1))

    assert back.status is Status.SUCCEEDED
    assert back.release_id == first.release_id
    assert rolling.told == [first.id, second.id, back.id]
    assert here.builder.builds == [ONE, TWO]


@pytest.mark.parametrize(("later", "status"), [(Health.HEALTHY, Status.SUCCEEDED), (Health.STOPPED, Status.FAILED)])
async def test_a_run_that_outlasts_the_deadline_is_unknown_until_it_is_seen(
    here: World, rolling: RollingTarget, later: Health, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klepaas.workflows.deploy.SETTLE_EVERY", timedelta(milliseconds=20))
    project = await _project(here)
    rolling.goes = Health.STARTING
    async with here.node():
        submitted = await here.deploy(project, ONE)
        unknown = await here.reaching(submitted, Status.UNKNOWN)
        rolling.goes = later
        ended = await here.ended(submitted)

    assert unknown.failure is not None
    assert ended.status is status
    assert rolling.told == [submitted.id]
    state = await here.context.apps.get(project.id, project.environment)
    assert state is not None
    assert (state.live_deployment_id == submitted.id) is (status is Status.SUCCEEDED)
    if status is Status.FAILED:
        assert ended.failure is not None
        assert "turned out to have failed" in ended.failure.message


async def test_what_never_began_when_the_target_was_away_is_settled_as_failed(
    here: World, rolling: RollingTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klepaas.workflows.deploy.SETTLE_EVERY", timedelta(milliseconds=20))
    here.deadlines = Deadlines(release=timedelta(seconds=0.2))
    project = await _project(here)
    rolling.reachable = False
    async with here.node():
        submitted = await here.deploy(project, ONE)
        await here.reaching(submitted, Status.UNKNOWN)
        rolling.reachable = True
        ended = await here.ended(submitted)

    assert ended.status is Status.FAILED
    assert rolling.told == []


async def test_a_rollout_that_says_no_fails_at_once_and_leaves_the_record(here: World, rolling: RollingTarget) -> None:
    project = await _project(here)
    async with here.node():
        first = await here.ended(await here.deploy(project, ONE))
        rolling.goes = Health.STOPPED
        second = await here.ended(await here.deploy(project, TWO))
    state = await here.context.apps.get(project.id, project.environment)

    assert second.status is Status.FAILED
    assert state is not None
    assert state.live_deployment_id == first.id
    assert rolling.removed == [second.release_id]
    assert rolling.restored == [first.release_id]


async def test_the_watcher_looks_seldom_and_starts_nothing_again(here: World, rolling: RollingTarget) -> None:
    project = await _project(here)
    async with here.node():
        await here.ended(await here.deploy(project, ONE))
    rolling.goes, rolling.look_every = Health.ABSENT, timedelta(0)
    rolling.done_by_hand = ["Run 7 was started by kim."]
    watcher = Workloads(here.context, timedelta(seconds=15), lambda: asyncio.sleep(0, True))
    await watcher.look_everywhere()
    await watcher.look_seldom("rolling", rolling)
    rolling.look_every, before = timedelta(hours=1), rolling.looks
    await watcher.look_seldom("rolling", rolling)
    state = await here.context.apps.get(project.id, project.environment)
    assert state is not None
    [change, *_] = await here.context.apps.changes(state.app.key)

    assert rolling.looks == before
    assert len(rolling.told) == 1
    assert state.health is Health.ABSENT
    assert change.action == "Run 7 was started by kim."


async def test_a_target_that_is_not_set_up_is_refused_with_what_sets_it_up(here: World, rolling: RollingTarget) -> None:
    project = await _project(here)
    here.context = replace(here.context, targets={}, absent_targets={"rolling": "Set KLEPAAS_ROLLING."})

    with pytest.raises(Rejected, match="no target 'rolling' here") as refused:
        await here.deploy(project, ONE)
    with pytest.raises(Invalid, match="no target 'rolling' here"):
        await projects.register(here.context, here.actor, Registration(repository="acme/cart", target="rolling"))
    assert refused.value.hint == "Set KLEPAAS_ROLLING."


async def test_a_deployment_that_was_queued_when_its_target_went_fails_and_says_so(
    here: World, rolling: RollingTarget, tmp_path: Path
) -> None:
    project = await _project(here)
    submitted = await here.deploy(project, ONE)
    here.context = replace(here.context, targets={})
    async with here.node():
        ended = await here.ended(submitted)

    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert "no target 'rolling' here" in ended.failure.message
