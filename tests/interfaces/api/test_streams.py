"""Streams behind a real uvicorn: replay, follow, keep alive, end, clean up."""

import asyncio
import json
import resource
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.deployment import Deployment
from klepaas.domain.events import Recorded, event_from
from klepaas.errors import NotAuthenticated, NotFound, Unavailable
from klepaas.interfaces.api import door as door_module
from klepaas.interfaces.api import stream
from klepaas.interfaces.api.stream import new_lines
from klepaas.interfaces.api.v1.answers import frames
from klepaas.interfaces.api.v1.answers.answer import example_of
from klepaas.interfaces.api.v1.answers.logs import LogLineAnswer
from klepaas.interfaces.api.v1.pipelines import PipelineAnswer
from klepaas.operations import pipelines, queries, tokens
from klepaas.operations.context import Context
from klepaas.operations.feed import LiveFeed
from klepaas.operations.ports.build_logs import LogLine
from klepaas.operations.ports.chains import Tell
from tests.interfaces.api.doors import API, Door, deployed, door_of
from tests.workflows.world import World, world

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
async def api(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    """The app behind a real server: only there does a stream come piece by piece."""
    headers = {"Authorization": f"Bearer {await door.token()}"}
    async with door.served() as url, httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield client


def messages(text: str) -> list[tuple[str, str, Any]]:
    """(id, event, data) of every complete message; comments are left out."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


async def watched(door: Door) -> int:
    feed = door.world.context.feed
    assert isinstance(feed, LiveFeed)
    return len(feed._watched)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_finished_deployment_is_replayed_and_the_stream_ends(api: httpx.AsyncClient, door: Door) -> None:
    deployment = await deployed(door.world, await door.world.project())
    address = f"{API}/deployments/{deployment.id}/events"

    answer = await api.get(address, headers=SSE)

    found = messages(answer.text)
    listed = (await api.get(address)).json()["events"]
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert [data for _, _, data in found] == listed
    assert [int(number) for number, _, _ in found] == list(range(1, len(listed) + 1))
    assert found[-1][1] == "deployment.succeeded"


@pytest.mark.parametrize("how", ["header", "parameter", "both"])
async def test_a_stream_goes_on_where_the_caller_left_off(api: httpx.AsyncClient, door: Door, how: str) -> None:
    deployment = await deployed(door.world, await door.world.project())
    headers = SSE | ({"Last-Event-ID": "5"} if how != "parameter" else {})
    params = {"after": {"parameter": 5, "both": 2}[how]} if how != "header" else {}

    answer = await api.get(f"{API}/deployments/{deployment.id}/events", headers=headers, params=params)

    numbers = [int(number) for number, _, _ in messages(answer.text)]
    assert numbers == list(range(6, 6 + len(numbers)))
    assert messages(answer.text)[-1][1] == "deployment.succeeded"


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "", "٣", "9" * 30, str(2**53 + 1)])
async def test_a_malformed_last_event_id_is_refused(api: httpx.AsyncClient, door: Door, last: str) -> None:
    deployment = await deployed(door.world, await door.world.project())

    answer = await api.get(
        f"{API}/deployments/{deployment.id}/events",
        headers=SSE | {"Last-Event-ID": last.encode()},  # type: ignore[operator]
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


async def test_a_place_no_log_has_is_refused_before_the_stream_begins(api: httpx.AsyncClient, door: Door) -> None:
    deployment = await deployed(door.world, await door.world.project())

    answer = await api.get(f"{API}/deployments/{deployment.id}/logs", headers=SSE | {"Last-Event-ID": "7"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


async def test_the_described_events_are_sent_like_that(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def follow(*_: object, **__: object) -> AsyncIterator[Recorded]:
        for number, kind, data in messages(frames.EVENTS):
            at, event = datetime.fromisoformat(data["at"]), event_from(kind, data)
            yield Recorded(deployment_id="dep_1", seq=int(number), at=at, node="n", event=event)

    monkeypatch.setattr(queries, "follow", follow)

    assert await _all(stream.events(door.app.state.door, "dep_1", after=0)) == _without_comments(frames.EVENTS)


async def test_the_described_lines_of_a_build_are_sent_like_that(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def follow(*_: object, **__: object) -> AsyncIterator[list[LogLine]]:
        yield [LogLine(**{**line, "at": datetime.fromisoformat(line["at"])})]

    line = example_of(LogLineAnswer)
    monkeypatch.setattr(queries, "follow_build_log", follow)

    assert await _all(stream.build_log(door.app.state.door, "dep_1", after=None)) == _without_comments(frames.BUILD_LOG)


async def test_the_described_lines_of_an_app_are_sent_like_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(_: int) -> list[str]:
        if not looks:
            raise NotFound("Nothing is live.")
        return looks.pop(0)

    looks = [["listening on :8080"], ["GET / 200"]]
    monkeypatch.setattr(stream, "RUNTIME_LOOK_EVERY_S", 0)
    monkeypatch.setattr(stream, "RUNTIME_WINDOW", 1)

    assert await _all(stream.runtime_log(look, lines=1)) == _without_comments(frames.RUNTIME_LOG)


async def test_the_described_progress_is_sent_like_that() -> None:
    async def work(tell: Tell) -> dict[str, Any]:
        for change in made["changes"]:
            await tell(change)
        return made

    made = example_of(PipelineAnswer)

    assert await _all(await stream.progress(work, lambda answer: answer)) == _without_comments(frames.PIPELINE)


async def _all(sent: AsyncIterator[bytes]) -> str:
    return b"".join([part async for part in sent]).decode()


def _without_comments(example: str) -> str:
    assert ": keep-alive\n\n" in example
    return example.replace(": keep-alive\n\n", "")


async def test_events_come_while_they_happen(api: httpx.AsyncClient, door: Door) -> None:
    here = door.world
    here.builder.gate = asyncio.Event()
    deployment = await here.deploy(await here.project())
    seen: list[str] = []
    async with here.node(), api.stream("GET", f"{API}/deployments/{deployment.id}/events", headers=SSE) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
                if seen[-1] == "commit.resolved":
                    here.builder.gate.set()  # the build goes on only once this was seen

    assert seen == await here.kinds(deployment)


async def test_a_quiet_stream_is_kept_alive(here: World) -> None:
    door = door_of(here, keep_alive=timedelta(milliseconds=50))
    deployment = await here.deploy(await here.project())
    headers = {"Authorization": f"Bearer {await door.token()}"} | SSE
    comments = 0
    address = f"{API}/deployments/{deployment.id}/events"
    async with (
        door.served() as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client,
        asyncio.timeout(20),
        client.stream("GET", address) as answer,
    ):
        async for line in answer.aiter_lines():
            comments += line == ": keep-alive"
            if comments == 3:
                break

    assert comments == 3


async def test_a_watcher_that_goes_away_leaves_nothing_behind(api: httpx.AsyncClient, door: Door) -> None:
    """Every disconnect frees its reader and its place in the count."""
    deployment = await door.world.deploy(await door.world.project())
    streams = door.app.state.door.metrics.streams
    for _ in range(3):
        async with api.stream("GET", f"{API}/deployments/{deployment.id}/events", headers=SSE) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    break
            assert await watched(door) == 1
    await until(lambda: streams._value.get() == 0)

    assert await watched(door) == 0


async def test_a_server_that_stops_ends_its_streams(door: Door) -> None:
    """The end is a proper one: a stream that is cut off raises while it is read."""
    deployment = await door.world.deploy(await door.world.project())
    headers = {"Authorization": f"Bearer {await door.token()}"} | SSE
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        async with door.served() as url:
            address = f"{url}{API}/deployments/{deployment.id}/events"
            answer = await client.send(client.build_request("GET", address), stream=True)
            parts = answer.aiter_text()
            begun = await anext(parts)
        rest = [part async for part in parts]

    assert "deployment.queued" in begun
    assert "deployment." not in "".join(rest)


@pytest.mark.parametrize("what", ["deployments/{waiting}/events", "deployments/{waiting}/logs", "projects/shop/logs"])
async def test_a_stream_ends_with_its_token_although_nothing_comes(
    api: httpx.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(door_module, "LOOK_EVERY_S", 0.02)
    here = door.world
    project = await here.project()
    await deployed(here, project)
    waiting = await here.deploy(project)
    token, text = await tokens.create(here.context, here.actor, name="ci", scope=Scope.READ, lifetime=None)
    headers = SSE | {"Authorization": f"Bearer {text}"}
    address = f"{API}/{what.format(waiting=waiting.id)}"
    async with asyncio.timeout(20), api.stream("GET", address, headers=headers) as answer:
        await tokens.revoke(here.context, here.actor, token.id)
        await answer.aread()  # raises when the stream is cut off instead of ended

    assert answer.status_code == 200
    assert door.app.state.door.passes._open == {}
    assert door.app.state.door.metrics.streams._value.get() == 0


async def test_work_that_is_streamed_ends_with_its_token(
    api: httpx.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "LOOK_EVERY_S", 0.02)
    here = door.world
    token, text = await tokens.create(here.context, here.actor, name="ci", scope=Scope.ADMIN, lifetime=None)
    ended = asyncio.Event()

    async def work(context: Context, actor: Actor, project: str, tell: Tell) -> None:
        try:
            await tell("Made the SourceCommit repository shop.")
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(pipelines, "ensure", work)
    headers = SSE | {"Authorization": f"Bearer {text}"}
    async with asyncio.timeout(20):
        async with api.stream("POST", f"{API}/projects/shop/pipeline", headers=headers) as answer:
            await tokens.revoke(here.context, here.actor, token.id)
            await answer.aread()
        await ended.wait()

    assert [event for _, event, _ in messages(answer.text)] == ["change"]


async def test_a_token_is_looked_at_once_for_all_its_streams(
    api: httpx.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "LOOK_EVERY_S", 0.02)
    deployment = await door.world.deploy(await door.world.project())
    lookers = _lookers(monkeypatch)
    async with AsyncExitStack() as open_streams:
        for _ in range(3):
            address = f"{API}/deployments/{deployment.id}/events"
            await open_streams.enter_async_context(api.stream("GET", address, headers=SSE))
        lookers.clear()
        await until(lambda: lookers.total() > 5)

        assert len(lookers) == 1


@pytest.mark.parametrize("last", [NotAuthenticated("revoked"), RuntimeError("a fault of our own")])
async def test_a_stream_outlives_a_look_without_an_answer_and_no_other(
    api: httpx.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch, last: Exception
) -> None:
    """A database that is away for a moment must not send a thousand subscribers off."""
    monkeypatch.setattr(door_module, "LOOK_EVERY_S", 0.02)
    deployment = await door.world.deploy(await door.world.project())
    async with asyncio.timeout(20):
        async with api.stream("GET", f"{API}/deployments/{deployment.id}/events", headers=SSE) as answer:
            lookers = _lookers(monkeypatch, Unavailable("away"), Unavailable("away"), last)
            await answer.aread()

    assert lookers.total() == 3


def _lookers(monkeypatch: pytest.MonkeyPatch, *refusals: Exception) -> Counter[Any]:
    """How often which task asks about a token from now on. It is told these, then the truth."""
    counted, left = Counter[Any](), list(refusals)
    real = tokens.authenticate

    async def authenticate(context: Context, text: str) -> Actor:
        counted[asyncio.current_task()] += 1
        if left:
            raise left.pop(0)
        return await real(context, text)

    monkeypatch.setattr(tokens, "authenticate", authenticate)
    return counted


async def test_a_hundred_thousand_lines_come_once_and_in_order(api: httpx.AsyncClient, door: Door) -> None:
    """R-11: every line once, in order, and again from the middle."""
    here = door.world
    deployment = await deployed(here, await here.project())
    shutil.rmtree(here.context.logs._folder / deployment.id)  # type: ignore[attr-defined]
    writer = here.context.logs.writer(deployment.id, 1)
    for number in range(100_000):
        await writer.write(f"step {number}: “quoted”\tand\\escaped")
    await writer.close()
    address = f"{API}/deployments/{deployment.id}/logs"

    found = messages((await api.get(address, headers=SSE, timeout=60)).text)
    rest = messages((await api.get(address, headers=SSE | {"Last-Event-ID": found[59_999][0]}, timeout=60)).text)

    assert [data["text"] for _, _, data in found[:-1]] == [
        f"step {number}: “quoted”\tand\\escaped" for number in range(100_000)
    ]
    assert found[-1][1:] == ("end", {})
    assert rest == found[60_000:]


async def test_log_lines_come_while_the_build_runs(api: httpx.AsyncClient, door: Door) -> None:
    here = door.world
    here.builder.gate = asyncio.Event()
    deployment = await here.deploy(await here.project())
    found = ""
    address = f"{API}/deployments/{deployment.id}/logs"
    async with here.node(), asyncio.timeout(20), api.stream("GET", address, headers=SSE) as answer:
        async for part in answer.aiter_text():
            found += part
            if "building" in found:
                here.builder.gate.set()

    assert [event for _, event, _ in messages(found)] == ["line", "end"]


async def test_an_app_that_writes_is_followed(
    api: httpx.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RUNTIME_LOOK_EVERY_S", 0.02)
    here = door.world
    project = await here.project()
    deployment = await deployed(here, project)
    assert deployment.release_id is not None
    here.target.print(deployment.release_id, "one", "two", "two")
    found = ""
    async with asyncio.timeout(20):
        async with api.stream("GET", f"{API}/projects/shop/logs?lines=2", headers=SSE) as answer:
            async for part in answer.aiter_text():
                found += part
                count = len(messages(found))
                if count == 2:
                    here.target.print(deployment.release_id, "two", "three")
                if count == 4:
                    break

    assert [data["text"] for _, _, data in messages(found)] == ["two", "two", "two", "three"]


@pytest.mark.parametrize(
    ("before", "now", "new", "gap"),
    [
        ([], ["a"], ["a"], False),
        (["a", "b"], ["a", "b"], [], False),
        (["a", "b"], ["a", "b", "c"], ["c"], False),
        (["a", "b", "c", "d"], ["b", "c", "d", "e"], ["e"], False),
        (["t", "t"], ["t", "t", "t"], ["t"], False),
        (["a", "b", "a"], ["b", "a", "b", "a"], ["b", "a"], False),
        (["a", "b", "c", "d"], ["w", "x", "y", "z"], ["w", "x", "y", "z"], True),
        (["a", "b"], ["new", "release"], ["new", "release"], False),
        (["a"], [], [], False),
    ],
)
def test_what_is_new_is_told_from_two_looks(before: list[str], now: list[str], new: list[str], gap: bool) -> None:
    assert (list(new_lines(before, now, window=4)[0]), new_lines(before, now, window=4)[1]) == (new, gap)


@pytest.mark.slow
async def test_two_hundred_watchers_get_every_event_once_and_in_order(tmp_path: Path) -> None:
    """One reader of the database, however many watch."""
    watchers = 200
    async with _many_files(2 * watchers + 200), world(f"sqlite+aiosqlite:///{tmp_path / 'k.db'}", tmp_path) as here:
        door = door_of(here)
        here.builder.gate = asyncio.Event()
        deployment = await here.deploy(await here.project())
        reads = _counted_reads(here)
        token = await door.token()
        async with door.served() as url, here.node(), asyncio.timeout(100):
            begun = Counter[str]()
            watching = [asyncio.create_task(_watch(url, token, deployment, begun)) for _ in range(watchers)]
            while begun["begun"] < watchers:
                await asyncio.sleep(0.05)
            here.builder.gate.set()
            seen = await asyncio.gather(*watching)
        expected = await here.kinds(deployment)

    assert all(each == expected for each in seen)
    assert reads["events"] < 500


async def _watch(url: str, token: str, deployment: Deployment, begun: Counter[str]) -> list[str]:
    """The kinds of events one plain connection gets. No HTTP library: a thousand of them must cost little."""
    place = urlsplit(url)
    for attempt in range(5):
        with suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            break
        await asyncio.sleep(0.1 * attempt)
    writer.write(
        f"GET {API}/deployments/{deployment.id}/events HTTP/1.1\r\nHost: klepaas\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    kinds: list[str] = []
    numbers: list[int] = []
    try:
        while line := await reader.readline():
            if line.startswith(b"event: "):
                kinds.append(line.decode().strip().removeprefix("event: "))
                begun["begun"] += len(kinds) == 1
            elif line.startswith(b"id: "):
                numbers.append(int(line[4:]))
            elif line == b"0\r\n":
                break
    finally:
        writer.close()
    assert numbers == list(range(1, len(numbers) + 1))
    return kinds


def _counted_reads(here: World) -> Counter[str]:
    counted = Counter[str]()
    table = here.context.deployments
    read = table.events

    async def counting(*args: Any, **more: Any) -> Any:
        counted["events"] += 1
        return await read(*args, **more)

    table.events = counting  # type: ignore[method-assign]
    return counted


@asynccontextmanager
async def _many_files(number: int) -> AsyncIterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
