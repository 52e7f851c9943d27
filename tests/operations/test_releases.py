"""What a published release means for a project (R-13): it goes to production, unless it is not meant for everybody."""

import pytest

from klepaas.domain.trigger_rule import TriggerRule
from klepaas.domain.verdict import Outcome
from klepaas.errors import Unavailable
from tests.operations.hub import EVERY_PUSH, Hub


async def test_a_published_release_deploys_its_commit_to_production(hub: Hub) -> None:
    project = await hub.project(environment="staging")
    hub.github.tags["v1"] = hub.github.push().after
    hub.github.push()

    [verdict] = await hub.published("v1")

    [deployment] = await hub.history(project, "production")
    assert (verdict.outcome, verdict.environment, verdict.deployment_id) == (
        Outcome.DEPLOYED,
        "production",
        deployment.id,
    )
    assert (deployment.commit_sha, deployment.trigger) == (hub.github.tags["v1"], "release")
    assert await hub.history(project, "staging") == []


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"draft": True}, "draft_release"),
        ({"prerelease": True}, "prerelease"),
        ({"tag": "missing"}, "no_such_tag"),
    ],
    ids=["draft", "prerelease", "no tag"],
)
async def test_what_is_not_meant_for_everybody_is_not_deployed(hub: Hub, told: dict[str, object], reason: str) -> None:
    """R-13."""
    project = await hub.project()
    hub.github.tags["v1"] = hub.github.push().after

    [verdict] = await hub.published(**{"tag": "v1", **told})  # type: ignore[arg-type]

    assert (verdict.outcome, verdict.reason) == (Outcome.IGNORED, reason)
    assert await hub.history(project) == []


async def test_a_project_decides_whether_releases_deploy(hub: Hub) -> None:
    """R-13."""
    await hub.project("never", rules=EVERY_PUSH.model_copy(update={"releases": False}))
    await hub.project("off", auto_deploy=False)
    hub.github.tags["v1"] = hub.github.push().after

    verdicts = await hub.published("v1")

    assert {each.reason for each in verdicts} == {"releases_do_not_deploy", "auto_deploy_disabled"}
    assert {each.environment for each in verdicts} == {"production"}


async def test_a_release_that_is_told_twice_is_one_deployment(hub: Hub) -> None:
    """R-04."""
    project = await hub.project()
    hub.github.tags["v1"] = hub.github.push().after
    [first] = await hub.published("v1")
    await hub.fails(await hub.the(first))

    [second] = await hub.published("v1")

    assert (second.outcome, second.deployment_id) == (Outcome.REPEATED, first.deployment_id)
    assert len(await hub.history(project)) == 1


async def test_a_release_of_what_runs_is_that_deployment(hub: Hub) -> None:
    await hub.project(rules=TriggerRule())
    push = hub.github.push(pull_request=1)
    live = await hub.live(push)
    hub.github.tags["v1"] = push.after

    [verdict] = await hub.published("v1")

    assert (verdict.outcome, verdict.deployment_id) == (Outcome.REPEATED, live.id)


async def test_a_release_that_arrives_late_does_not_follow_the_newer_one(hub: Hub) -> None:
    """R-05."""
    await hub.project()
    hub.github.tags = {"v1": hub.github.push().after, "v2": hub.github.push().after}
    [newer] = await hub.published("v2")
    await hub.succeeds(await hub.the(newer))

    [older] = await hub.published("v1")

    assert older.reason == f"superseded by {hub.github.tags['v2'][:7]}"


async def test_a_release_nobody_can_say_the_commit_of_is_decided_later(hub: Hub) -> None:
    await hub.project()
    hub.github.tags["v1"] = hub.github.push().after
    hub.github.fault = Unavailable("GitHub does not answer.")

    with pytest.raises(Unavailable) as refused:
        await hub.published("v1")

    assert refused.value.retry_after is not None
