"""The Python client against the real app behind a real uvicorn."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import structlog

from klepaas.client import Client, Message, _Parser, error_from
from klepaas.domain.actor import Scope
from klepaas.errors import (
    BranchNotFound,
    Conflict,
    Invalid,
    KlepaasError,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Outside,
    Unavailable,
)
from klepaas.testing.fake_build import sha_of
from tests.interfaces.api.doors import Door, deployed, door_of
from tests.workflows.world import World, world


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(f"sqlite+aiosqlite:///{tmp_path / 'klepaas.db'}", tmp_path) as made:
        yield made


@pytest.fixture
def door(here: World) -> Door:
    return door_of(here)


@pytest.fixture
async def klepaas(door: Door) -> AsyncIterator[Client]:
    async with door.served() as url, Client(url, await door.token()) as client:
        yield client


async def test_every_route_has_its_method(klepaas: Client, here: World) -> None:
    here.source.branches["main"] = [sha_of("one"), sha_of("two")]
    project = await klepaas.register("octo/shop", target="fake")
    assert (await klepaas.health())["status"] == "ok"
    assert (await klepaas.version())["api"] == "v1"
    assert (await klepaas.projects()) == [project] == [await klepaas.project("shop")]
    assert (await klepaas.configure("shop", settings={"port": 3000}))["settings"]["port"] == 3000
    assert [each["name"] for each in await klepaas.set_variables("shop", {"A": "1", "B": None})] == ["A"]
    assert [each["name"] for each in await klepaas.variables("shop")] == ["A"]

    async with here.node():
        for commit in (sha_of("one"), sha_of("two")):
            started = (await klepaas.deploy("shop", commit=commit, key=commit))["deployment"]["id"]
            assert [message async for message in klepaas.follow(started)][-1].event == "deployment.succeeded"
    assert (await klepaas.deploy("shop", commit=sha_of("two"), key=sha_of("two")))["is_new"] is False
    assert (await klepaas.deployment(started))["status"] == "succeeded"
    assert (await klepaas.evidence(started))["failure"] is None
    assert (await klepaas.events(started, limit=1))["next_after"] == 1
    assert (await klepaas.build_log(started))["lines"][0]["text"].startswith("building")
    assert [m.event async for m in klepaas.follow_build_log(started)] == ["line", "end"]
    assert (await klepaas.deployments("shop", status=["succeeded"], limit=1))["next_before"] is not None
    assert (await klepaas.status("shop"))["health"] == "healthy"
    assert await klepaas.runtime_log("shop") == []
    assert [each["steps_back"] for each in await klepaas.candidates("shop")] == [0, 1]
    assert (await klepaas.roll_back("shop", steps_back=1, dry_run=True))["candidate"]["steps_back"] == 1
    back = (await klepaas.roll_back("shop", steps_back=1))["deployment"]["id"]
    assert (await klepaas.cancel(back))["status"] == "cancelled"
    connection = await klepaas.add_connection("forge", "s3cret", username="dana")
    assert await klepaas.connections() == [connection]
    assert (await klepaas.verify_connection("forge", "octo/shop"))["commit_sha"] == sha_of("two")
    assert (await klepaas.configure("shop", connection_id="forge"))["connection_id"] == connection["id"]
    assert (await klepaas.remove_connection("forge"))["projects"] == [{"id": project["id"], "name": "shop"}]
    token = await klepaas.create_token("ci", "read", lifetime_days=1)
    assert token["id"] in [each["id"] for each in await klepaas.tokens()]
    await klepaas.revoke_token(token["id"])
    await klepaas.retire("shop")
    assert await klepaas.projects() == []


async def test_an_error_comes_out_as_the_class_it_went_in_as(klepaas: Client) -> None:
    with pytest.raises(NotFound) as caught:
        await klepaas.project("nobody")

    assert caught.value.message == "There is no project 'nobody'."
    assert caught.value.hint == "List yours with: klepaas projects"
    assert caught.value.evidence["request_id"].startswith("req_")


async def test_refusals_keep_their_kind(klepaas: Client, door: Door) -> None:
    await klepaas.register("octo/shop", target="fake")
    with pytest.raises(Conflict):
        await klepaas.register("octo/shop", target="fake")
    with pytest.raises(Invalid):
        await klepaas.deploy("shop", branch="--upload-pack=x")
    async with Client(klepaas.url, "klp_0000000000000000_wrong") as stranger:
        with pytest.raises(NotAuthenticated):
            await stranger.projects()
    async with Client(klepaas.url, await door.token(Scope.READ)) as reader:
        with pytest.raises(NotAllowed):
            await reader.deploy("shop")


@pytest.mark.parametrize("name", ["../tokens", "a/b", "..", "?x=1", "#x", "%2e%2e", "a b", "ü"])
async def test_a_name_stays_one_part_of_the_path(klepaas: Client, name: str) -> None:
    with pytest.raises(NotFound):
        await klepaas.project(name)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, {"error": {"code": "branch_not_found", "message": "No."}}, BranchNotFound),
        (502, {"error": {"code": "invented_later", "message": "No."}}, Outside),
        (418, {"error": {"code": "invented_later", "message": "No."}}, KlepaasError),
        (503, "<html>bad gateway</html>", Unavailable),
        (404, [], NotFound),
        (500, {"error": "x"}, KlepaasError),
    ],
)
def test_whatever_answers_becomes_an_error_of_ours(status: int, body: object, kind: type[KlepaasError]) -> None:
    text = body if isinstance(body, str) else json.dumps(body)

    assert type(error_from(httpx.Response(status, text=text))) is kind


def test_the_time_to_come_back_is_kept() -> None:
    answer = httpx.Response(
        503, headers={"Retry-After": "7"}, json={"error": {"code": "unavailable", "message": "Away."}}
    )

    error = error_from(answer)

    assert isinstance(error, Unavailable)
    assert error.retry_after == timedelta(seconds=7)


async def test_no_klepaas_is_said_with_how_to_start_it() -> None:
    async with Client("http://127.0.0.1:9", "klp_x_y") as client:
        with pytest.raises(Unavailable, match="does not answer") as caught:
            await client.projects()

    assert caught.value.hint == "Start it with: klepaas up"
    assert "klp_x_y" not in repr(caught.value.evidence)


@pytest.mark.parametrize("url", ["", "localhost:8700", "ftp://x", "http://", "http://user:pw@host", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        Client(url, "")


async def test_a_stream_survives_a_restart_of_the_server(door: Door, here: World) -> None:
    """Every event once and in order, although the connection broke in the middle and the server came back."""
    here.builder.gate = asyncio.Event()
    deployment = await here.deploy(await here.project())
    seen: list[Message] = []
    restarted = Restarting(door)
    async with (
        here.node(),
        asyncio.timeout(30),
        restarted.served() as url,
        Client(url, await door.token()) as client,
    ):
        async for message in client.follow(deployment.id):
            seen.append(message)
            if message.event == "commit.resolved":
                restarted.cut()
                here.builder.gate.set()

    assert restarted.connections >= 2
    assert [message.event for message in seen] == await here.kinds(deployment)
    assert [int(message.id) for message in seen] == list(range(1, len(seen) + 1))


async def test_a_server_that_stays_away_is_given_up_in_the_end(door: Door, here: World) -> None:
    deployment = await here.deploy(await here.project())
    async with door.served() as url:
        client = Client(url, await door.token(), patience=timedelta(seconds=0.2))
        messages = client.follow(deployment.id)
        assert (await anext(messages)).event == "deployment.queued"
    async with asyncio.timeout(20), client:
        with pytest.raises(Unavailable):
            await anext(messages)


async def test_a_finished_log_is_resumed_from_its_place(klepaas: Client, here: World) -> None:
    deployment = await deployed(here, await here.project())
    first = [message async for message in klepaas.follow_build_log(deployment.id)]

    rest = [message async for message in klepaas.follow_build_log(deployment.id, after=first[0].id)]

    assert [message.event for message in rest] == ["end"]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_a_stream_is_understood_however_it_is_cut(cut: int) -> None:
    text = ': hello\n\nid: 1\nevent: a\ndata: {"x":"\u2028é"}\n\nevent: b\r\ndata:{"y":\r\ndata: 2}\r\n\r\nid: 9\n\n'
    parser = _Parser()
    found = [m for start in range(0, len(text), cut) for m in parser.messages(text[start : start + cut])]

    assert [(m.event, m.id, m.data) for m in found] == [("a", "1", {"x": "\u2028é"}), ("b", "1", {"y": 2})]


class Restarting:
    """A way to the app that breaks when told: what a restart looks like from outside."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._open: set[asyncio.StreamWriter] = set()
        self.connections = 0

    def cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        async with self._door.served() as url:
            target = httpx.URL(url)

            async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                self.connections += 1
                to_reader, to_writer = await asyncio.open_connection(target.host, target.port)
                self._open |= {writer, to_writer}
                await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))
                self._open -= {writer, to_writer}

            server = await asyncio.start_server(join, "127.0.0.1", 0)
            try:
                yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            finally:
                server.close()
                self.cut()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def test_the_last_message_is_known_by_its_kind() -> None:
    last: Callable[[str], bool] = lambda event: Message(event=event, data={}).is_last  # noqa: E731

    assert [last("deployment.failed"), last("deployment.superseded"), last("end")] == [True, True, True]
    assert [last("stage.failed"), last("deployment.outcome_unknown"), last("invented")] == [False, False, False]
