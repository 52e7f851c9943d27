"""Deploying by merging, end to end: a klepaas as its users run it, a real engine, and a stand-in GitHub that holds
private repositories, sends signed webhooks, and is told how it went."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from klepaas.testing.github import Delivery
from tests.acceptance.cradle import Cradle
from tests.acceptance.github_house import PUBLIC_URL, WEBHOOK, GitHubHouse, Shop
from tests.acceptance.visitor import reaching, until

pytestmark = [pytest.mark.slow, pytest.mark.docker]

STATUS = "klepaas/production"


@pytest.fixture(scope="module")
def house(docker_host: str, cradle: Cradle) -> Iterator[GitHubHouse]:
    with GitHubHouse(docker_host, cradle=cradle) as made:
        yield made


def _is_live_at_github(shop: Shop, deployment: dict[str, Any]) -> bool:
    """Whether GitHub shows this deployment, and no other one, as what runs, and its commit as well."""
    active = [each for each in shop.told() if each.state in {"success", "in_progress", "queued"}]
    status = shop.status(deployment["commit_sha"])
    return active == [shop.told_of(deployment)] and status is not None and status.state == "success"


async def test_a_merge_goes_live_and_github_shows_it(house: GitHubHouse) -> None:
    await house.ready()
    shop = await house.shop("merged", rules={})
    await shop.push("not-merged")
    sha, number = await shop.merge("v2")
    deployment = await shop.live_after(sha)
    live = f"live at {deployment['urls'][0]}"
    await shop.agreed(
        lambda: _is_live_at_github(shop, deployment) and [live in each.body for each in shop.comments(number)] == [True]
    )

    assert await shop.version() == "v2"
    assert (deployment["trigger"], deployment["pull_request"]) == ("merge", number)
    assert [row.commit_sha for row in shop.rows()] == [sha], "a push that is no merge, and a branch, deploy nothing"
    told = shop.told_of(deployment)
    assert told is not None
    assert (told.sha, told.environment, told.production) == (sha, "production", True)
    assert told.states[-1] == "success"
    assert set(told.states[:-1]) <= {"queued", "in_progress"}
    assert {status.log_url for status in told.statuses} == {f"{PUBLIC_URL}/api/v1/deployments/{deployment['id']}/logs"}
    assert told.statuses[-1].environment_url == deployment["urls"][0]
    statuses = shop.repository.statuses(sha)
    assert {status.context for status in statuses} == {STATUS}
    assert {status.state for status in statuses[:-1]} <= {"pending"}


async def test_what_is_under_way_is_shown_with_its_log(house: GitHubHouse) -> None:
    """An app that never gets well keeps its deployment under way for so long that GitHub is told in between."""
    await house.ready()
    shop = await house.shop("under-way", settings={"health_path": "/not-there", "health_timeout_s": 4})
    sha = await shop.push("v1")
    await shop.agreed(
        lambda: [each.states for each in shop.told()] == [["in_progress"]] and shop.status(sha) is not None
    )
    under_way = shop.status(sha)
    failed = await shop.deployment_of(sha)
    await shop.agreed(lambda: [each.state for each in (*shop.told(), *shop.statuses())] == ["failure", "failure"])
    final = shop.status(sha)

    log = f"{PUBLIC_URL}/api/v1/deployments/{failed['id']}/logs"
    assert under_way is not None
    assert final is not None
    assert (under_way.state, under_way.target_url) == ("pending", log)
    assert (final.state, final.target_url) == ("failure", log)
    assert str(final.description).startswith("verify: ")
    [told] = shop.told()
    assert told.states == ["in_progress", "failure"]
    assert {status.log_url for status in told.statuses} == {log}


async def test_a_failing_build_is_shown_with_its_reason_and_what_ran_goes_on(house: GitHubHouse) -> None:
    await house.ready()
    shop = await house.shop("broken")
    good = await shop.live_after(await shop.push("v1"))
    sha = await shop.push("v2", {"Dockerfile": "FROM scratch\nCOPY nothing-of-the-kind /\n"})
    failed = await shop.deployment_of(sha)

    def shown() -> bool:
        status, told = shop.status(sha), shop.told_of(failed)
        return status is not None and told is not None and status.state == told.state == "failure"

    await shop.agreed(shown)

    assert (failed["status"], failed["failure"]["stage"]) == ("failed", "build")
    assert await shop.version() == "v1"
    status, told = shop.status(sha), shop.told_of(failed)
    assert status is not None
    assert told is not None
    assert status.description == told.statuses[-1].description
    assert str(status.description).startswith(f"build: {failed['failure']['message']}"[:100])
    assert _is_live_at_github(shop, good), "what serves is still shown as live"


async def test_r25_a_rollback_sets_github_right_and_a_push_after_it_does_what_the_policy_says(
    house: GitHubHouse,
) -> None:
    await house.ready()
    shop = await house.shop("undone", rules={"pushes": "every_push", "after_rollback": "hold"})
    first = await shop.live_after(await shop.push("v1"))
    second = await shop.live_after(await shop.push("v2"))
    back = await shop.roll_back()

    def taken_back() -> bool:
        told, status = shop.told_of(second), shop.status(second["commit_sha"])
        return told is not None and told.state == "inactive" and "taken back" in str(status and status.description)

    await shop.agreed(lambda: _is_live_at_github(shop, back) and taken_back())
    assert await shop.version() == "v1"
    assert (back["status"], back["commit_sha"]) == ("succeeded", first["commit_sha"])

    held = await shop.push("v3")
    decision = (await until(_decided(shop, held), bool))[0]
    assert (decision.outcome, decision.reason) == ("skipped", "held_after_rollback"), "never silence"
    assert await shop.version() == "v1"

    await shop.configure(rules={"after_rollback": "deploy"})
    undoing = await shop.live_after(await shop.push("v4"))
    await shop.agreed(lambda: _is_live_at_github(shop, undoing))
    assert await shop.version() == "v4"
    assert undoing["note"] == f"Undoes the rollback {back['id']}.", "never a silent undo"


def _decided(shop: Shop, sha: str) -> Any:
    """What was decided about the webhook of a commit."""

    async def look() -> list[Any]:
        guids = {each.guid for each in shop.house.github.deliveries if each.payload.get("after") == sha}
        return [each for each in shop.decided() if each.guid in guids]

    return look


async def test_r26_a_rollback_works_while_github_is_down_and_github_is_told_afterwards(house: GitHubHouse) -> None:
    await house.ready()
    shop = await house.shop("alone")
    await shop.live_after(await shop.push("v1"))
    await shop.live_after(await shop.push("v2"))
    house.github.faults.down = True
    back = await shop.roll_back()

    assert back["status"] == "succeeded", back["failure"]
    assert await shop.version() == "v1"
    assert shop.told_of(back) is None
    house.github.faults.clear()
    await shop.agreed(lambda: _is_live_at_github(shop, back))


async def test_r04_one_delivery_fifty_times_is_one_deployment_also_after_a_restart(house: GitHubHouse) -> None:
    await house.ready()
    shop = await house.shop("repeated")
    sha = await shop.push("v1")
    await house.webhooks_are_answered()
    delivery = _push_of(house, sha)

    during = await asyncio.gather(*(house.post(delivery) for _ in range(20)))
    deployment = await shop.live_after(sha)
    afterwards = await asyncio.gather(*(house.post(delivery) for _ in range(15)))
    house.process.kill()
    await house.start()
    restarted = await asyncio.gather(*(house.post(delivery) for _ in range(14)))
    await shop.push("v1", branch="elsewhere")
    await house.webhooks_are_answered()

    for status, answer in [*during, *afterwards, *restarted]:
        assert status == 200
        assert answer["deploy"]["deployment_id"] == deployment["id"]
    assert [row.id for row in shop.rows()] == [deployment["id"]]


def _push_of(house: GitHubHouse, sha: str) -> Delivery:
    [found] = [each for each in house.github.deliveries if each.payload.get("after") == sha]
    return found


async def test_r05_of_two_quick_pushes_the_later_one_is_live_in_whatever_order_they_arrive(
    house: GitHubHouse,
) -> None:
    await house.ready()
    quick, late = await house.shop("quick"), await house.shop("late")

    shas = []
    for version in ("a", "b", "c"):
        shas.append(await quick.push(version))
        await asyncio.sleep(0.1)
    house.github.send_webhooks_to("")
    older = await late.push("a")
    house.github.send_webhooks_to(house.process.url + WEBHOOK)
    newer = await late.push("b")
    await late.live_after(newer)
    await _deliver(house, late, older)
    await quick.live_after(shas[-1])

    assert (await quick.version(), await late.version()) == ("c", "b")
    [*before, last] = quick.rows()
    assert (last.commit_sha, last.status) == (shas[-1], "succeeded")
    assert [row.commit_sha for row in before] == shas[:-1]
    assert before[-1].status == "superseded", "the second waited behind the first, and the third took its place"
    assert [row.commit_sha for row in late.rows()] == [newer]
    assert late.decided()[-1].reason == f"superseded by {newer[:7]}"


async def _deliver(house: GitHubHouse, shop: Shop, sha: str) -> None:
    """Send the webhook of the first push, which GitHub did not send in its time."""
    [sent] = [each for each in house.github.deliveries if each.payload["repository"]["id"] == shop.repository.id]
    first = shop.repository.log()[-1]
    await house.send({**sent.payload, "before": first, "after": sha})


async def test_what_github_was_not_told_while_it_was_down_it_is_told_afterwards(house: GitHubHouse) -> None:
    await house.ready()
    shop = await house.shop("away")
    sha = await shop.push("v1")
    [started] = await until(_rows_of(shop), bool)
    async with house.process.client() as klepaas:
        await reaching(klepaas, started.id, "build")
    house.github.faults.down = True
    deployment = await shop.live_after(sha)

    assert await shop.version() == "v1"
    assert "success" not in [state for each in shop.told() for state in each.states]
    house.github.faults.clear()
    await shop.agreed(lambda: _is_live_at_github(shop, deployment))
    assert len(shop.told()) == 1


def _rows_of(shop: Shop) -> Any:
    async def look() -> list[Any]:
        return shop.rows()

    return look


async def test_a_lost_webhook_is_made_up_for_and_the_history_says_so(house: GitHubHouse) -> None:
    await house.ready(BRANCHES__INTERVAL="PT1S")
    shop = await house.shop("missed", rules={})
    house.github.faults.webhooks.lost = 1.0
    sha, number = await shop.merge("v1")
    deployment = await shop.live_after(sha)
    await shop.agreed(lambda: _is_live_at_github(shop, deployment))

    assert await shop.version() == "v1"
    assert shop.decided() == []
    assert (deployment["trigger"], deployment["pull_request"]) == ("branch watch", number)
    requested = shop.events(deployment["id"])[0]
    assert requested.data["trigger"] == "branch watch"
    assert len(shop.rows()) == 1
