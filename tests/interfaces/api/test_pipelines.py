"""Setting up the chain of a repository at Naver Cloud: the old door's words, and our own door."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from klepaas.domain.actor import Scope
from klepaas.interfaces.cli.app import run
from klepaas.testing.ncp import StandInNcp
from tests.interfaces.api.doors import API, Door, door_of, everything
from tests.workflows.world import World

Command = Callable[..., Awaitable[tuple[int, str, str]]]

CREATE = f"{API}/ncp/pipeline/create"
ASKED = {"owner": "K-Le-PaaS", "repo": "test-01", "branch": "main", "user_id": "user123"}
"""The contract's own example (section 2.3)."""


@pytest.fixture
def door(here: World, ncp: StandInNcp) -> Door:
    return door_of(here)


def counts(ncp: StandInNcp) -> list[int]:
    return [len(each) for each in (ncp.repositories, ncp.build_projects, ncp.deploy_projects, ncp.pipeline_projects)]


async def test_the_old_door_answers_in_its_own_words(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    """The contract's section 2.3: fields, texts, names; ids are strings."""
    answer = await api.post(CREATE, json=ASKED)
    told = answer.json()
    [pipeline] = ncp.pipeline_projects

    assert answer.status_code == 200
    assert told["status"] == "created"
    assert told["message"] == "Full CI/CD pipeline created for K-Le-PaaS/test-01"
    assert told["image_repo"] == f"{ncp.registry_host}/k-le-paas-test-01"
    assert told["pipeline_id"] == str(pipeline.id)
    assert pipeline.name == "pipeline-K-Le-PaaS-test-01"
    assert [one.name for one in ncp.build_projects] == ["build-K-Le-PaaS-test-01"]
    assert [one.name for one in ncp.deploy_projects] == ["deploy-K-Le-PaaS-test-01"]
    assert len(told["changes"]) == 6


async def test_the_same_call_again_returns_the_same_ids(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    """Also in another case, without a branch, and for another `user_id`: that is a hint and finds nothing (11.1)."""
    first = (await api.post(CREATE, json=ASKED)).json()
    again = [
        (await api.post(CREATE, json=body)).json()
        for body in (ASKED, {"owner": "k-le-paas", "repo": "Test-01", "user_id": 7})
    ]
    projects = (await api.get(f"{API}/projects")).json()["projects"]

    assert [{**one, "changes": first["changes"]} for one in again] == [first, first]
    assert [one["changes"] for one in again] == [[], []]
    assert [(one["name"], one["target"], one["branch"]) for one in projects] == [("test-01", "ncp", "main")]
    assert counts(ncp) == [1, 1, 1, 1]


async def test_two_calls_at_once_make_one_project(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    answers = await asyncio.gather(*(api.post(CREATE, json=ASKED) for _ in range(3)))

    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["pipeline_id"] for answer in answers}) == 1
    assert len((await api.get(f"{API}/projects")).json()["projects"]) == 1
    assert counts(ncp) == [1, 1, 1, 1]


async def test_a_call_after_a_lost_connection_goes_on_where_it_stopped(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    ncp.faults.cut(door="sourcedeploy")
    broken = await api.post(CREATE, json=ASKED)
    ncp.faults.clear()
    whole = (await api.post(CREATE, json=ASKED)).json()

    assert broken.status_code == 503
    assert counts(ncp) == [1, 1, 1, 1]
    assert whole["build_project_id"] == str(ncp.build_projects[0].id)
    assert len(whole["changes"]) == 4


async def test_another_branch_is_set_on_project_and_chain(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    first = (await api.post(CREATE, json=ASKED)).json()
    again = (await api.post(CREATE, json={**ASKED, "branch": "release"})).json()
    [project] = (await api.get(f"{API}/projects")).json()["projects"]

    assert again["pipeline_id"] == first["pipeline_id"]
    assert project["branch"] == "release"
    assert ncp.build_projects[0].settings.source.config.branch == "release"


async def test_the_mirror_may_be_named(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    asked = {**ASKED, "sc_project_id": 3000001, "sc_repo_name": "my-mirror"}
    first = await api.post(CREATE, json=asked)
    other = await api.post(CREATE, json={**asked, "sc_repo_name": "another"})

    assert first.status_code == 200
    assert list(ncp.repositories) == ["my-mirror"]
    assert (other.status_code, other.json()["detail"]) == (
        409,
        "test-01 is mirrored to my-mirror already, not to another.",
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"), [(400, "330900", 400), (404, "", 404), (413, "430", 413), (503, "500", 503)]
)
async def test_what_the_provider_says_is_passed_on(
    api: httpx.AsyncClient, ncp: StandInNcp, status: int, code: str, expected: int
) -> None:
    """The contract's 5.1 and 11.22."""
    ncp.faults.fail(status=status, door="sourcepipeline")
    answer = await api.post(CREATE, json=ASKED)

    assert answer.status_code == expected
    assert answer.json()["detail"].startswith(f"NCP REST error {status}: ")


@pytest.mark.parametrize("deny", [True, False])
async def test_a_provider_that_does_not_let_us_in_is_502(api: httpx.AsyncClient, ncp: StandInNcp, deny: bool) -> None:
    """The contract's 11.22: the caller's own login is fine."""
    if deny:
        ncp.faults.deny(door="sourcebuild")
    else:
        ncp.revoke_key(ncp.access_key)
    answer = await api.post(CREATE, json=ASKED)

    assert answer.status_code == 502
    assert answer.json()["detail"].startswith("NCP REST error 401: ")
    assert "www-authenticate" not in answer.headers
    assert ncp.secret_key not in answer.text


async def test_errors_of_the_old_door_say_detail_and_ours_beside_it(door: Door, api: httpx.AsyncClient) -> None:
    """The contract's section 1: `{"detail": "<text>"}`; what does not fit is 422 with a list."""
    unfit = await api.post(CREATE, json={"owner": "K-Le-PaaS"})
    async with door.client() as stranger:
        closed = await stranger.post(CREATE, json=ASKED)

    assert unfit.status_code == 422
    assert unfit.json()["detail"] == [{"type": "missing", "loc": ["body", "repo"], "msg": "Field required"}]
    assert unfit.json()["error"]["message"] == "The field 'repo' is missing."
    assert closed.status_code == 401
    assert closed.headers["WWW-Authenticate"] == "Bearer"
    assert closed.json()["detail"] == closed.json()["error"]["message"]


async def test_no_token_but_an_administrators_makes_a_chain(door: Door, ncp: StandInNcp) -> None:
    """S-08."""
    async with door.client(await door.token(Scope.DEPLOY)) as deployer:
        answer = await deployer.post(CREATE, json=ASKED)

    assert answer.status_code == 403
    assert ncp.requests == []


async def test_two_owners_of_one_repository_have_two_chains(
    door: Door, api: httpx.AsyncClient, ncp: StandInNcp
) -> None:
    """S-04: nobody is given what is another's."""
    ours = (await api.post(CREATE, json=ASKED)).json()
    async with door.client(await door.token(Scope.ADMIN, owner="them")) as them:
        theirs = (await them.post(CREATE, json=ASKED)).json()
        stolen = await them.post(CREATE, json={**ASKED, "repo": "else", "sc_repo_name": "K-Le-PaaS-test-01"})

    assert theirs["pipeline_id"] != ours["pipeline_id"]
    assert theirs["image_repo"] != ours["image_repo"]
    assert stolen.status_code == 409
    assert len(ncp.repositories) == 2


async def test_without_keys_it_is_said_and_nothing_is_made(here: World, ncp: StandInNcp) -> None:
    here.context = replace(here.context, pipelines={}, targets={"fake": here.target})
    door = door_of(here)
    async with door.client(await door.token()) as api:
        before = await everything(here)
        answer = await api.post(CREATE, json=ASKED)

        assert answer.status_code == 422
        assert "target 'ncp'" in answer.json()["detail"]
        assert await everything(here) == before


async def registered(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await api.post(f"{API}/projects", json={"repository": "Team/shop", "target": "ncp", **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_our_door_makes_repairs_and_takes_down(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    await registered(api)
    made = (await api.post(f"{API}/projects/shop/pipeline")).json()
    again = (await api.post(f"{API}/projects/shop/pipeline")).json()
    gone = (await api.delete(f"{API}/projects/shop/pipeline")).json()

    assert len(made["changes"]) == 6
    assert {**again, "changes": made["changes"]} == made
    assert again["changes"] == []
    assert gone["changes"][0] == f"Removed the SourcePipeline project {made['pipeline_id']}."
    assert counts(ncp) == [0, 0, 0, 0]
    assert (await api.get(f"{API}/projects/shop")).status_code == 200


async def test_progress_is_streamed(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    await registered(api)
    answer = await api.post(f"{API}/projects/shop/pipeline", headers={"Accept": "text/event-stream"})
    frames = [frame.split("\n") for frame in answer.text.strip().split("\n\n")]
    told = [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in frames]

    assert [kind for kind, _ in told] == ["change"] * 6 + ["end"]
    assert [data["text"] for _, data in told[:-1]] == told[-1][1]["changes"]


async def test_what_fails_in_the_middle_is_the_last_frame_and_what_fails_at_once_a_status(
    api: httpx.AsyncClient, ncp: StandInNcp
) -> None:
    await registered(api)
    ncp.faults.deny(door="sourcepipeline")
    middle = await api.post(f"{API}/projects/shop/pipeline", headers={"Accept": "text/event-stream"})
    at_once = await api.post(f"{API}/projects/shop/pipeline", headers={"Accept": "text/event-stream"})
    last = middle.text.strip().split("\n\n")[-1]

    assert middle.status_code == 200
    assert last.startswith("event: error\n")
    assert '"code":"permission_missing"' in last
    assert (at_once.status_code, at_once.json()["error"]["code"]) == (502, "permission_missing")


@pytest.mark.parametrize("with_pipeline", [True, False])
async def test_a_project_goes_with_its_chain_only_when_asked(
    api: httpx.AsyncClient, ncp: StandInNcp, with_pipeline: bool
) -> None:
    await registered(api)
    await api.post(f"{API}/projects/shop/pipeline")
    gone = await api.delete(f"{API}/projects/shop", params={"with_pipeline": with_pipeline})

    assert gone.status_code == 204
    assert counts(ncp) == ([0, 0, 0, 0] if with_pipeline else [1, 1, 1, 1])
    assert (await api.get(f"{API}/projects/shop")).status_code == 404


async def test_a_chain_is_not_taken_down_under_a_deployment(api: httpx.AsyncClient, ncp: StandInNcp) -> None:
    await registered(api)
    await api.post(f"{API}/projects/shop/pipeline")
    await api.post(f"{API}/projects/shop/deployments", json={})
    answers = [
        await api.delete(f"{API}/projects/shop/pipeline"),
        await api.delete(f"{API}/projects/shop", params={"with_pipeline": True}),
    ]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert counts(ncp) == [1, 1, 1, 1]


async def test_a_project_of_this_machine_has_no_chain(api: httpx.AsyncClient) -> None:
    await registered(api, target="fake")
    answer = await api.post(f"{API}/projects/shop/pipeline")

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


@pytest.fixture
async def command(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> AsyncIterator[Command]:
    """The command line, logged in to this app behind a real server. Returns its exit code, stdout and stderr."""
    async with door.served() as url:
        monkeypatch.setenv("KLEPAAS_URL", url)
        monkeypatch.setenv("KLEPAAS_TOKEN", await door.token(Scope.OPERATOR))
        monkeypatch.setenv("KLEPAAS_HOME", str(tmp_path / "home"))

        async def klepaas(*arguments: str) -> tuple[int, str, str]:
            capfd.readouterr()
            code = await asyncio.to_thread(run, arguments)
            said = capfd.readouterr()
            return code, said.out, said.err

        yield klepaas


async def test_creating_a_project_sets_up_its_chain_and_tells_how_it_goes(command: Command, ncp: StandInNcp) -> None:
    code, out, err = await command("projects", "create", "Team/shop", "--target", "ncp")
    again = await command("projects", "pipeline", "shop")

    assert code == 0
    assert [line.partition(" (")[0] for line in err.splitlines() if line.startswith("  ")] == [
        "  Made the SourceCommit repository Team-shop",
        "  Made the SourceBuild project build-Team-shop",
        "  Made the SourceDeploy project deploy-Team-shop",
        "  Made the stage production",
        "  Made the scenario deploy-app",
        "  Made the SourcePipeline project pipeline-Team-shop",
    ]
    assert "ncp" in out
    assert (again[0], again[2]) == (0, "Everything is as it should be; nothing was changed.\n")
    assert str(ncp.pipeline_projects[0].id) in again[1]


async def test_with_json_the_chain_is_part_of_the_one_object(command: Command, ncp: StandInNcp) -> None:
    made = json.loads((await command("projects", "create", "Team/shop", "--target", "ncp", "--json"))[1])
    again = json.loads((await command("projects", "pipeline", "shop", "--json"))[1])

    assert made["name"] == "shop"
    assert made["pipeline"]["pipeline_id"] == str(ncp.pipeline_projects[0].id)
    assert again == {**made["pipeline"], "changes": []}


async def test_a_chain_that_stops_half_way_says_how_to_go_on(command: Command, ncp: StandInNcp) -> None:
    ncp.faults.deny(door="sourcepipeline")
    code, _, err = await command("projects", "create", "Team/shop", "--target", "ncp")
    ncp.faults.clear()

    assert code != 0
    assert "Go on with: klepaas projects pipeline shop" in err
    assert "NCP REST error 401" in err
    assert (await command("projects", "pipeline", "shop"))[0] == 0
    assert counts(ncp) == [1, 1, 1, 1]


async def test_removing_a_project_takes_its_chain_down_on_request(command: Command, ncp: StandInNcp) -> None:
    await command("projects", "create", "Team/shop", "--target", "ncp")
    kept = await command("projects", "remove", "shop", "--yes")
    await command("projects", "create", "Team/shop", "--target", "ncp")
    taken = await command("projects", "remove", "shop", "--with-pipeline", "--yes")

    assert "Its chain at the provider still stands" in kept[2]
    assert (taken[0], counts(ncp)) == (0, [0, 0, 0, 0])
