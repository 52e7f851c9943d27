"""Registering and deploying a repository at the doors of the older service: sections 2.1 and 2.2 of its contract."""

from typing import Any

import httpx
import pytest

from klepaas.domain.actor import Scope
from klepaas.operations import projects
from klepaas.operations.projects import Registration
from klepaas.testing.ncp import StandInNcp
from tests.interfaces.api.doors import API, Door, door_of, everything
from tests.workflows.world import World

INTEGRATIONS, DEPLOY, CREATE = (
    f"{API}/{each}" for each in ("projects/integrations", "deployments/ncp-pipeline", "ncp/pipeline/create")
)
NAMED = {"owner": "K-Le-PaaS", "repo": "test01"}
REGISTERED = {**NAMED, "user_id": "u1", "sc_project_id": "3000001", "sc_repo_name": "mirror-01", "branch": "main"}
SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"


@pytest.fixture
def door(here: World, ncp: StandInNcp) -> Door:
    return door_of(here)


async def integrated(api: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await api.post(INTEGRATIONS, json={**REGISTERED, **changes})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_repository_becomes_a_project_that_is_answered_as_stored(api: httpx.AsyncClient) -> None:
    """Section 2.1. `user_id` is a hint (11.1); automatic deployment is off (11.24)."""
    told = await integrated(api)

    assert told == {
        "id": told["id"],
        "user_id": "operator",
        "owner": "K-Le-PaaS",
        "repo": "test01",
        "branch": "main",
        "sc_project_id": "3000001",
        "sc_repo_name": "mirror-01",
        "build_project_id": None,
        "deploy_project_id": None,
        "pipeline_id": None,
        "auto_deploy_enabled": False,
        "created_at": told["created_at"],
        "updated_at": told["updated_at"],
        "project_id": told["project_id"],
        "target": "ncp",
    }
    assert isinstance(told["id"], int)
    assert told["created_at"].endswith("Z")


async def test_the_same_call_again_changes_the_same_project(api: httpx.AsyncClient) -> None:
    """In any case of letters, for another `user_id`, with integers for ids; what is left out stays."""
    first = await integrated(api)
    again = await integrated(api, owner="k-le-paas", repo="TEST01", user_id=7, sc_project_id=3000002, branch="release")
    bare = await api.post(INTEGRATIONS, json=NAMED)

    assert {**again, "updated_at": first["updated_at"]} == {**first, "sc_project_id": "3000002", "branch": "release"}
    assert bare.json() == again
    assert len((await api.get(f"{API}/projects")).json()["projects"]) == 1


async def test_the_mirror_that_was_registered_is_the_one_that_is_made(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    await integrated(api)
    await api.post(CREATE, json=NAMED)
    other = await api.post(INTEGRATIONS, json={**REGISTERED, "sc_repo_name": "another"})

    assert list(ncp.repositories) == ["mirror-01"]
    assert (other.status_code, other.json()["detail"]) == (
        409,
        "test01 is mirrored to mirror-01 already, not to another.",
    )


async def test_a_chain_that_stands_follows_to_another_branch(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    await api.post(CREATE, json=NAMED)
    told = await integrated(api, sc_repo_name=None, branch="release")

    assert told["branch"] == "release"
    assert told["pipeline_id"] == str(ncp.pipeline_projects[0].id)
    assert ncp.build_projects[0].settings.source.config.branch == "release"


async def test_a_project_of_another_target_stays_one(here: World, api: httpx.AsyncClient) -> None:
    wanted = Registration(repository="K-Le-PaaS/test01", target="fake")
    local = await projects.register(here.context, here.actor, wanted)
    told = await integrated(api, branch="release")

    assert (told["project_id"], told["target"], told["branch"]) == (local.id, "fake", "release")
    assert (told["sc_project_id"], told["sc_repo_name"]) == (None, None)


async def test_a_deployment_makes_what_the_chain_lacks_and_is_told_as_started(
    here: World, door: Door, api: httpx.AsyncClient, ncp: StandInNcp
) -> None:
    """Section 2.2: the build project is made and its id stored; 11.2: a trigger says `started`; 11.38: 200. Whoever
    may deploy may, as a deployment makes a chain by itself."""
    await integrated(api)
    async with door.client(await door.token(Scope.DEPLOY)) as deployer:
        answer = await deployer.post(
            DEPLOY,
            json={"owner": "k-le-paas", "repo": "test01", "github_ref": "refs/heads/main", "github_sha": SHA.upper()},
        )
    told, stored = answer.json(), await integrated(api)
    made = await here.context.deployments.get(told["deployment_id"])

    assert answer.status_code == 200
    assert made is not None
    assert told == {
        "status": "started",
        "owner": "K-Le-PaaS",
        "repo": "test01",
        "commit_sha": SHA,
        "environment": "production",
        "deployment_id": made.id,
        "deploy_history_id": made.number,
        "message": "Deployment of 9fceb02 started for K-Le-PaaS/test01",
        "pipeline_id": str(ncp.pipeline_projects[0].id),
    }
    assert (made.branch, made.commit_sha) == ("main", SHA)
    assert stored["build_project_id"] == str(ncp.build_projects[0].id)
    assert stored["pipeline_id"] == told["pipeline_id"]


async def test_a_chain_that_stands_is_not_asked_about_again(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    await api.post(CREATE, json=NAMED)
    asked = len(ncp.requests)
    answers = [
        await api.post(DEPLOY, json={**NAMED, "github_sha": SHA[:7]}, headers={"Idempotency-Key": "once"})
        for _ in range(2)
    ]

    assert len(ncp.requests) == asked
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["commit_sha"] is None
    assert answers[0].json()["message"] == "Deployment of 9fceb02 started for K-Le-PaaS/test01"


async def test_without_a_commit_the_head_of_the_branch_is_deployed(here: World, api: httpx.AsyncClient) -> None:
    await api.post(CREATE, json=NAMED)
    told = (await api.post(DEPLOY, json={**NAMED, "github_ref": "refs/heads/feature/x"})).json()
    made = await here.context.deployments.get(told["deployment_id"])

    assert told["commit_sha"] is None
    assert made is not None
    assert (made.branch, made.commit_asked) == ("feature/x", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"github_sha": "latest"},
        {"github_sha": ""},
        {"github_sha": "abcdef"},
        {"github_sha": "a" * 41},
        {"github_sha": "g" * 40},
        {"github_ref": "refs/tags/v1"},
        {"github_ref": "--upload-pack=x"},
        {"owner": ""},
    ],
)
async def test_what_is_no_commit_or_branch_is_422(here: World, api: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    await api.post(CREATE, json=NAMED)
    before = await everything(here)
    answer = await api.post(DEPLOY, json={**NAMED, "github_sha": SHA, **wrong})

    assert answer.status_code == 422
    assert await everything(here) == before


async def test_an_unregistered_repository_is_not_deployed(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    """Section 2.2 with the text of 5.1."""
    answer = await api.post(DEPLOY, json={**NAMED, "github_sha": SHA})

    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "No project integration found for K-Le-PaaS/test01. Please set up the project first using the deployment API."
    )
    assert ncp.requests == []


async def test_what_the_provider_says_against_it_is_said_before_anything_is_deployed(
    here: World, api: httpx.AsyncClient, ncp: StandInNcp
) -> None:
    """11.22."""
    told = await integrated(api)
    ncp.faults.deny(door="sourcebuild")
    answer = await api.post(DEPLOY, json={**NAMED, "github_sha": SHA})

    assert answer.status_code == 502
    assert answer.json()["detail"].startswith("NCP REST error 401: ")
    assert await here.context.deployments.of_project(told["project_id"]) == []


async def test_a_project_of_another_target_is_deployed_where_it_is(
    here: World, api: httpx.AsyncClient, ncp: StandInNcp
) -> None:
    await projects.register(here.context, here.actor, Registration(repository="K-Le-PaaS/test01", target="fake"))
    told = (await api.post(DEPLOY, json={**NAMED, "github_sha": SHA})).json()

    assert (told["status"], told["pipeline_id"]) == ("started", None)
    assert ncp.requests == []
