"""What GitHub shows in the end is what the record says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from klepaas.domain.deployment import Deployment
from klepaas.domain.events import DeploymentRolledBack, ImagePinned, TrafficReturned, TrafficShiftDecided
from klepaas.domain.github import DeploymentState, StatusState
from klepaas.domain.project import Project
from klepaas.domain.status import Stage
from klepaas.errors import Rejected, Unavailable
from klepaas.operations import deployments
from klepaas.storage.tables import reports as table
from klepaas.watchers import reports as watcher
from klepaas.watchers.reports import Reports
from tests.operations.hub import EACH_DATABASE, Hub, roll_back

PLACE = "klepaas/production"
AWAY = Unavailable("GitHub does not answer.")


class Told:
    """A project with a connection, and the watcher that tells GitHub about it."""

    def __init__(self, hub: Hub, project: Project) -> None:
        self.hub, self.project, self.github = hub, project, hub.github

    async def now(self) -> None:
        """GitHub is told what is due now, whatever rest was meant to come before."""
        await self.due_now()
        await reports(self.hub).look()

    async def due_now(self) -> None:
        async with self.hub.world.database.write() as connection:
            waiting = sa.update(table).where(table.c.due_at.is_not(None))
            await connection.execute(waiting.values(due_at=0.0))

    def state(self, deployment: Deployment) -> DeploymentState | None:
        return self.github.state_of(deployment.id)

    def status(self, deployment: Deployment) -> tuple[StatusState, str]:
        found = self.github.status_of(deployment.commit_sha or "", PLACE)
        assert found is not None
        return found.state, found.description


def reports(hub: Hub, *, alone: bool = False) -> Reports:
    async def leads() -> bool:
        return True

    return Reports(context=hub.context, leads=leads, alone=alone)


@asynccontextmanager
async def telling(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The watcher of a process that is alone: it hears of what happens, and would not look by itself."""
    monkeypatch.setattr(watcher, "REST_S", 0.01)
    monkeypatch.setattr(watcher, "QUIET_FOR_S", 3600.0)
    running = asyncio.create_task(reports(hub, alone=True).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def told(hub: Hub) -> Told:
    connection = await hub.connection()
    return Told(hub, await hub.project(connection_id=connection.id))


async def test_github_sees_a_deployment_from_its_turn_to_its_end(told: Told) -> None:
    hub, github = told.hub, told.github
    deployment = await hub.deployed(hub.github.push())
    await told.now()
    assert (told.state(deployment), told.status(deployment)[0]) == (DeploymentState.QUEUED, StatusState.PENDING)
    await hub.starts(deployment)
    await told.now()
    assert (told.state(deployment), told.status(deployment)[0]) == (DeploymentState.IN_PROGRESS, StatusState.PENDING)
    await hub.succeeds(deployment)
    await told.now()

    [shown] = github.told
    assert told.status(deployment) == (StatusState.SUCCESS, "Live in production.")
    assert (shown.state, shown.environment, shown.production) == (DeploymentState.SUCCESS, "production", True)
    assert shown.environment_url == "http://127.0.0.1:20000"


async def test_a_process_that_is_alone_tells_what_it_hears_of_and_rests_meanwhile(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = told.hub
    async with telling(hub, monkeypatch):
        await asyncio.sleep(0.1)
        deployment = await hub.deployed(hub.github.push())
        hub.context.feed.tell(deployment.id)
        await until(lambda: told.state(deployment) is DeploymentState.QUEUED)
        await hub.starts(deployment)
        await asyncio.sleep(0.1)
        assert told.state(deployment) is DeploymentState.QUEUED
        hub.context.feed.tell(deployment.id)
        await until(lambda: told.state(deployment) is DeploymentState.IN_PROGRESS)


async def test_what_a_killed_process_had_taken_on_is_told_as_soon_as_it_runs_again(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = told.hub
    deployment = await hub.deployed(hub.github.push())
    await hub.context.reports.notice()
    assert await hub.context.reports.claim(limit=50, lease=timedelta(minutes=2))
    async with telling(hub, monkeypatch):
        await until(lambda: told.state(deployment) is DeploymentState.QUEUED)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_failure_is_told_with_its_reason_within_githubs_limit(told: Told) -> None:
    hub = told.hub
    deployment = await hub.fails(await hub.deployed(hub.github.push()), "No Dockerfile.\n" + "x" * 500)

    await told.now()

    state, description = told.status(deployment)
    assert (state, told.state(deployment)) == (StatusState.FAILURE, DeploymentState.FAILURE)
    assert description.startswith("build: No Dockerfile. xxx")
    assert len(description) == 140


async def test_what_does_not_run_any_more_is_inactive_in_production_too(told: Told) -> None:
    hub = told.hub
    first = await hub.live(hub.github.push())
    await told.now()
    second = await hub.live(hub.github.push())
    await told.now()

    assert (told.state(first), told.state(second)) == (DeploymentState.INACTIVE, DeploymentState.SUCCESS)
    assert (second.commit_sha or "")[:7] in told.status(first)[1]


@EACH_DATABASE
async def test_a_rollback_sets_both_commits_right(told: Told) -> None:
    hub = told.hub
    good, bad = await hub.live(hub.github.push()), await hub.live(hub.github.push())
    await told.now()
    rollback = await roll_back(hub, good.commit_sha or "")
    await told.now()

    assert told.github.state_of(rollback) is DeploymentState.SUCCESS
    assert (told.state(good), told.state(bad)) == (DeploymentState.INACTIVE, DeploymentState.INACTIVE)
    assert told.status(good) == (StatusState.SUCCESS, "Live in production.")
    assert "taken back" in told.status(bad)[1]


async def test_an_unknown_outcome_is_never_shown_as_success(told: Told) -> None:
    hub = told.hub
    deployment = await hub.starts(await hub.deployed(hub.github.push()))
    await hub.goes(deployment, *deployment.lose_sight(Stage.VERIFY, code="x", message="The engine is silent."))

    await told.now()

    state, description = told.status(deployment)
    assert (state, told.state(deployment)) == (StatusState.ERROR, DeploymentState.ERROR)
    assert description == "Not known yet whether it is live in production. The engine is silent."


@EACH_DATABASE
async def test_a_switch_that_is_taken_back_leaves_the_old_one_active_all_along(told: Told) -> None:
    hub = told.hub
    old = await hub.live(hub.github.push())
    await told.now()
    new = await hub.starts(await hub.deployed(hub.github.push()))
    decided = TrafficShiftDecided(
        release_id="rel_new", previous_release_id=old.release_id, previous_deployment_id=old.id
    )
    new = await hub.goes(new, ImagePinned(image_digest="sha256:b", image_ref="shop:2", reused=False), decided)
    await told.now()
    assert told.state(old) is DeploymentState.SUCCESS
    returned = TrafficReturned(
        release_id="rel_new",
        previous_release_id=old.release_id,
        previous_deployment_id=old.id,
        reason="It was slow.",
    )
    ended = DeploymentRolledBack(stage="promote", code="x", message="It was slow.", evidence={})
    await hub.goes(new, returned, ended)
    await told.now()

    assert (told.state(old), told.state(new)) == (DeploymentState.SUCCESS, DeploymentState.FAILURE)
    assert DeploymentState.INACTIVE not in [state for state, _ in told.github.told[0].states]


async def test_what_waits_while_a_switch_is_under_way_is_told_as_well(told: Told) -> None:
    """It has no release yet that could be compared with the one before the switch."""
    hub = told.hub
    old = await hub.live(hub.github.push())
    new = await hub.starts(await hub.deployed(hub.github.push()))
    decided = TrafficShiftDecided(
        release_id="rel_new", previous_release_id=old.release_id, previous_deployment_id=old.id
    )
    await hub.goes(new, ImagePinned(image_digest="sha256:b", image_ref="shop:2", reused=False), decided)
    waiting = await hub.deployed(hub.github.push())
    await told.now()

    assert told.state(waiting) is DeploymentState.QUEUED


async def test_superseded_and_cancelled_deployments_do_not_stay_pending(told: Told) -> None:
    hub = told.hub
    first = await hub.deployed(hub.github.push())
    await told.now()
    second = await hub.deployed(hub.github.push())
    await deployments.cancel(hub.context, hub.world.actor, second.id)
    await told.now()

    assert {told.status(first)[0], told.status(second)[0]} == {StatusState.ERROR}
    assert told.state(first) is DeploymentState.INACTIVE
    assert told.state(second) is None  # GitHub never heard of it: it ended before anything was told


async def test_the_pull_request_gets_one_comment_that_follows(told: Told) -> None:
    hub = told.hub
    deployment = await hub.starts(await hub.deployed(hub.github.push(pull_request=7)))
    await told.now()
    [(number, marker)] = told.github.comments
    assert (number, "being deployed" in told.github.comments[number, marker]) == (7, True)
    await hub.succeeds(deployment)
    await told.now()

    assert len(told.github.comments) == 1
    assert "live at http://127.0.0.1:20000" in told.github.comments[7, marker]


async def test_the_comment_follows_a_rollback(told: Told) -> None:
    hub = told.hub
    good = await hub.live(hub.github.push(pull_request=7))
    await hub.live(hub.github.push(pull_request=8))
    await told.now()
    await roll_back(hub, good.commit_sha or "")
    await told.now()

    texts = {number: text for (number, _), text in told.github.comments.items()}
    assert "production: live" in texts[7]
    assert "not running any more" in texts[8]


async def test_what_others_wrote_can_mention_nobody_in_a_comment(told: Told) -> None:
    """S-12."""
    hub = told.hub
    await hub.fails(await hub.deployed(hub.github.push(pull_request=7)), "`@acme/everyone` <img src=x>")

    await told.now()

    [text] = told.github.comments.values()
    assert "`build: '@acme/everyone' <img src=x>`" in text


@EACH_DATABASE
async def test_nothing_is_told_twice(told: Told) -> None:
    hub = told.hub
    await hub.live(hub.github.push(pull_request=7))
    await told.now()
    asked = list(told.github.asked)

    for _ in range(3):
        await told.now()

    assert told.github.asked == asked


@EACH_DATABASE
async def test_after_an_outage_github_agrees_with_the_record(told: Told) -> None:
    """A push, its failure, its repair and a rollback happen while GitHub is away."""
    hub, github = told.hub, told.github
    first = await hub.live(github.push())
    await told.now()
    github.fault = AWAY
    broken = await hub.fails(await hub.deployed(github.push()))
    await told.now()
    second = await hub.live(github.push())
    await told.now()
    rollback = await roll_back(hub, first.commit_sha or "")
    await told.now()
    github.fault = None
    await told.now()

    assert told.github.state_of(rollback) is DeploymentState.SUCCESS
    assert [told.state(each) for each in (first, broken, second)] == [
        DeploymentState.INACTIVE,
        DeploymentState.FAILURE,
        DeploymentState.INACTIVE,
    ]
    assert [told.status(each)[0] for each in (first, broken)] == [StatusState.SUCCESS, StatusState.FAILURE]


async def test_an_answer_that_was_lost_leads_to_no_second_deployment(told: Told) -> None:
    hub, github = told.hub, told.github
    make = github.create_deployment

    async def make_and_lose_the_answer(*args: object, **more: object) -> int:
        await make(*args, **more)  # type: ignore[arg-type]
        raise AWAY

    github.create_deployment = make_and_lose_the_answer  # type: ignore[method-assign]
    deployment = await hub.live(github.push())
    await told.now()
    github.create_deployment = make  # type: ignore[method-assign]
    await told.now()

    assert len(github.told) == 1
    assert told.state(deployment) is DeploymentState.SUCCESS


async def test_github_is_asked_again_after_the_time_it_named_and_not_before(told: Told) -> None:
    hub, github = told.hub, told.github
    await hub.live(github.push())
    github.fault = Unavailable("You have exceeded a secondary rate limit.", retry_after=timedelta(minutes=5))
    watcher = reports(hub)
    await watcher.look()
    tries = len(github.asked)
    github.fault = None

    await watcher.look()

    assert len(github.asked) == tries
    await told.now()
    assert github.told[0].state is DeploymentState.SUCCESS


async def test_a_missing_permission_for_one_report_does_not_keep_back_the_others(told: Told) -> None:
    hub, github = told.hub, told.github

    async def refuse(*_: object, **__: object) -> int:
        raise Rejected("Resource not accessible by integration")

    github.create_deployment = refuse  # type: ignore[method-assign]
    deployment = await hub.live(github.push(pull_request=7))

    await told.now()

    assert told.status(deployment)[0] is StatusState.SUCCESS
    assert len(github.comments) == 1


@EACH_DATABASE
async def test_two_processes_tell_github_once(told: Told) -> None:
    hub, github = told.hub, told.github
    await hub.live(github.push())

    await asyncio.gather(*(reports(hub).look() for _ in range(4)))

    assert github.asked.count("create_deployment") == 1
    assert github.asked.count("set_status") == 1


async def test_github_that_is_away_holds_up_no_deployment(told: Told) -> None:
    """R-26."""
    hub = told.hub
    first = await hub.live(hub.github.push())
    await hub.live(hub.github.push())
    hub.github.fault = AWAY

    rollback = await roll_back(hub, first.commit_sha or "")
    await told.now()

    state = await hub.context.apps.get(told.project.id, "production")
    assert state is not None
    assert state.live_deployment_id == rollback


async def test_a_project_without_a_connection_is_told_of_to_nobody(hub: Hub) -> None:
    project = await hub.project()
    await hub.live(hub.github.push())

    await Told(hub, project).now()

    assert hub.github.statuses == []


async def test_what_was_deployed_before_github_was_connected_is_not_told(hub: Hub) -> None:
    project = await hub.project()
    await hub.live(hub.github.push())
    connection = await hub.connection()
    now = await hub.context.projects.get(project.id)
    assert now is not None
    connected = replace(now, connection_id=connection.id)
    await hub.context.projects.change(connected, unchanged_since=now.updated_at)

    await Told(hub, project).now()

    assert hub.github.told == []


async def test_several_projects_of_one_repository_have_contexts_of_their_own(told: Told) -> None:
    hub = told.hub
    await hub.project("docs", connection_id=told.project.connection_id)
    push = hub.github.push()
    for verdict in await hub.arrives(push):
        await hub.succeeds(await hub.the(verdict))
    await told.now()

    assert {each.context for each in hub.github.statuses} == {"klepaas/shop/production", "klepaas/docs/production"}
    assert {each.environment for each in hub.github.told} == {"shop/production", "docs/production"}


@EACH_DATABASE
async def test_a_retired_project_runs_nothing_any_more(told: Told) -> None:
    hub = told.hub
    deployment = await hub.live(hub.github.push())
    await told.now()
    await hub.context.projects.retire(told.project.id, hub.clock.now())

    await told.now()

    assert told.state(deployment) is DeploymentState.INACTIVE


async def test_links_lead_to_where_the_operator_says_klepaas_is(told: Told) -> None:
    hub = told.hub
    hub.world.context = replace(hub.context, public_url="https://klepaas.example.org")
    deployment = await hub.deployed(hub.github.push())

    await told.now()

    [shown] = told.github.told
    assert shown.log_url == f"https://klepaas.example.org/api/v1/deployments/{deployment.id}/logs"
