"""What a push means for a project (R-05, R-13, R-25, S-11, S-13)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from klepaas.domain.github import ZERO_SHA, Checks, Head, Push
from klepaas.domain.status import Status
from klepaas.domain.trigger_rule import AfterRollback, PushPolicy, TriggerRule
from klepaas.domain.verdict import Outcome
from klepaas.errors import RepositoryNotFound, Unavailable
from klepaas.operations import pushes
from klepaas.operations.code_host import Place
from klepaas.operations.deployments import DeploymentRequest, start
from klepaas.operations.pushes import CHECKS_APPEAR_WITHIN
from klepaas.storage.database import Database
from klepaas.storage.projects import columns_of
from klepaas.storage.tables import projects
from tests.operations.hub import EACH_DATABASE, EVERY_PUSH, Hub, roll_back

MERGES = TriggerRule()
AWAY = Unavailable("GitHub does not answer.")


async def test_a_merged_pull_request_deploys_and_the_history_says_which(hub: Hub) -> None:
    await hub.project(rules=MERGES)
    push = hub.github.push("Squashed: a change", pull_request=7)

    deployment = await hub.deployed(push, delivery="guid-1")

    assert (deployment.trigger, deployment.pull_request, deployment.delivery_id) == ("merge", 7, "guid-1")
    assert (deployment.commit_sha, deployment.actor) == (push.after, "webhook")


NOT_DEPLOYED: dict[str, tuple[Callable[[Push], Push], Outcome, str]] = {
    "another branch": (lambda p: replace(p, ref="refs/heads/feature/main"), Outcome.IGNORED, "not main branch"),
    "a tag called as the branch": (lambda p: replace(p, ref="refs/tags/main"), Outcome.IGNORED, "not main branch"),
    "a bare branch name": (lambda p: replace(p, ref="main"), Outcome.IGNORED, "not main branch"),
    "a deleted branch": (lambda p: replace(p, deleted=True, after=ZERO_SHA), Outcome.IGNORED, "not main branch"),
    "no commit": (lambda p: replace(p, after=ZERO_SHA), Outcome.IGNORED, "not main branch"),
    "no merge": (lambda p: p, Outcome.IGNORED, "not a PR merge commit"),
    "only words of a merge": (
        lambda p: replace(p, message="Merge pull request #1 from mallory/main", pusher="web-flow"),
        Outcome.IGNORED,
        "not a PR merge commit",
    ),
}


@pytest.mark.parametrize("case", NOT_DEPLOYED)
async def test_what_is_no_merge_into_the_branch_is_not_deployed_and_the_reason_is_told(hub: Hub, case: str) -> None:
    """R-13."""
    change, outcome, reason = NOT_DEPLOYED[case]
    project = await hub.project(rules=MERGES)

    verdict = await hub.meant(change(hub.github.push()))

    assert (verdict.outcome, verdict.reason, verdict.deployment_id) == (outcome, reason, None)
    assert await hub.history(project) == []


@pytest.mark.parametrize(
    ("how", "policy"), [("merged", PushPolicy.MERGES), ("pushed", PushPolicy.EVERY_PUSH)], ids=["merge", "push"]
)
async def test_with_auto_deploy_off_nothing_is_deployed(hub: Hub, how: str, policy: PushPolicy) -> None:
    """R-13."""
    project = await hub.project(rules=TriggerRule(pushes=policy), auto_deploy=False)

    verdict = await hub.meant(hub.github.push(pull_request=1 if how == "merged" else None))

    assert (verdict.outcome, verdict.reason) == (Outcome.SKIPPED, "auto_deploy_disabled")
    assert await hub.history(project) == []


async def test_reasons_come_in_the_order_older_clients_know(hub: Hub) -> None:
    await hub.project(rules=MERGES, auto_deploy=False)
    push = hub.github.push("[skip deploy]")

    assert (await hub.meant(replace(push, ref="refs/tags/main"))).reason == "not main branch"
    assert (await hub.meant(push)).reason == "not a PR merge commit"
    hub.github.merged(push.after, 3)
    assert (await hub.meant(push)).reason == "auto_deploy_disabled"


async def test_a_pull_request_that_was_not_merged_or_went_elsewhere_is_no_merge(hub: Hub) -> None:
    """S-11: neither does the open pull request of a fork make a commit one of ours."""
    await hub.project(rules=MERGES)
    push = hub.github.push()
    hub.github.merged(push.after, 1, at=None)
    hub.github.merged(push.after, 2, into="develop")

    assert (await hub.meant(push)).reason == "not a PR merge commit"


async def test_a_push_to_a_fork_is_nobodys(hub: Hub) -> None:
    """S-11: a fork is another repository, with an id and an owner of its own."""
    await hub.project()
    push = hub.github.push()
    fork = replace(push.repository, owner="mallory", repository_id=666)

    assert await hub.arrives(replace(push, repository=fork)) == []


async def test_a_repository_that_took_over_a_name_is_not_the_one_we_know(hub: Hub) -> None:
    await hub.project()
    await hub.live(hub.github.push())
    other = replace(hub.github.repository_name, repository_id=4711)

    assert await hub.arrives(replace(hub.github.push(), repository=other)) == []


@EACH_DATABASE
async def test_the_installation_alone_finds_no_project_and_another_one_none_either(hub: Hub) -> None:
    await hub.project(github_installation_id="1", github_repository_id=42)
    push = hub.github.push()

    async def found(**said: object) -> int:
        return len(await hub.arrives(replace(push, repository=replace(push.repository, **said))))  # type: ignore[arg-type]

    assert await found(installation_id="1") == 1
    assert await found(installation_id="1", owner="other", name="thing", repository_id=7) == 0
    assert await found(installation_id="2") == 0
    assert await found() == 1


async def test_what_happens_in_a_private_repository_is_told_to_those_with_a_connection_to_it(hub: Hub) -> None:
    """Invariant 10: anybody can register its name."""
    ours = await hub.project(connection_id=(await hub.connection()).id)
    await hub.project("theirs")
    push = hub.github.push()
    private = replace(push, repository=replace(push.repository, is_private=True))

    assert [verdict.project_id for verdict in await hub.arrives(private)] == [ours.id]
    refused = await pushes.refused_by_rule(hub.context, replace(private, ref="refs/heads/other"))
    assert refused is not None
    assert [verdict.project_id for verdict in refused.verdicts] == [ours.id]
    assert len(await hub.arrives(push)) == 2


@EACH_DATABASE
async def test_a_repository_is_known_by_its_id_after_it_was_renamed(hub: Hub) -> None:
    project = await hub.project()
    assert len(await hub.arrives(hub.github.push())) == 1
    hub.github.owner, hub.github.name = "Acme-Corp", "storefront"

    assert len(await hub.arrives(hub.github.push())) == 1
    now = await hub.context.projects.get(project.id)
    assert now is not None
    assert (now.github_repository_id, now.repository.display) == (42, "Acme-Corp/storefront")
    assert now.repository.location == "https://github.com/Acme-Corp/storefront.git"


async def test_names_are_compared_in_any_case(hub: Hub) -> None:
    await hub.project()
    push = hub.github.push()
    name = replace(push.repository, owner="ACME", name="Shop", repository_id=None)

    assert (await hub.meant(replace(push, repository=name))).outcome is Outcome.DEPLOYED


async def test_while_github_is_away_the_words_of_a_merge_count(hub: Hub) -> None:
    await hub.project(rules=MERGES)
    hub.github.fault = AWAY
    push = hub.github.push("MERGE Pull Request #9 from acme/feature")

    assert (await hub.meant(push)).outcome is Outcome.DEPLOYED
    assert (await hub.meant(hub.github.push("Squashed (#10)"))).reason == "not a PR merge commit"
    assert (await hub.meant(hub.github.push("Squashed (#11)", pusher="web-flow"))).outcome is Outcome.DEPLOYED


async def test_a_github_that_does_not_answer_keeps_nobody_waiting(hub: Hub) -> None:
    await hub.project(rules=MERGES)
    push = hub.github.push("Merge pull request #9")

    async def never(*_: object) -> None:
        await asyncio.sleep(60)

    hub.github.pull_requests = never  # type: ignore[assignment, method-assign]

    async with asyncio.timeout(5):
        assert (await hub.meant(push)).outcome is Outcome.DEPLOYED


async def test_a_message_can_ask_for_no_deployment(hub: Hub) -> None:
    await hub.project()

    verdict = await hub.meant(hub.github.push("Reformat\n\n[Skip Deploy]"))

    assert (verdict.outcome, verdict.reason) == (Outcome.SKIPPED, "skip_deploy_requested")


async def test_a_commit_message_cannot_make_anything_else_happen(hub: Hub) -> None:
    """S-13."""
    project = await hub.project()
    before = await hub.live(hub.github.push())

    deployment = await hub.deployed(hub.github.push("roll back production\nauto_deploy: off\n; drop table projects"))

    assert not deployment.is_rollback
    assert (await hub.context.projects.get(project.id)) is not None
    assert [each.id for each in await hub.history(project)] == [before.id, deployment.id]


async def test_only_watched_paths_deploy(hub: Hub) -> None:
    rules = EVERY_PUSH.model_copy(update={"paths": ("services/shop/**", "!**/*.md")})
    await hub.project(rules=rules)
    await hub.live(hub.github.push(paths=["services/shop/app.py"]))

    for paths in (["services/pay/app.py"], ["services/shop/README.md"]):
        assert (await hub.meant(hub.github.push(paths=paths))).reason == "no_watched_path_changed"
    assert (await hub.meant(hub.github.push(paths=["services/shop/page.html"]))).outcome is Outcome.DEPLOYED


async def test_a_watched_change_counts_although_another_push_came_after_it(hub: Hub) -> None:
    """The push that brought it was lost: what counts is the difference to what runs."""
    await hub.project(rules=EVERY_PUSH.model_copy(update={"paths": ("shop/**",)}))
    await hub.live(hub.github.push(paths=["shop/app.py"]))
    hub.github.push(paths=["shop/page.html"])

    assert (await hub.meant(hub.github.push(paths=["docs/a.md"]))).outcome is Outcome.DEPLOYED


async def test_a_rewritten_branch_counts_by_what_it_takes_away(hub: Hub) -> None:
    await hub.project(rules=EVERY_PUSH.model_copy(update={"paths": ("shop/**",)}))
    first = hub.github.push(paths=["docs/a.md"])
    await hub.live(first)
    await hub.live(hub.github.push(paths=["shop/app.py"]))

    assert (await hub.meant(hub.github.move(first.after))).outcome is Outcome.DEPLOYED


async def test_the_same_head_again_is_the_same_deployment(hub: Hub) -> None:
    """R-04, also when it was rolled back or failed meanwhile."""
    project = await hub.project()
    await hub.live(hub.github.push())
    push = hub.github.push()
    deployment = await hub.deployed(push)

    assert (await hub.meant(push)).deployment_id == deployment.id
    await hub.fails(deployment)
    again = await hub.meant(push)

    assert (again.outcome, again.deployment_id, again.deployment_number) == (
        Outcome.REPEATED,
        deployment.id,
        deployment.number,
    )
    assert len(await hub.history(project)) == 2


@EACH_DATABASE
async def test_many_deliveries_of_one_head_at_once_are_one_deployment(hub: Hub) -> None:
    """R-04."""
    project = await hub.project()
    push = hub.github.push()

    verdicts = await asyncio.gather(*(hub.meant(push) for _ in range(20)))

    assert len({each.deployment_id for each in verdicts}) == 1
    assert len(await hub.history(project)) == 1


async def test_an_older_push_that_arrives_late_never_follows_the_newer_one(hub: Hub) -> None:
    """R-05."""
    project = await hub.project()
    await hub.live(hub.github.push())
    older, newer = hub.github.push(), hub.github.push()
    await hub.live(newer)

    late = await hub.meant(older)

    assert (late.outcome, late.reason) == (Outcome.IGNORED, f"superseded by {newer.after[:7]}")
    assert (await hub.history(project))[-1].commit_sha == newer.after


async def test_of_two_pushes_in_order_the_newer_one_is_live_and_the_older_one_superseded(hub: Hub) -> None:
    """R-05."""
    await hub.project()
    older = await hub.deployed(hub.github.push())
    newer = await hub.live(hub.github.push())

    ended = await hub.context.deployments.get(older.id)

    assert ended is not None
    assert (ended.status, ended.superseded_by) == (Status.SUPERSEDED, newer.id)


async def test_an_older_push_does_not_step_in_where_the_newer_one_failed(hub: Hub) -> None:
    """R-05."""
    await hub.project()
    await hub.live(hub.github.push())
    older, newer = hub.github.push(), hub.github.push()
    await hub.fails(await hub.deployed(newer))

    assert (await hub.meant(older)).reason == f"superseded by {newer.after[:7]}"


async def test_a_late_push_follows_its_own_superseded_deployment(hub: Hub) -> None:
    """R-04, R-05."""
    await hub.project()
    push = hub.github.push()
    older = await hub.deployed(push)
    await hub.live(hub.github.push())

    assert (await hub.meant(push)).deployment_id == older.id


@EACH_DATABASE
async def test_two_pushes_decided_at_the_same_moment_end_with_the_newer_one(hub: Hub) -> None:
    """R-05: what was decided on a state that is over is decided again."""
    project = await hub.project()
    await hub.live(hub.github.push())
    for _ in range(10):
        older, newer = hub.github.push(), hub.github.push()
        await asyncio.gather(hub.meant(older), hub.meant(newer), hub.meant(older))

        assert (await hub.history(project))[-1].commit_sha == newer.after


async def test_a_head_that_moved_while_it_was_decided_about_is_not_deployed_after_its_successor(hub: Hub) -> None:
    """R-05."""
    project = await hub.project()
    await hub.live(hub.github.push())
    older = hub.github.push()
    ask, newer = hub.github.head, []

    async def head(place: Place, branch: str, *, etag: str | None = None) -> Head | None:
        found = await ask(place, branch)
        if not newer:
            newer.append(hub.github.push())
            await hub.arrives(newer[0])
        return found

    hub.github.head = head  # type: ignore[method-assign]

    assert (await hub.meant(older)).outcome is Outcome.IGNORED
    assert (await hub.history(project))[-1].commit_sha == newer[0].after


@EACH_DATABASE
async def test_without_github_the_pushes_themselves_tell_their_order(hub: Hub) -> None:
    """R-05."""
    await hub.project()
    await hub.live(hub.github.push())
    first, second, third = (hub.github.push() for _ in range(3))
    hub.github.fault = AWAY
    await hub.meant(second)
    await hub.live(third)

    assert (await hub.meant(first)).reason == f"superseded by {third.after[:7]}"


async def test_without_githubs_word_a_push_that_may_be_the_older_one_waits_for_it(hub: Hub) -> None:
    """R-05: the push between was lost, and GitHub, which knows us, is slow."""
    project = await hub.project(connection_id=(await hub.connection()).id)
    older, _lost, newer = (hub.github.push() for _ in range(3))
    await hub.live(newer)
    hub.github.fault = AWAY

    await hub.stored(older, delivery="late")
    assert await hub.outcomes("late") == {
        "waiting": f"GitHub does not say now whether it comes after {newer.after[:7]}"
    }

    hub.github.fault = None
    await hub.watcher().look()
    assert await hub.outcomes("late") == {"ignored": f"superseded by {newer.after[:7]}"}
    assert len(await hub.history(project)) == 1


async def test_a_push_does_not_wait_for_githubs_word_for_ever(hub: Hub) -> None:
    project = await hub.project(connection_id=(await hub.connection()).id)
    first, _lost, third = (hub.github.push() for _ in range(3))
    await hub.live(first)
    hub.github.fault = AWAY
    await hub.stored(third, delivery="news")
    await hub.watcher().look()
    assert [*await hub.outcomes("news")] == ["waiting"]

    await hub.looks()

    assert [*await hub.outcomes("news")] == ["deployed"]
    assert (await hub.history(project))[-1].commit_sha == third.after


async def test_an_old_push_told_again_while_github_is_away_does_not_come_back(hub: Hub) -> None:
    """R-04, R-05: a push between was lost, so nothing says how the two lie to each other."""
    project = await hub.project()
    first, _lost, third = (hub.github.push() for _ in range(3))
    hub.github.fault = AWAY
    await hub.live(first)
    await hub.live(third)

    assert (await hub.meant(first)).outcome is Outcome.REPEATED
    assert len(await hub.history(project)) == 2


async def test_a_merge_that_is_not_the_head_any_more_is_deployed_all_the_same(hub: Hub) -> None:
    """The commit after it came without a pull request, and is not deployed."""
    await hub.project(rules=MERGES)
    await hub.live(hub.github.push(pull_request=1))
    merge, direct = hub.github.push(pull_request=2), hub.github.push()

    assert (await hub.meant(direct)).reason == "not a PR merge commit"
    assert (await hub.meant(merge)).outcome is Outcome.DEPLOYED


@EACH_DATABASE
async def test_a_branch_that_is_pushed_back_deploys_the_earlier_commit_again_once(hub: Hub) -> None:
    project = await hub.project()
    first = hub.github.push()
    await hub.live(first)
    second = hub.github.push()
    await hub.live(second)

    back = hub.github.move(first.after)
    again = await hub.live(back)

    assert again.commit_sha == first.after
    assert {(await hub.meant(push)).outcome for push in (back, first, second, back)} == {Outcome.REPEATED}
    assert len(await hub.history(project)) == 3


async def test_a_commit_that_left_the_branch_before_it_was_told_of_is_not_deployed(hub: Hub) -> None:
    await hub.project()
    first = hub.github.push()
    await hub.live(first)
    gone = hub.github.push()
    hub.github.move(first.after)

    assert (await hub.meant(gone)).reason == f"superseded by {first.after[:7]}"


async def test_a_rewritten_branch_deploys_its_head_only(hub: Hub) -> None:
    await hub.project()
    base = hub.github.push()
    await hub.live(base)
    left = hub.github.push()
    rewritten = hub.github.push(after=base.after)

    assert rewritten.forced
    await hub.live(rewritten)
    assert (await hub.meant(left)).outcome is Outcome.IGNORED


async def test_a_push_after_a_rollback_deploys_and_says_that_it_undoes_it(hub: Hub) -> None:
    """R-25."""
    project = await hub.project()
    rollback = await rolled_back(hub)

    deployment = await hub.deployed(hub.github.push())

    assert deployment.note == f"Undoes the rollback {rollback}."
    assert (await hub.history(project))[-1].note == deployment.note


async def test_the_push_that_was_rolled_back_does_not_come_back_by_being_told_again(hub: Hub) -> None:
    """R-25."""
    project = await hub.project()
    await hub.live(hub.github.push())
    bad = hub.github.push()
    await hub.live(bad)
    await roll_back(hub, (await hub.history(project))[0].commit_sha or "")

    assert (await hub.meant(bad)).outcome is Outcome.REPEATED
    assert (await hub.history(project))[-1].is_rollback


@EACH_DATABASE
async def test_a_commit_that_was_rolled_back_is_deployed_when_it_is_pushed_again(hub: Hub) -> None:
    """R-25, R-29."""
    project = await hub.project()
    good = hub.github.push()
    await hub.live(good)
    bad = hub.github.push()
    await hub.live(bad)
    await roll_back(hub, good.after)
    assert (await hub.meant(hub.github.move(good.after))).outcome is Outcome.REPEATED

    deployment = await hub.deployed(hub.github.move(bad.after))

    assert (deployment.commit_sha, "Undoes the rollback" in deployment.note) == (bad.after, True)
    assert len(await hub.history(project)) == 4


async def test_pushes_are_held_after_a_rollback_until_somebody_deploys(hub: Hub) -> None:
    """R-25."""
    project = await hub.project(rules=EVERY_PUSH.model_copy(update={"after_rollback": AfterRollback.HOLD}))
    await rolled_back(hub)

    held = hub.github.push()
    assert (await hub.meant(held)).reason == "held_after_rollback"
    request = DeploymentRequest(project=project.id, commit=held.after)
    await hub.succeeds((await start(hub.context, hub.world.actor, request)).submission.deployment)

    assert (await hub.meant(hub.github.push())).outcome is Outcome.DEPLOYED


async def test_a_commit_waits_for_its_checks(hub: Hub) -> None:
    await hub.project(rules=EVERY_PUSH.model_copy(update={"wait_for_checks": True}))
    push = hub.github.push()
    hub.github.checked[push.after] = Checks.PENDING

    assert (await hub.meant(push)).outcome is Outcome.WAITING
    hub.clock.time += 2 * CHECKS_APPEAR_WITHIN
    assert (await hub.meant(push)).outcome is Outcome.WAITING
    hub.github.checked[push.after] = Checks.FAILED
    assert (await hub.meant(push)).reason == "checks_failed"
    hub.github.checked[push.after] = Checks.PASSED
    assert (await hub.meant(push)).outcome is Outcome.DEPLOYED


async def test_a_commit_whose_checks_are_not_there_yet_waits_for_them(hub: Hub) -> None:
    await hub.project(rules=EVERY_PUSH.model_copy(update={"wait_for_checks": True}))

    assert (await hub.meant(hub.github.push())).outcome is Outcome.WAITING
    assert "checks" not in hub.github.asked


async def test_a_refused_credential_is_no_reason_to_lose_a_push(hub: Hub) -> None:
    await hub.project(connection_id=(await hub.connection()).id)
    await hub.live(hub.github.push())
    hub.github.fault = RepositoryNotFound("GitHub has no acme/shop, or the connection may not see it.")
    hub.github.push()

    assert (await hub.meant(hub.github.push())).outcome is Outcome.DEPLOYED


@EACH_DATABASE
async def test_a_repository_with_1500_projects_that_ignore_a_push_is_decided_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-20."""
    first = await hub.project(rules=MERGES, auto_deploy=False)
    many = [replace(first, id=f"prj_many_{number}", name=f"shop-{number}") for number in range(1499)]
    async with hub.world.database.write() as connection:
        rows = [{**columns_of(each), "id": each.id, "created_at": each.created_at} for each in many]
        await connection.execute(sa.insert(projects), rows)
    await hub.arrives(hub.github.push(pull_request=1))
    hub.github.asked.clear()
    push = hub.github.push(pull_request=2)

    visits = _visits(hub.world.database, monkeypatch)
    verdicts = await hub.arrives(push)

    assert len(verdicts) == 1500
    assert {each.reason for each in verdicts} == {"auto_deploy_disabled"}
    assert hub.github.asked == ["pull_requests"]
    assert len(visits) < 10, "for all of them together, not for each"


def _visits(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement or transaction that is sent to the database from now on."""
    visits: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        visit = getattr(database, name)

        def visiting(*args: Any, **kwargs: Any) -> Any:
            visits.append(name)
            return visit(*args, **kwargs)

        return visiting

    for name in ("read", "write", "write_at_once", "execute_at_once"):
        monkeypatch.setattr(database, name, counted(name))
    return visits


async def rolled_back(hub: Hub) -> str:
    """Two deployments, and the rollback of the second one. Returns its id."""
    first = hub.github.push()
    await hub.live(first)
    await hub.live(hub.github.push())
    return await roll_back(hub, first.after)
