import httpx

from klepaas.testing.fake_build import sha_of
from tests.interfaces.api.doors import API, Door, deployed, everything


async def test_a_deployment_is_accepted_and_says_where_to_look(api: httpx.AsyncClient, door: Door) -> None:
    await door.world.project()

    answer = await api.post(f"{API}/projects/shop/deployments", json={"note": "first"})

    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{API}/deployments/{body['deployment']['id']}"
    assert (body["is_new"], body["superseded"]) == (True, [])
    assert (await api.get(answer.headers["Location"])).json() == body["deployment"]
    assert body["deployment"]["note"] == "first"


async def test_the_same_key_is_the_same_deployment(api: httpx.AsyncClient, door: Door) -> None:
    """However often a request is repeated, it is one row."""
    await door.world.project()
    headers = {"Idempotency-Key": "7d9f8a52"}

    first = await api.post(f"{API}/projects/shop/deployments", json={}, headers=headers)
    again = await api.post(f"{API}/projects/shop/deployments", json={}, headers=headers)
    other = await api.post(f"{API}/projects/shop/deployments", json={}, headers={"Idempotency-Key": "another"})

    assert again.json()["deployment"]["id"] == first.json()["deployment"]["id"] != other.json()["deployment"]["id"]
    assert (first.json()["is_new"], again.json()["is_new"]) == (True, False)
    assert other.json()["superseded"] == [first.json()["deployment"]["id"]]


async def test_a_finished_deployment_shows_stages_and_evidence(api: httpx.AsyncClient, door: Door) -> None:
    deployment = await deployed(door.world, await door.world.project())

    shown = (await api.get(f"{API}/deployments/{deployment.id}")).json()
    evidence = (await api.get(f"{API}/deployments/{deployment.id}/evidence")).json()

    assert (shown["status"], shown["project"]["name"]) == ("succeeded", "shop")
    assert [each["stage"] for each in shown["stages"]][:2] == ["fetch", "build"]
    assert shown["duration_s"] > 0
    assert evidence["evidence"]["answer"]["status"] == 200
    assert evidence["failure"] is None


async def test_history_is_paged_newest_first(api: httpx.AsyncClient, door: Door) -> None:
    project = await door.world.project()
    ids = [(await door.world.deploy(project)).id for _ in range(5)]

    first = (await api.get(f"{API}/projects/shop/deployments", params={"limit": 3})).json()
    rest = (
        await api.get(f"{API}/projects/shop/deployments", params={"limit": 3, "before": first["next_before"]})
    ).json()

    assert [each["id"] for each in first["deployments"] + rest["deployments"]] == ids[::-1]
    assert rest["next_before"] is None


async def test_history_can_be_filtered_by_status(api: httpx.AsyncClient, door: Door) -> None:
    project = await door.world.project()
    older, newer = await door.world.deploy(project), await door.world.deploy(project)

    async def ids(*status: str) -> list[str]:
        answer = await api.get(f"{API}/projects/shop/deployments", params={"status": list(status)})
        return [each["id"] for each in answer.json()["deployments"]]

    assert await ids("queued") == [newer.id]
    assert await ids("queued", "superseded") == [newer.id, older.id]


async def test_a_queued_deployment_is_cancelled_once(api: httpx.AsyncClient, door: Door) -> None:
    deployment = await door.world.deploy(await door.world.project())

    answer = await api.post(f"{API}/deployments/{deployment.id}/cancel")
    again = await api.post(f"{API}/deployments/{deployment.id}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert answer.json()["cancelled_by"] == "token operator operator"
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")


async def test_events_are_paged(api: httpx.AsyncClient, door: Door) -> None:
    deployment = await deployed(door.world, await door.world.project())
    address = f"{API}/deployments/{deployment.id}/events"

    first = (await api.get(address, params={"limit": 4})).json()
    rest = (await api.get(address, params={"after": first["next_after"]})).json()
    none = (await api.get(address, params={"after": rest["next_after"]})).json()

    events = first["events"] + rest["events"]
    assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
    assert (events[0]["kind"], events[-1]["kind"]) == ("deployment.queued", "deployment.succeeded")
    assert none == {"events": [], "next_after": rest["next_after"]}


async def test_the_build_log_is_paged_and_downloaded(api: httpx.AsyncClient, door: Door) -> None:
    deployment = await deployed(door.world, await door.world.project())
    writer = door.world.context.logs.writer(deployment.id, 2)
    for number in range(12_000):
        await writer.write(f"line {number}")
    await writer.close()
    address = f"{API}/deployments/{deployment.id}/logs"

    page = (await api.get(address, params={"limit": 3})).json()
    next_page = (await api.get(address, params={"limit": 1, "after": page["next_after"]})).json()
    whole = await api.get(address, params={"download": 1})

    assert [each["text"] for each in page["lines"][1:] + next_page["lines"]] == ["line 0", "line 1", "line 2"]
    assert whole.headers["Content-Disposition"] == f'attachment; filename="{deployment.id}.log"'
    assert whole.text.splitlines()[1:] == [f"line {number}" for number in range(12_000)]


async def test_a_rollback_is_planned_before_it_is_done(api: httpx.AsyncClient, door: Door) -> None:
    """R-34: the plan touches nothing."""
    here = door.world
    here.source.branches["main"] = [sha_of("one"), sha_of("two")]
    project = await here.project()
    await deployed(here, project, sha_of("one"))
    await deployed(here, project, sha_of("two"))
    before = await everything(here)

    candidates = (await api.get(f"{API}/projects/shop/candidates")).json()["candidates"]
    plan = await api.post(f"{API}/projects/shop/rollback", json={"steps_back": 1, "dry_run": True})
    assert await everything(here) == before
    done = await api.post(f"{API}/projects/shop/rollback", json={"commit": sha_of("one")[:7]})

    assert [each["steps_back"] for each in candidates] == [0, 1]
    assert candidates[1]["commit_message"] == f"Commit {sha_of('one')[:7]}"
    assert (plan.status_code, plan.json()["candidate"]["commit_sha"]) == (200, sha_of("one"))
    assert (done.status_code, done.json()["deployment"]["is_rollback"]) == (202, True)


async def test_a_rollback_without_a_release_to_go_back_to_is_not_found(api: httpx.AsyncClient, door: Door) -> None:
    await door.world.project()

    answer = await api.post(f"{API}/projects/shop/rollback", json={"steps_back": 1})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_an_image_that_is_gone_is_a_conflict_that_names_it(api: httpx.AsyncClient, door: Door) -> None:
    """R-08: refused before anything is touched."""
    here = door.world
    here.target.warm = False
    here.source.branches["main"] = [sha_of("one"), sha_of("two")]
    project = await here.project()
    await deployed(here, project, sha_of("one"))
    await deployed(here, project, sha_of("two"))
    here.builder.images.clear()
    here.source.gone.add(sha_of("one"))

    answer = await api.post(f"{API}/projects/shop/rollback", json={"steps_back": 1})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "image_missing")
    assert error["evidence"]["commit_sha"] == sha_of("one")
