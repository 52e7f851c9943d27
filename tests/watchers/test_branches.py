"""What GitHub could not tell is found by looking (part 4 of the promise: nothing is lost)."""

from dataclasses import replace
from datetime import timedelta

from klepaas.domain.github import Checks, SentDelivery
from klepaas.domain.trigger_rule import TriggerRule
from klepaas.domain.verdict import Outcome
from klepaas.errors import RepositoryNotFound, Unavailable
from tests.operations.hub import EACH_DATABASE, EVERY_PUSH, Hub

MERGES = TriggerRule()
WAITS = EVERY_PUSH.model_copy(update={"wait_for_checks": True})
AWAY = Unavailable("GitHub does not answer.")


async def test_a_push_nobody_told_of_is_found_and_marked_as_found(hub: Hub) -> None:
    project = await hub.project(rules=MERGES)
    await hub.live(hub.github.push(pull_request=1))
    missed = hub.github.push(pull_request=2)

    await hub.looks()

    [_, found] = await hub.history(project)
    assert (found.commit_sha, found.trigger, found.actor) == (missed.after, "branch watch", "klepaas")
    assert (found.pull_request, found.delivery_id) == (2, None)


async def test_a_delivery_that_comes_after_the_watcher_found_the_push_is_the_same_deployment(hub: Hub) -> None:
    project = await hub.project()
    push = hub.github.push()
    await hub.looks()

    verdict = await hub.meant(push)

    assert verdict.outcome is Outcome.REPEATED
    assert len(await hub.history(project)) == 1


@EACH_DATABASE
async def test_looking_again_and_again_deploys_nothing_and_asks_for_differences_only(hub: Hub) -> None:
    project = await hub.project()
    await hub.live(hub.github.push())
    watcher = hub.watcher()
    await watcher.look()
    await hub.looks()
    hub.github.asked.clear()

    for _ in range(3):
        hub.clock.time += timedelta(minutes=20)
        await watcher.look()

    assert [each for each in hub.github.asked if each != "sent_deliveries"] == ["head?"] * 3
    assert len(await hub.history(project)) == 1


async def test_one_repository_is_asked_about_once_however_many_projects_it_has(hub: Hub) -> None:
    connection = await hub.connection()
    projects = [await hub.project(f"shop-{n}", connection_id=connection.id) for n in range(5)]
    hub.github.push()

    await hub.looks()
    for project in projects:
        assert len(await hub.history(project)) == 1
    assert hub.github.asked.count("head") == 1


async def test_a_rollback_is_not_undone_by_looking(hub: Hub) -> None:
    """R-25."""
    project = await hub.project()
    first = await hub.live(hub.github.push())
    await hub.live(hub.github.push())
    rollback = replace(
        (await hub.context.deployments.events(first.id))[0].event,  # type: ignore[type-var]
        rollback_of="dep_bad",
    )
    await hub.succeeds((await hub.context.deployments.submit(rollback, request_key=None)).deployment)  # type: ignore[arg-type]

    await hub.looks()

    assert (await hub.history(project))[-1].is_rollback


async def test_a_head_that_was_decided_about_is_not_deployed_when_auto_deploy_comes_on_later(hub: Hub) -> None:
    project = await hub.project(auto_deploy=False)
    await hub.arrives(hub.github.push())
    await hub.context.projects.change(replace(project, auto_deploy=True), unchanged_since=project.updated_at)

    await hub.looks()

    assert await hub.history(project) == []


@EACH_DATABASE
async def test_what_was_decided_by_words_is_decided_again_once_github_can_be_asked(hub: Hub) -> None:
    project = await hub.project(rules=MERGES)
    hub.github.fault = AWAY
    squashed = hub.github.push("A change (#4)", pull_request=4)
    assert (await hub.meant(squashed)).outcome is Outcome.IGNORED
    hub.github.fault = None

    await hub.looks()

    assert [each.commit_sha for each in await hub.history(project)] == [squashed.after]


async def test_a_pull_request_github_did_not_know_of_yet_is_found_later(hub: Hub) -> None:
    project = await hub.project(rules=MERGES)
    push = hub.github.push()
    assert (await hub.meant(push)).outcome is Outcome.IGNORED
    hub.github.merged(push.after, 4)

    await hub.looks()

    assert [each.pull_request for each in await hub.history(project)] == [4]


async def test_a_no_that_is_certain_is_not_asked_for_again(hub: Hub) -> None:
    await hub.project(rules=MERGES)
    await hub.arrives(hub.github.push())
    await hub.looks()
    hub.github.asked.clear()

    await hub.looks()

    assert "pull_requests" not in hub.github.asked


async def test_commits_that_were_deployed_in_the_wrong_order_are_put_right(hub: Hub) -> None:
    """R-05: GitHub was away and nothing told the order."""
    project = await hub.project()
    await hub.live(hub.github.push())
    older, _, newest = (hub.github.push() for _ in range(3))
    hub.github.fault = AWAY
    await hub.live(newest)
    await hub.live(older)
    hub.github.fault = None

    await hub.looks()

    assert (await hub.history(project))[-1].commit_sha == newest.after


async def test_a_late_push_that_is_ignored_gives_a_failed_head_no_second_try(hub: Hub) -> None:
    project = await hub.project(rules=MERGES)
    await hub.live(hub.github.push(pull_request=1))
    direct, merge = hub.github.push(), hub.github.push(pull_request=2)
    await hub.fails(await hub.deployed(merge))
    await hub.arrives(direct)

    await hub.looks()

    assert len(await hub.history(project)) == 2


async def test_a_commit_is_deployed_once_its_checks_have_passed(hub: Hub) -> None:
    project = await hub.project(rules=WAITS)
    push = hub.github.push()
    hub.github.checked[push.after] = Checks.PENDING
    await hub.arrives(push)
    await hub.looks()
    assert await hub.history(project) == []

    hub.github.checked[push.after] = Checks.PASSED
    await hub.looks()

    assert [each.commit_sha for each in await hub.history(project)] == [push.after]


@EACH_DATABASE
async def test_a_delivery_that_waits_is_decided_again_and_keeps_its_name(hub: Hub) -> None:
    project = await hub.project(rules=WAITS)
    push = hub.github.push()
    await hub.stored(push, delivery="guid-1")

    await hub.looks()

    [deployment] = await hub.history(project)
    assert (deployment.delivery_id, deployment.trigger) == ("guid-1", "push")
    assert await hub.context.deliveries.waiting() == []


async def test_the_id_of_a_repository_is_learnt_by_looking(hub: Hub) -> None:
    project = await hub.project()
    hub.github.push()

    await hub.looks()

    now = await hub.context.projects.get(project.id)
    assert now is not None
    assert now.github_repository_id == hub.github.repository_id


async def test_a_repository_that_took_over_the_name_is_not_deployed(hub: Hub) -> None:
    project = await hub.project(github_repository_id=hub.github.repository_id)
    await hub.live(hub.github.push())
    hub.github.repository_id = 4711
    hub.github.push()

    await hub.looks()

    assert len(await hub.history(project)) == 1


async def test_a_credential_github_asks_to_wait_is_not_used_before_its_time(hub: Hub) -> None:
    connection = await hub.connection()
    await hub.project(connection_id=connection.id)
    hub.github.push()
    watcher = hub.watcher()
    hub.github.fault = Unavailable("Too many questions.", retry_after=timedelta(minutes=30))
    await watcher.look()
    asked = hub.github.asked.count("head")

    hub.clock.time += timedelta(minutes=20)
    await watcher.look()
    assert hub.github.asked.count("head") == asked
    hub.github.fault = None
    hub.clock.time += timedelta(minutes=20)
    await watcher.look()

    assert hub.github.asked.count("head") == asked + 1


async def test_one_refused_repository_is_no_reason_to_miss_the_others(hub: Hub) -> None:
    connection = await hub.connection()
    await hub.project("gone", connection_id=connection.id, branch="gone")
    project = await hub.project("here", connection_id=connection.id)
    push = hub.github.push()

    await hub.looks()

    assert [each.commit_sha for each in await hub.history(project)] == [push.after]


@EACH_DATABASE
async def test_a_delivery_that_never_arrived_is_asked_for_again(hub: Hub) -> None:
    await hub.project(github_repository_id=hub.github.repository_id)
    hub.github.push()
    now = hub.clock.now()

    def sent(number: int, guid: str, event: str = "push", repository_id: int = 42) -> SentDelivery:
        return SentDelivery(
            id=number,
            guid=guid,
            event=event,
            delivered_at=now,
            status_code=502,
            redelivery=False,
            repository_id=repository_id,
        )

    await hub.stored(hub.github.push(), delivery="arrived")
    hub.github.sent = [
        sent(1, "arrived"),
        sent(2, "missed"),
        sent(3, "missed release", "release"),
        sent(4, "nothing to us", "check_run"),
        sent(5, "of a stranger", repository_id=666),
    ]
    watcher = hub.watcher()

    await watcher.look()
    assert hub.github.asked_again == []  # it may still be on its way
    hub.clock.time += timedelta(minutes=2)
    await watcher.look()
    await watcher.look()
    assert hub.github.asked_again == [2, 3]
    for _ in range(10):
        hub.clock.time += timedelta(minutes=20)
        await watcher.look()

    assert hub.github.asked_again == [2, 3] * 3


async def test_a_refusal_of_the_list_is_no_reason_not_to_look(hub: Hub) -> None:
    project = await hub.project()
    hub.github.push()

    async def refuse(*, after: int | None = None) -> None:
        raise RepositoryNotFound("No.")

    hub.github.sent_deliveries = refuse  # type: ignore[assignment, method-assign]

    await hub.looks()

    assert len(await hub.history(project)) == 1
