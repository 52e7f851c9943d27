"""What came can be looked at and decided once more, by the API and on the command line, each owner their own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx
import pytest

from klepaas.client import Client
from klepaas.domain.actor import Scope
from klepaas.domain.project import Project
from klepaas.domain.verdict import Outcome
from klepaas.errors import NotAllowed, NotFound
from klepaas.interfaces.cli.app import run
from klepaas.operations import projects
from klepaas.operations.projects import Registration
from tests.deliveries.conftest import Decider, Hook, hooked
from tests.deliveries.payloads import push
from tests.interfaces.api.doors import API
from tests.workflows.world import World

PATH = f"{API}/github/deliveries"


async def registered(here: World, owner: str, hook: Hook, **changes: object) -> Project:
    actor = await hook.door.actor(Scope.ADMIN, owner=owner)
    fields = {"repository": "acme/shop", "target": "fake", "rules": {"pushes": "every_push"}, **changes}
    return await projects.register(here.context, actor, Registration(**fields))  # type: ignore[arg-type]


def seen_by(hook: Hook, token: str) -> httpx.AsyncClient:
    return hook.door.client(token)


async def test_the_operator_sees_all_of_it(alone: World) -> None:
    project = await alone.project()
    async with hooked(alone, Decider(project, Outcome.SKIPPED, "auto_deploy_disabled")) as hook:
        await hook.send(delivery="d-1")
        await hook.send(event="ping", delivery="d-2")
        await hook.settled()
        async with seen_by(hook, await hook.door.token()) as operator:
            listed = (await operator.get(PATH)).json()
            shown = (await operator.get(f"{PATH}/d-1")).json()

    assert [each["id"] for each in listed["deliveries"]] == ["d-2", "d-1"]
    assert listed["deliveries"][0]["answer"] == {"status": "ignored", "reason": "unsupported event ping"}
    assert listed["next_before"] is None
    assert shown["repository"] == "acme/shop"
    assert '"ref":"refs/heads/main"' in shown["body"]
    assert shown["headers"]["x-github-event"] == "push"
    assert [(each["project"], each["outcome"], each["reason"]) for each in shown["decisions"]] == [
        ("shop", "skipped", "auto_deploy_disabled")
    ]


async def test_an_owner_sees_their_part_and_no_body(alone: World) -> None:
    """S-04."""
    async with hooked(alone) as hook:
        ours = await registered(alone, "us", hook, name="ours")
        await registered(alone, "them", hook, name="theirs")
        await registered(alone, "them", hook, name="other", repository="acme/other")
        await hook.send(delivery="both")
        await hook.send({**push("acme/other"), "repository": {"full_name": "acme/other"}}, delivery="theirs")
        await hook.send(event="ping", delivery="nobody's")
        await hook.settled()
        async with seen_by(hook, await hook.door.token(Scope.READ, owner="us")) as us:
            listed = (await us.get(PATH)).json()["deliveries"]
            shown = await us.get(f"{PATH}/both")
            hidden = [await us.get(f"{PATH}/{each}") for each in ("theirs", "nobody's", "none")]
            filtered = await us.get(PATH, params={"project": "theirs"})

    assert [each["id"] for each in listed] == ["both"]
    assert [each["project_id"] for each in shown.json()["decisions"]] == [ours.id]
    assert (shown.json()["body"], shown.json()["answer"]) == (None, None)
    assert [answer.status_code for answer in (*hidden, filtered)] == [404] * 4


async def test_pages_and_projects_narrow_the_list(alone: World) -> None:
    project = await alone.project()
    async with hooked(alone, Decider(project)) as hook:
        for number in range(3):
            await hook.send(delivery=f"d-{number}")
        await hook.send(event="ping", delivery="d-ping")
        await hook.settled()
        async with seen_by(hook, await hook.door.token()) as operator:
            first = (await operator.get(PATH, params={"limit": 2})).json()
            second = (await operator.get(PATH, params={"limit": 2, "before": first["next_before"]})).json()
            about = (await operator.get(PATH, params={"project": "shop"})).json()

    pages = [[each["id"] for each in page["deliveries"]] for page in (first, second, about)]
    assert pages == [["d-ping", "d-2"], ["d-1", "d-0"], ["d-2", "d-1", "d-0"]]


async def test_a_replay_decides_by_the_rules_of_now_and_says_what_it_is(here: World) -> None:
    async with hooked(here) as hook:
        project = await registered(here, "us", hook)
        await hook.send(delivery="d-1")
        await hook.settled()
        await here.context.projects.change(replace(project, auto_deploy=True), unchanged_since=project.updated_at)
        async with seen_by(hook, await hook.door.token(Scope.DEPLOY, owner="us")) as us:
            replays = [(await us.post(f"{PATH}/d-1/replay")).json() for _ in range(2)]
            of_a_replay = (await us.post(f"{PATH}/{replays[0]['id']}/replay")).json()
            listed = (await us.get(PATH)).json()["deliveries"]

    outcomes = [(each["replay_of"], each["decisions"][0]["outcome"]) for each in (*replays, of_a_replay)]
    assert outcomes == [("d-1", "deployed"), ("d-1", "repeated"), ("d-1", "repeated")]
    assert len({each["decisions"][0]["deployment_id"] for each in (*replays, of_a_replay)}) == 1
    assert [each["replay_of"] for each in listed] == ["d-1", "d-1", "d-1", None]
    assert listed[-1]["decisions"][0]["outcome"] == "skipped"


async def test_a_replay_of_what_is_about_others_too_is_the_operators(alone: World) -> None:
    """S-04: nobody starts something for somebody else."""
    async with hooked(alone) as hook:
        await registered(alone, "us", hook, name="ours")
        await registered(alone, "them", hook, name="theirs")
        await hook.send(delivery="both")
        await hook.settled()
        async with seen_by(hook, await hook.door.token(Scope.DEPLOY, owner="us")) as us:
            refused = await us.post(f"{PATH}/both/replay")
        async with seen_by(hook, await hook.door.token()) as operator:
            made = await operator.post(f"{PATH}/both/replay")

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
    assert len(made.json()["decisions"]) == 2


async def test_a_replay_that_takes_long_is_shown_undecided(alone: World) -> None:
    from datetime import timedelta

    decider = Decider(await alone.project())
    async with hooked(alone, decider, budget=timedelta(milliseconds=50)) as hook:
        await hook.send(delivery="d-1")
        await hook.settled()
        decider.gate = asyncio.Event()
        async with seen_by(hook, await hook.door.token()) as operator:
            made = (await operator.post(f"{PATH}/d-1/replay")).json()
        decider.gate.set()

    assert (made["decided_at"], made["decisions"], made["replay_of"]) == (None, [], "d-1")


# On the command line and for Python programs.


@pytest.fixture
async def served(alone: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hook]:
    async with hooked(alone, Decider(await alone.project(), Outcome.SKIPPED, "auto_deploy_disabled")) as hook:
        await hook.send(delivery="d-1")
        await hook.send(event="ping", delivery="d-2")
        await hook.settled()
        async with hook.door.served() as url:
            monkeypatch.setenv("KLEPAAS_URL", url)
            monkeypatch.setenv("KLEPAAS_TOKEN", await hook.door.token())
            yield hook


@pytest.fixture
def klepaas(served: Hook, capfd: pytest.CaptureFixture[str]) -> Callable[..., object]:
    async def command(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(run, ["github", "deliveries", *words])
        return code, capfd.readouterr().out

    return command


async def test_the_command_line_lists_what_came_and_what_it_meant(klepaas: Callable[..., object]) -> None:
    code, out = await klepaas()  # type: ignore[misc]
    lines = out.splitlines()

    assert code == 0
    assert lines[0].split() == ["ID", "EVENT", "REPOSITORY", "CAME", "OUTCOME"]
    assert "ignored: unsupported event ping" in lines[1]
    assert "skipped: auto_deploy_disabled" in lines[2]


async def test_the_command_line_shows_and_replays_one(klepaas: Callable[..., object]) -> None:
    code, out = await klepaas("show", "d-1")  # type: ignore[misc]
    again, replayed = await klepaas("replay", "d-1")  # type: ignore[misc]
    missing, _ = await klepaas("show", "d-9")  # type: ignore[misc]

    assert (code, again, missing) == (0, 0, 4)
    assert "for shop" in out
    assert '"ref":"refs/heads/main"' in out
    assert "replay of" in replayed


async def test_the_client_lists_shows_and_replays(served: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    async with Client(os.environ["KLEPAAS_URL"], os.environ["KLEPAAS_TOKEN"]) as client:
        listed = await client.deliveries(limit=1)
        below = await client.deliveries(before=listed["next_before"])
        replayed = await client.replay_delivery("d-1")
        shown = await client.delivery(replayed["id"])
        with pytest.raises(NotFound):
            await client.delivery("d-9")
    async with Client(os.environ["KLEPAAS_URL"], await served.door.token(Scope.READ)) as reader:
        with pytest.raises(NotAllowed):
            await reader.replay_delivery("d-1")

    assert [each["id"] for each in listed["deliveries"]] == ["d-2"]
    assert [each["id"] for each in below["deliveries"]] == ["d-1"]
    assert shown["replay_of"] == "d-1"
