"""GitHub behind klepaas's door: connections, projects and the App, with a stand-in GitHub and git in earnest."""

import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from klepaas import logs
from klepaas.domain.actor import Scope
from klepaas.domain.github_app import GitHubApp
from klepaas.domain.repository import parse_repository
from klepaas.errors import Invalid
from klepaas.operations import connections, projects
from klepaas.sources.git import GitSource
from klepaas.storage.connections import ConnectionTable
from klepaas.testing.github import StandInGitHub, StandInRepository
from tests.interfaces.api.doors import API, Door, door_of, everything
from tests.sources.conftest import make_source  # noqa: F401 - a fixture
from tests.workflows.world import World, world


@pytest.fixture
def hub() -> Iterator[StandInGitHub]:
    with StandInGitHub() as stand_in:
        yield stand_in


@pytest.fixture
def shop(hub: StandInGitHub) -> StandInRepository:
    return hub.create_repository("team/shop", files={"Dockerfile": "FROM scratch\n"})


@pytest.fixture
def app(hub: StandInGitHub) -> GitHubApp | None:
    return GitHubApp(
        app_id=str(hub.app.app_id), private_key=hub.app.private_key_pem, webhook_secret=hub.app.webhook_secret
    )


@pytest.fixture
async def here(
    tmp_path: Path,
    hub: StandInGitHub,
    app: GitHubApp | None,
    make_source: Callable[..., GitSource],  # noqa: F811
) -> AsyncIterator[World]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}"
    async with world(url, tmp_path, github_url=hub.url, github_api_url=hub.api_url, github_app=app) as made:
        made.context = replace(made.context, source=make_source(), public_url="https://klepaas.example.org")
        yield made


@pytest.fixture
def door(here: World) -> Door:
    return door_of(here)


@pytest.fixture
async def us(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    """An ordinary owner."""
    async with door.client(await door.token(Scope.ADMIN, owner="us")) as client:
        yield client


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The operator's log."""
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    stream = io.StringIO()
    logs.configure(format="json", level="debug", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(logging.WARNING)
    structlog.reset_defaults()


async def added(client: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    answer = await client.post(f"{API}/connections", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def with_token(client: httpx.AsyncClient, hub: StandInGitHub, name: str = "dana") -> dict[str, Any]:
    return await added(client, name=name, kind="github_token", password=hub.create_token())


async def with_installation(api: httpx.AsyncClient, hub: StandInGitHub, **more: object) -> dict[str, Any]:
    number = hub.install("team")
    return await added(api, name="team", kind="github_app", installation_id=str(number), **more)


# Connections.


async def test_a_token_is_kept_once_github_has_said_whose_it_is(
    us: httpx.AsyncClient, door: Door, hub: StandInGitHub, shop: StandInRepository, tmp_path: Path, written: io.StringIO
) -> None:
    """S-05, S-06: and it is neither told nor written in the clear."""
    token = hub.create_token("dana")

    made = await added(us, name="dana", kind="github_token", password=token)
    listed = await us.get(f"{API}/connections")
    verified = await us.post(f"{API}/connections/dana/verify", json={"repository": shop.clone_url})

    assert made["id"].startswith("gh_")
    assert (made["account"], made["host"]) == ("dana", hub.url.removeprefix("http://"))
    assert verified.json() == {"account": "dana", "branch": "main", "commit_sha": shop.head()}
    told = json.dumps(made) + listed.text + verified.text + repr(await everything(door.world)) + written.getvalue()
    assert token not in told
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("klepaas.db*"))


async def test_a_token_github_does_not_know_is_not_kept(us: httpx.AsyncClient, door: Door, hub: StandInGitHub) -> None:
    before = await everything(door.world)

    answer = await us.post(
        f"{API}/connections", json={"name": "x", "kind": "github_token", "password": "ghp_c4n4ry00000000000"}
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "authentication_failed")
    assert "c4n4ry" not in answer.text
    assert await everything(door.world) == before


async def test_a_token_is_verified_without_a_repository(us: httpx.AsyncClient, hub: StandInGitHub) -> None:
    await with_token(us, hub)

    answer = await us.post(f"{API}/connections/dana/verify", json={})

    assert answer.json() == {"account": "dana", "branch": None, "commit_sha": None}


async def test_an_installation_is_the_operators_to_give(
    us: httpx.AsyncClient, api: httpx.AsyncClient, hub: StandInGitHub, shop: StandInRepository
) -> None:
    """Its number is easily guessed, and opens everything the App may see there."""
    number = str(hub.install("team"))
    body = {"name": "team", "kind": "github_app", "installation_id": number}

    refused = await us.post(f"{API}/connections", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")

    made = await added(api, **body, owner="us")
    assert (made["installation_id"], made["account"]) == (number, "team")
    assert [each["id"] for each in (await us.get(f"{API}/connections")).json()["connections"]] == [made["id"]]
    verified = await us.post(f"{API}/connections/team/verify", json={"repository": "team/shop"})
    assert verified.json()["commit_sha"] == shop.head()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"installation_id": "99999"}, 404),
        ({"installation_id": "1 OR 1"}, 422),
        ({"installation_id": ""}, 422),
        ({}, 422),
        ({"installation_id": "5", "password": "x"}, 422),
        ({"installation_id": "5", "host": "git.example.org"}, 422),
        ({"installation_id": "5", "owner": "nobody"}, 404),
        ({"kind": "github_token"}, 422),
        ({"kind": "github_token", "password": "a b"}, 422),
        ({"kind": "github_token", "password": "x", "username": "dana"}, 422),
        ({"kind": "github_token", "password": "x", "installation_id": "5"}, 422),
        ({"kind": "github_token", "password": "x", "server": "http://ghe.example.org"}, 422),
        ({"kind": "github_token", "password": "x", "server": "https://ghe.example.org/path"}, 422),
        ({"kind": "git_basic", "password": "x", "installation_id": "5"}, 422),
    ],
)
async def test_what_does_not_fit_together_is_refused(
    api: httpx.AsyncClient, door: Door, us: httpx.AsyncClient, fields: dict[str, str], status: int
) -> None:
    before = await everything(door.world)

    answer = await api.post(f"{API}/connections", json={"name": "x", "kind": "github_app", **fields})

    assert answer.status_code == status, answer.text
    assert await everything(door.world) == before


@pytest.mark.parametrize("server", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "10.0.0.8", "0.0.0.0"])
async def test_a_user_cannot_have_klepaas_ask_behind_its_walls(
    us: httpx.AsyncClient, hub: StandInGitHub, server: str
) -> None:
    """S-09."""
    port = hub.url.rpartition(":")[2]
    body = {"name": "x", "kind": "github_token", "password": "ghp_c4n4ry00000000000", "server": f"{server}:{port}"}
    if server == "127.0.0.1":
        body["server"] = "127.0.0.1:1"  # at the stand-in's own port it would be the operator's GitHub

    answer = await us.post(f"{API}/connections", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    assert "does not speak to" in answer.json()["error"]["message"]
    assert hub.requests == []


async def test_a_github_connection_opens_repositories_of_its_github_only(
    us: httpx.AsyncClient, hub: StandInGitHub, shop: StandInRepository
) -> None:
    """S-10: not by a project, not by moving one, not by verifying."""
    made = await with_token(us, hub)
    good = {"repository": "team/shop", "name": "shop", "target": "fake", "connection_id": made["id"]}
    assert (await us.post(f"{API}/projects", json=good)).status_code == 201
    elsewhere = "https://git.example.org/team/shop.git"

    answers = [
        await us.post(f"{API}/projects", json=good | {"name": "x", "repository": elsewhere}),
        await us.patch(f"{API}/projects/shop", json={"repository": elsewhere, "connection_id": "dana"}),
        await us.post(f"{API}/connections/dana/verify", json={"repository": elsewhere}),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422]


async def test_a_token_of_another_github_is_not_shown_to_this_one(
    us: httpx.AsyncClient, here: World, hub: StandInGitHub, shop: StandInRepository
) -> None:
    """S-10: also where the operator changed the address of GitHub afterwards."""
    made = await with_token(us, hub)
    moved = replace(here.context, github_url="https://github.example.org")
    repository = parse_repository("team/shop", github_url=moved.github_url)

    with pytest.raises(Invalid, match="only"):
        await connections.opened(moved, made["id"], repository)


async def test_a_fetch_shows_git_a_token_for_one_repository(
    api: httpx.AsyncClient, here: World, hub: StandInGitHub, shop: StandInRepository, tmp_path: Path
) -> None:
    hub.create_repository("team/other", files={"a": "b"})
    made = await with_installation(api, hub)
    repository = parse_repository("team/shop", github_url=hub.url)

    credential = await connections.opened(here.context, made["id"], repository)

    assert credential is not None
    fetched = await here.context.source.fetch(
        repository, branch="main", commit=None, into=tmp_path / "out", credential=credential
    )
    assert fetched.sha == shop.head()
    assert hub.world.tokens[credential.password].repositories == frozenset({shop.id})
    assert dict(hub.world.tokens[credential.password].permissions or {})["contents"] == "read"


# Projects.


async def test_a_project_learns_its_repository_from_github(
    api: httpx.AsyncClient, hub: StandInGitHub, shop: StandInRepository
) -> None:
    made = await with_installation(api, hub)
    body = {"repository": "TEAM/Shop", "target": "fake", "connection_id": made["id"], "auto_deploy": True}

    project = (await api.post(f"{API}/projects", json=body)).json()

    assert (project["repository"], project["github_repository_id"]) == ("team/shop", shop.id)
    assert project["auto_deploy"] is True
    assert project["rules"] == {
        "pushes": "merges",
        "paths": [],
        "releases": True,
        "wait_for_checks": False,
        "after_rollback": "deploy",
    }


async def test_a_project_is_registered_while_github_is_away(
    us: httpx.AsyncClient, here: World, hub: StandInGitHub, shop: StandInRepository
) -> None:
    made = await with_token(us, hub)
    hub.faults.down = True
    body = {"repository": "team/shop", "target": "fake", "connection_id": made["id"]}

    answer = await us.post(f"{API}/projects", json=body)
    assert (answer.status_code, answer.json()["github_repository_id"]) == (201, None)

    hub.faults.clear()
    project = await here.context.projects.get(answer.json()["id"])
    assert project is not None
    learnt = await projects.learn(here.context, project)
    assert learnt.github_repository_id == shop.id
    assert await here.context.projects.get(project.id) == learnt


async def test_the_same_repository_is_the_same_however_its_address_was_written(
    us: httpx.AsyncClient, hub: StandInGitHub, shop: StandInRepository
) -> None:
    body = {"repository": f"{hub.url}/team/shop.git", "target": "fake", "auto_deploy": True}

    assert (await us.post(f"{API}/projects", json=body)).json()["repository"] == "team/shop"


async def test_another_repository_drops_the_connection_and_a_renamed_one_keeps_it(
    us: httpx.AsyncClient, here: World, hub: StandInGitHub, shop: StandInRepository
) -> None:
    """S-10, R-26."""
    hub.create_repository("team/other", files={"a": "b"})
    made = await with_token(us, hub)
    body = {"repository": "team/shop", "name": "shop", "target": "fake", "connection_id": made["id"]}
    project = (await us.post(f"{API}/projects", json=body)).json()

    shop.rename("boutique")
    found = await here.context.projects.get(project["id"])
    assert found is not None
    renamed = await projects.learn(here.context, found)
    assert (renamed.repository.display, renamed.connection_id) == ("team/boutique", made["id"])
    assert renamed.repository.location == f"{hub.url}/team/boutique.git"

    changed = (await us.patch(f"{API}/projects/shop", json={"repository": "team/other"})).json()
    assert (changed["connection_id"], changed["github_repository_id"]) == (None, None)


async def test_who_takes_the_old_name_does_not_take_the_project(
    us: httpx.AsyncClient, here: World, hub: StandInGitHub, shop: StandInRepository
) -> None:
    """S-10, R-26: the number is another one."""
    made = await with_token(us, hub)
    body = {"repository": "team/shop", "name": "shop", "target": "fake", "connection_id": made["id"]}
    project = (await us.post(f"{API}/projects", json=body)).json()
    shop.rename("boutique")
    hub.create_repository("team/shop", files={"evil": "yes"})

    found = await here.context.projects.get(project["id"])
    assert found is not None
    learnt = await projects.learn(here.context, found)

    assert learnt == found
    assert learnt.github_repository_id == shop.id


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"push": "merges"}, "no rule 'push'"),
        ({"pushes": "some"}, "rule pushes"),
        ({"paths": "a"}, "rule paths"),
        ({"paths": ["/etc"]}, "/etc"),
        ({"paths": ["a/../b"]}, "a/../b"),
        ({"paths": ["!"]}, "'!'"),
        ({"paths": ["a\nb"]}, "pattern"),
        ({"paths": ["x" * 300]}, "characters"),
        ({"paths": ["x"] * 51}, "rule paths"),
        ({"releases": "perhaps"}, "rule releases"),
        ({"after_rollback": 1}, "rule after_rollback"),
    ],
)
async def test_a_rule_nobody_knows_or_that_makes_no_sense_is_refused(
    us: httpx.AsyncClient, door: Door, rules: dict[str, Any], said: str
) -> None:
    before = await everything(door.world)

    answer = await us.post(f"{API}/projects", json={"repository": "team/shop", "target": "fake", "rules": rules})

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    assert said in answer.json()["error"]["message"]
    assert await everything(door.world) == before


async def test_rules_are_changed_one_by_one(us: httpx.AsyncClient) -> None:
    await us.post(f"{API}/projects", json={"repository": "team/shop", "name": "shop", "target": "fake"})

    await us.patch(
        f"{API}/projects/shop",
        json={"auto_deploy": True, "rules": {"pushes": "every_push", "paths": ["services/**", "!**/*.md"]}},
    )
    await us.patch(f"{API}/projects/shop", json={"rules": {"wait_for_checks": True}})
    changed = (await us.patch(f"{API}/projects/shop", json={"rules": {"pushes": None}})).json()

    assert changed["auto_deploy"] is True
    assert changed["rules"]["pushes"] == "merges"
    assert changed["rules"]["paths"] == ["services/**", "!**/*.md"]
    assert changed["rules"]["wait_for_checks"] is True


async def test_only_repositories_at_github_are_deployed_automatically(us: httpx.AsyncClient) -> None:
    body = {"repository": "https://git.example.org/team/shop", "target": "fake", "name": "shop"}

    refused = await us.post(f"{API}/projects", json=body | {"auto_deploy": True})
    assert refused.status_code == 422
    assert (await us.post(f"{API}/projects", json=body)).status_code == 201
    assert (await us.patch(f"{API}/projects/shop", json={"auto_deploy": True})).status_code == 422


async def test_a_new_project_follows_the_branch_the_operator_chose(us: httpx.AsyncClient, here: World) -> None:
    door = door_of(replace(here, context=replace(here.context, main_branch="trunk")))
    async with door.client(await door.token(Scope.ADMIN, owner="us")) as client:
        body = {"repository": "team/shop", "target": "fake"}
        assert (await client.post(f"{API}/projects", json=body)).json()["branch"] == "trunk"
        named = body | {"name": "other", "branch": "main"}
        assert (await client.post(f"{API}/projects", json=named)).json()["branch"] == "main"


# The App.


async def test_the_status_tells_what_is_there_and_no_secret(
    api: httpx.AsyncClient, us: httpx.AsyncClient, hub: StandInGitHub, shop: StandInRepository
) -> None:
    number = hub.install("team")

    seen = (await api.get(f"{API}/github")).json()
    by_owner = (await us.get(f"{API}/github")).json()

    assert seen["app"]["app_id"] == str(hub.app.app_id)
    assert seen["app_from"] == "settings"
    assert seen["webhook_url"] == "https://klepaas.example.org/api/v1/cicd/webhook"
    assert seen["webhook_secrets"] == ["app"]
    assert [(each["id"], each["account"]) for each in seen["installations"]] == [(str(number), "team")]
    assert by_owner["installations"] == []
    assert hub.app.webhook_secret not in json.dumps(seen)
    assert "PRIVATE KEY" not in json.dumps(seen)
    hub.faults.down = True
    assert "cannot be reached" in (await api.get(f"{API}/github")).json()["problem"]


async def test_an_app_of_the_settings_is_not_replaced(api: httpx.AsyncClient) -> None:
    answers = [
        await api.get(f"{API}/github/manifest", params={"redirect_url": "http://127.0.0.1:1/made"}),
        await api.post(f"{API}/github/app", json={"code": "c0de"}),
        await api.delete(f"{API}/github/app"),
    ]

    assert [answer.status_code for answer in answers] == [409, 409, 409]


class TestWithoutAnApp:
    @pytest.fixture
    def app(self) -> GitHubApp | None:
        return None

    async def test_an_app_is_made_by_githubs_manifest_flow(
        self, api: httpx.AsyncClient, door: Door, here: World, hub: StandInGitHub, tmp_path: Path, written: io.StringIO
    ) -> None:
        """S-05, S-06: its key goes from GitHub into the seal and nowhere else."""
        assert (await here.context.github_app.webhook_secrets()).app is None
        told = (await api.get(f"{API}/github/manifest", params={"redirect_url": "http://127.0.0.1:1/made"})).json()
        assert told["manifest"]["default_permissions"] == {
            "contents": "read",
            "metadata": "read",
            "checks": "read",
            "pull_requests": "write",
            "statuses": "write",
            "deployments": "write",
        }
        assert told["manifest"]["default_events"] == ["push", "release", "pull_request"]
        assert told["manifest"]["hook_attributes"]["url"] == "https://klepaas.example.org/api/v1/cicd/webhook"

        code = await _confirmed(told)
        made = await api.post(f"{API}/github/app", json={"code": code})
        again = await api.post(f"{API}/github/app", json={"code": code})

        assert made.status_code == 201, made.text
        assert again.status_code == 409
        app = hub.world.apps[int(made.json()["app_id"])]
        assert (await here.context.github_app.webhook_secrets()).app == app.webhook_secret
        status = await api.get(f"{API}/github")
        assert (status.json()["app_from"], status.json()["problem"]) == ("manifest", "")
        files = b"".join(path.read_bytes() for path in tmp_path.glob("klepaas.db*"))
        told_all = made.text + status.text + repr(await everything(door.world)) + written.getvalue()
        for secret in (app.webhook_secret, app.private_key_pem.splitlines()[3], code):
            assert secret not in told_all
            assert secret.encode() not in files

    async def test_a_code_works_once_and_only_githubs(self, api: httpx.AsyncClient, door: Door) -> None:
        before = await everything(door.world)

        answers = [await api.post(f"{API}/github/app", json={"code": code}) for code in ("unknown", "../../user", "")]

        assert [answer.status_code for answer in answers] == [422, 422, 422]
        assert await everything(door.world) == before

    async def test_a_forgotten_app_speaks_no_more(self, api: httpx.AsyncClient, here: World) -> None:
        told = (await api.get(f"{API}/github/manifest", params={"redirect_url": "http://127.0.0.1:1/made"})).json()
        await api.post(f"{API}/github/app", json={"code": await _confirmed(told)})

        assert (await api.delete(f"{API}/github/app")).status_code == 204

        assert (await api.get(f"{API}/github")).json()["app"] is None
        assert (await here.context.github_app.webhook_secrets()).app is None
        assert (await api.delete(f"{API}/github/app")).status_code == 404

    async def test_without_a_public_address_the_app_gets_no_webhooks(self, here: World) -> None:
        door = door_of(replace(here, context=replace(here.context, public_url=None)))
        async with door.client(await door.token()) as api:
            told = (await api.get(f"{API}/github/manifest", params={"redirect_url": "http://127.0.0.1:1/made"})).json()

        assert "hook_attributes" not in told["manifest"]
        assert "default_events" not in told["manifest"]

    async def test_an_organization_gets_its_own(self, api: httpx.AsyncClient, hub: StandInGitHub) -> None:
        query = {"redirect_url": "http://127.0.0.1:1/made", "organization": "octo-org", "name": "octo ships"}
        told = (await api.get(f"{API}/github/manifest", params=query)).json()

        assert told["post_to"] == f"{hub.url}/organizations/octo-org/settings/apps/new"
        assert told["manifest"]["name"] == "octo ships"

    @pytest.mark.parametrize(
        "query",
        [{"redirect_url": "javascript:alert(1)"}, {"organization": "a/../b"}, {"name": "x" * 50}, {"name": "<b>"}],
    )
    async def test_a_manifest_with_something_strange_is_refused(
        self, api: httpx.AsyncClient, query: dict[str, str]
    ) -> None:
        answer = await api.get(f"{API}/github/manifest", params={"redirect_url": "http://127.0.0.1:1/", **query})

        assert answer.status_code == 422

    async def test_no_installation_is_connected_before_there_is_an_app(self, api: httpx.AsyncClient) -> None:
        body = {"name": "team", "kind": "github_app", "installation_id": "5"}

        assert (await api.post(f"{API}/connections", json=body)).status_code == 409

    async def test_an_app_made_elsewhere_is_known_here_soon(
        self, api: httpx.AsyncClient, here: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process of the same klepaas made it."""
        other = door_of(replace(here, context=here.context))
        current = here.context.github_app
        assert await current.now() is None
        made = GitHubApp(app_id="7", private_key="key", webhook_secret="s")
        await current._stored.put(made, here.context.clock.now())
        assert await current.now() is None, "asked for with every webhook: from memory"

        monkeypatch.setattr("klepaas.operations.current_app.LOOK_AGAIN_AFTER_S", 0.0)
        assert (await other.world.context.github_app.webhook_secrets()).app == "s"


async def test_the_connection_table_keeps_nothing_of_an_installation(
    api: httpx.AsyncClient, here: World, hub: StandInGitHub
) -> None:
    made = await with_installation(api, hub)
    table = here.context.connections
    assert isinstance(table, ConnectionTable)

    assert (await table.open(made["id"])).password == ""


async def _confirmed(told: dict[str, Any]) -> str:
    """What a browser does with the manifest: the code it comes back with."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.post(
            told["post_to"], params={"state": "s"}, data={"manifest": json.dumps(told["manifest"])}
        )
    assert answer.status_code == 302, answer.text
    return str(httpx.URL(answer.headers["location"]).params["code"])
