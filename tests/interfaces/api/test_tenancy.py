"""S-04 and S-08, walked along the route table: a route added tomorrow is walked tomorrow."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from klepaas.domain.actor import Scope
from klepaas.domain.connection import ConnectionKind
from klepaas.interfaces.api.app import ROUTERS
from klepaas.operations import connections, projects, tokens
from klepaas.operations.projects import Registration
from klepaas.storage.tables import owners
from tests.interfaces.api.doors import API, Door, delivered, deployed, everything

OPEN = {"/health", f"{API}/health", f"{API}/version"}
"""All that is said to strangers."""

BODIES: dict[tuple[str, str], Any] = {
    ("POST", f"{API}/projects"): {"repository": "octo/new", "target": "fake"},
    ("PATCH", f"{API}/projects/{{project}}"): {"branch": "other"},
    ("PUT", f"{API}/projects/{{project}}/variables"): {"variables": {"A": "1"}},
    ("POST", f"{API}/projects/{{project}}/deployments"): {},
    ("POST", f"{API}/projects/{{project}}/rollback"): {"steps_back": 1},
    ("POST", f"{API}/connections"): {"name": "more", "password": "s3cret"},
    ("POST", f"{API}/connections/{{connection_id}}/verify"): {"repository": "acme/secret"},
    ("POST", f"{API}/tokens"): {"name": "more", "scope": "read"},
    ("POST", f"{API}/github/app"): {"code": "c0de"},
    ("POST", f"{API}/history/imports"): {"source": "old.db", "deployments": []},
    ("POST", f"{API}/ncp/pipeline/create"): {"owner": "octo", "repo": "new"},
    ("POST", f"{API}/projects/integrations"): {"owner": "octo", "repo": "new"},
    ("POST", f"{API}/deployments/ncp-pipeline"): {"owner": "acme", "repo": "shop"},
    ("POST", f"{API}/rollback/commit"): {"owner": "acme", "repo": "shop", "target_commit_sha": "9fceb02"},
}
"""A good body for every route that takes one; a route without would be refused for the wrong reason."""

NEEDS_MORE_THAN_READ = {f"{API}/connections", f"{API}/tokens", f"{API}/github", f"{API}/github/manifest"}
"""GETs that are not for everybody."""

SAYS_WHAT_IS_MISSING = {f"{API}/rollback/diagnose/{{owner}}/{{repo}}"}
"""GETs that answer 200 about a thing that does not exist, and therefore about somebody else's."""


@dataclass(frozen=True)
class Step:
    method: str
    path: str

    @property
    def body(self) -> dict[str, Any]:
        return {"json": BODIES[self.method, self.path]} if (self.method, self.path) in BODIES else {}

    def filled(self, **values: str) -> str:
        return self.path.format(**values)


def steps() -> Iterator[Step]:
    for router in ROUTERS:
        for route in router.routes:
            for method in sorted(route.methods):  # type: ignore[attr-defined]
                assert (getattr(route, "body_field", None) is None) == ((method, route.path) not in BODIES), (  # type: ignore[attr-defined]
                    f"{method} {route.path} needs a good body in BODIES"  # type: ignore[attr-defined]
                )
                yield Step(method, route.path)  # type: ignore[attr-defined]


WALK = list(steps())
ABOUT_SOMETHING = [step for step in WALK if "{" in step.path]
CHANGES = [step for step in WALK if step.method != "GET"]


MISSING = {
    "project": "prj_0000000000000000",
    "deployment_id": "dep_0000000000000000",
    "connection_id": "con_0000000000000000",
    "token_id": "0" * 16,
    "delivery_id": "00000000-0000-0000-0000-000000000000",
    "owner": "no-such-owner",
    "repo": "no-such-repository",
}
"""Ids of every kind of thing there is, of nothing."""


@pytest.fixture
async def theirs(door: Door) -> dict[str, str]:
    """Ids of another owner's project, deployment, connection, token and delivery, all of them real and in use."""
    await door.token(Scope.ADMIN, owner="them")
    them = await door.actor(Scope.ADMIN, owner="them")
    context = door.world.context
    connection = await connections.add(
        context, them, name="forge", kind=ConnectionKind.GIT_BASIC, username="them", password="s3cret"
    )
    wanted = Registration(repository="acme/secret", name="secret", target="fake", connection_id=connection.id)
    project = await projects.register(context, them, wanted)
    deployment = await deployed(door.world, project)
    await door.world.deploy(project)
    token = (await tokens.list_all(context, them))[0]
    delivery_id = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    await delivered(door.world, delivery_id, project)
    return {
        "project": project.id,
        "deployment_id": deployment.id,
        "connection_id": connection.id,
        "token_id": token.id,
        "delivery_id": delivery_id,
        "owner": "acme",
        "repo": "secret",
    }


def test_the_walk_meets_every_kind_of_thing() -> None:
    assert all(any(f"{{{name}}}" in step.path for step in ABOUT_SOMETHING) for name in MISSING)
    assert len(WALK) >= 29
    assert len(CHANGES) >= 12


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_somebody_elses_things_are_not_there(door: Door, theirs: dict[str, str], accept: str) -> None:
    """S-04: the same answer as for a thing that does not exist, and nothing changes."""
    async with door.client(await door.token(Scope.ADMIN, owner="us")) as us:
        before = await everything(door.world)
        for step in ABOUT_SOMETHING:
            async with asyncio.timeout(10):  # a stream that began would never end
                got, of_nothing = [
                    await us.request(step.method, step.filled(**ids), headers={"Accept": accept}, **step.body)
                    for ids in (theirs, MISSING)
                ]

            if step.path in SAYS_WHAT_IS_MISSING:
                assert (got.status_code, of_nothing.status_code) == (200, 200), step
                assert got.json() | {"owner": "", "repo": ""} == of_nothing.json() | {"owner": "", "repo": ""}, step
                continue
            assert (got.status_code, got.json()["error"]["code"]) == (404, "not_found"), step
            assert _without(got, *theirs.values()) == _without(of_nothing, *MISSING.values()), step
        by_name = await us.get(f"{API}/projects/secret"), await us.delete(f"{API}/connections/forge")
        listed = [(await us.get(f"{API}/{things}")).json() for things in ("projects", "connections", "tokens")]

        assert [answer.status_code for answer in by_name] == [404, 404]
        assert all(value not in str(listed) for value in theirs.values())
        assert await everything(door.world) == before


def _without(answer: httpx.Response, *names: str) -> str:
    error = answer.json()["error"]
    text = f"{error['message']} {error['hint']} {error['evidence']}"
    for name in names:
        text = text.replace(name, "…")
    return text


@pytest.mark.parametrize(
    ("path", "more"),
    [("deployments/ncp-pipeline", {}), ("rollback/commit", {"target_commit_sha": "9fceb02"})],
)
async def test_naming_somebody_elses_repository_is_naming_none(
    door: Door, theirs: dict[str, str], path: str, more: dict[str, str]
) -> None:
    """S-04, at doors that take the repository in the body."""
    async with door.client(await door.token(Scope.ADMIN, owner="us")) as us:
        before = await everything(door.world)
        got, of_nothing = [
            await us.post(f"{API}/{path}", json={"owner": ids["owner"], "repo": ids["repo"], **more})
            for ids in (theirs, MISSING)
        ]

        assert (got.status_code, of_nothing.status_code) == (404, 404)
        assert _without(got, "acme", "secret") == _without(of_nothing, MISSING["owner"], MISSING["repo"])
        assert await everything(door.world) == before


async def test_an_owner_cannot_use_anothers_connection_or_make_tokens_for_them(
    door: Door, theirs: dict[str, str]
) -> None:
    async with door.client(await door.token(Scope.ADMIN, owner="us")) as us:
        before = await everything(door.world)

        token = await us.post(f"{API}/tokens", json={"name": "x", "scope": "read", "owner": "them"})
        stronger = await us.post(f"{API}/tokens", json={"name": "x", "scope": "operator"})
        by_id, by_name = [
            await us.post(f"{API}/projects", json={"repository": "octo/x", "target": "fake", "connection_id": each})
            for each in (theirs["connection_id"], "forge")
        ]

        assert (token.status_code, stronger.status_code) == (403, 403)
        assert (by_id.status_code, by_name.status_code) == (404, 404)
        assert await everything(door.world) == before


async def test_not_even_the_operator_lends_an_owners_connection_to_anothers_project(
    door: Door, api: httpx.AsyncClient, theirs: dict[str, str]
) -> None:
    """S-04: whoever can deploy the project could read with it what they may not."""
    answer = await api.post(
        f"{API}/projects",
        json={"repository": "octo/x", "target": "fake", "connection_id": theirs["connection_id"]},
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer klp_0000000000000000_wrong",
        "klp",
        "Bearer " + "x" * 5000,
        "Bearer ü",
    ],
)
async def test_strangers_get_health_and_version_and_nothing_else(
    door: Door, theirs: dict[str, str], authorization: str
) -> None:
    async with door.client() as stranger:
        before = await everything(door.world)
        for step in WALK:
            headers = {"Authorization": authorization.encode()} if authorization else {}
            answer = await stranger.request(step.method, step.filled(**theirs), headers=headers, **step.body)

            if step.path in OPEN:
                assert answer.status_code == 200, step
            else:
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), step
                assert answer.json()["error"]["code"] == "not_authenticated"
        assert await everything(door.world) == before


async def test_a_stranger_is_refused_before_the_body_is_looked_at(door: Door) -> None:
    async with door.client() as stranger:
        answer = await stranger.post(
            f"{API}/projects", content=b"{nonsense", headers={"Content-Type": "application/json"}
        )

    assert answer.status_code == 401


async def test_a_read_token_cannot_change_anything(door: Door) -> None:
    """S-08: on things of its own owner, so that the scope is the only reason."""
    here = door.world
    own = await here.project()
    finished = await deployed(here, own)
    waiting = await here.deploy(own)
    token_id = (await tokens.list_all(here.context, here.actor) or [None])[0]
    async with door.client(await door.token(Scope.READ)) as reader:
        ids = {**MISSING, "project": own.id, "deployment_id": waiting.id, "delivery_id": "our-delivery"}
        ids |= {"owner": "acme", "repo": "shop"}
        await delivered(here, ids["delivery_id"], own)
        ids |= {"token_id": token_id.id} if token_id else {}
        before = await everything(here)
        for step in CHANGES:
            answer = await reader.request(step.method, step.filled(**ids), **step.body)

            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed"), step
        assert await everything(here) == before
        for step in WALK:
            if step.method == "GET" and step.path not in NEEDS_MORE_THAN_READ:
                answer = await reader.get(step.filled(**{**ids, "deployment_id": finished.id}))
                assert answer.status_code == 200, step


async def test_a_deploy_token_deploys_and_changes_no_project(door: Door) -> None:
    here = door.world
    own = await here.project()
    ids = {**MISSING, "project": own.id}
    async with door.client(await door.token(Scope.DEPLOY)) as deployer:
        before = await everything(here)
        for step in CHANGES:
            if not any(word in step.path for word in ("deployment", "rollback", "replay")):
                answer = await deployer.request(step.method, step.filled(**ids), **step.body)
                assert answer.status_code == 403, step
        assert await everything(here) == before

        answer = await deployer.post(f"{API}/projects/{own.id}/deployments", json={})

        assert answer.status_code == 202


async def test_an_expired_token_is_a_wrong_token(door: Door) -> None:
    context, actor = door.world.context, door.world.actor
    _, text = await tokens.create(context, actor, name="brief", scope=Scope.READ, lifetime=timedelta(microseconds=1))

    async with door.client(text) as late:
        assert (await late.get(f"{API}/projects")).status_code == 401


async def test_a_revoked_token_is_refused_at_once(door: Door, api: httpx.AsyncClient) -> None:
    made = (await api.post(f"{API}/tokens", json={"name": "ci", "scope": "read", "lifetime_days": 1})).json()
    async with door.client(made["token"]) as ci:
        assert (await ci.get(f"{API}/projects")).status_code == 200

        assert (await api.delete(f"{API}/tokens/{made['id']}")).status_code == 204

        assert (await ci.get(f"{API}/projects")).status_code == 401


async def test_a_token_is_shown_once_and_kept_as_a_hash(door: Door, api: httpx.AsyncClient) -> None:
    """S-08."""
    made = (await api.post(f"{API}/tokens", json={"name": "ci", "scope": "deploy"})).json()
    secret = made["token"].rsplit("_", 1)[-1]

    listed = await api.get(f"{API}/tokens")

    assert made["id"] in listed.text
    assert secret not in listed.text
    assert secret not in repr(await everything(door.world))


@pytest.mark.parametrize(
    ("scope", "owner", "status"),
    [
        (Scope.READ, "operator", 200),
        (Scope.ADMIN, "operator", 200),
        (Scope.OPERATOR, "them", 200),
        (Scope.READ, "them", 403),
        (Scope.ADMIN, "them", 403),
    ],
)
async def test_the_numbers_of_all_owners_are_for_the_operator(
    door: Door, scope: Scope, owner: str, status: int
) -> None:
    """What stands in Prometheus' configuration needs no power over anything."""
    async with door.client(await door.token(scope, owner=owner)) as prometheus:
        assert (await prometheus.get("/metrics")).status_code == status


async def test_no_owner_sees_the_numbers_where_the_operator_has_none(door: Door) -> None:
    async with door.world.database.write() as connection:
        await connection.execute(sa.update(owners).values(name="renamed"))
    async with door.client(await door.token(Scope.READ, owner="them")) as them:
        assert (await them.get("/metrics")).status_code == 403
