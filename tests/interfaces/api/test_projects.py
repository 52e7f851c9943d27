import httpx
import pytest

from klepaas.domain.actor import Scope
from tests.interfaces.api.doors import API, Door, deployed, everything


async def registered(api: httpx.AsyncClient, **fields: object) -> dict[str, object]:
    answer = await api.post(f"{API}/projects", json={"repository": "octo/shop", "target": "fake", **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_a_project_needs_nothing_but_its_repository_and_target(api: httpx.AsyncClient) -> None:
    answer = await api.post(f"{API}/projects", json={"repository": "octo/shop", "target": "fake"})

    project = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{API}/projects/{project['id']}"
    assert (project["name"], project["repository"], project["branch"]) == ("shop", "octo/shop", "main")
    assert project["created_at"].endswith("Z")


async def test_a_project_is_found_by_its_name_and_by_its_id(api: httpx.AsyncClient) -> None:
    project = await registered(api)

    assert (await api.get(f"{API}/projects/shop")).json() == project
    assert (await api.get(f"{API}/projects/{project['id']}")).json() == project
    assert (await api.get(f"{API}/projects")).json() == {"projects": [project]}


async def test_a_change_keeps_what_it_does_not_name(api: httpx.AsyncClient) -> None:
    await registered(api, settings={"port": 3000})

    answer = await api.patch(f"{API}/projects/shop", json={"settings": {"health_path": "/up"}})

    settings = answer.json()["settings"]
    assert (settings["port"], settings["health_path"]) == (3000, "/up")
    assert answer.json()["branch"] == "main"


async def test_a_retired_project_is_gone(api: httpx.AsyncClient) -> None:
    await registered(api)

    answer = await api.delete(f"{API}/projects/shop")

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.get(f"{API}/projects/shop")).status_code == 404


async def test_variables_are_set_and_removed_by_name_and_never_given_back(api: httpx.AsyncClient, door: Door) -> None:
    """S-06 at this door: what goes in as a value comes out nowhere, and is not in the database as text."""
    await registered(api)
    secret = "canary-5f0c1d2e"

    first = await api.put(f"{API}/projects/shop/variables", json={"variables": {"API_KEY": secret, "OLD": "x"}})
    second = await api.put(f"{API}/projects/shop/variables", json={"variables": {"OLD": None}})
    shown = await api.get(f"{API}/projects/shop/variables")

    assert [each["name"] for each in first.json()["variables"]] == ["API_KEY", "OLD"]
    assert [each["name"] for each in second.json()["variables"]] == ["API_KEY"]
    assert shown.json() == second.json()
    assert secret not in first.text + second.text + shown.text + repr(await everything(door.world))


async def test_the_status_of_a_new_project_says_that_nothing_is_there(api: httpx.AsyncClient) -> None:
    await registered(api)

    status = (await api.get(f"{API}/projects/shop/status")).json()

    assert (status["health"], status["live"], status["active"], status["last"]) == ("absent", None, [], None)


async def test_the_status_shows_what_is_live_and_where(api: httpx.AsyncClient, door: Door) -> None:
    project = await door.world.project()
    deployment = await deployed(door.world, project)
    done = list(door.world.target.calls)

    status = (await api.get(f"{API}/projects/shop/status")).json()

    assert door.world.target.calls == done, "what is put right is told by whoever watches, never by who only asks"
    assert status["live"]["deployment"]["id"] == deployment.id == status["last"]["id"]
    assert status["live"]["release"]["image_digest"] == deployment.image_digest
    assert status["urls"] == ["http://shop-production.invalid"]


async def test_the_runtime_log_gives_the_last_lines(api: httpx.AsyncClient, door: Door) -> None:
    deployment = await deployed(door.world, await door.world.project())
    assert deployment.release_id is not None
    door.world.target.print(deployment.release_id, "one", "two", "three")

    answer = await api.get(f"{API}/projects/shop/logs", params={"lines": 2})

    assert answer.json() == {"lines": ["two", "three"]}


async def test_an_operator_finds_what_an_owner_registered(api: httpx.AsyncClient, door: Door) -> None:
    async with door.client(await door.token(Scope.ADMIN, owner="team")) as team:
        project = await registered(team)

    assert (await api.get(f"{API}/projects/{project['id']}")).json()["owner_id"] == project["owner_id"]


@pytest.mark.parametrize("repository", ["/srv/git/shop", "file:///srv/git/shop"])
async def test_a_repository_on_disk_is_refused_unless_the_operator_allows_it(
    api: httpx.AsyncClient, repository: str
) -> None:
    answer = await api.post(f"{API}/projects", json={"repository": repository, "target": "fake"})

    assert answer.status_code == 422
    assert "KLEPAAS_LOCAL_REPOSITORIES" in answer.json()["error"]["hint"]
