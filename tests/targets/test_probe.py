"""R-21: the ways an app can fail to answer are told apart on a real socket."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from klepaas.targets.local.probe import Answer, Failure, ask

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _asked(handle: Handler, *, timeout_s: float = 5.0, path: str = "/") -> Answer:
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        return await ask(address, path, host="shop.test", timeout_s=timeout_s)


def _saying(words: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        await writer.drain()
        writer.close()

    return handle


async def test_a_status_and_headers_are_read() -> None:
    answer = await _asked(_saying(b"HTTP/1.1 301 Moved\r\nLocation: /there\r\nX-A: b\r\n\r\n"))

    assert (answer.status, answer.headers["location"], answer.failure) == (301, "/there", None)


async def test_an_answer_with_bare_line_feeds_is_an_answer() -> None:
    answer = await _asked(_saying(b"HTTP/1.0 200 OK\nX-A: b\n\nhello"))

    assert (answer.status, answer.headers["x-a"]) == (200, "b")


async def test_the_request_names_its_host_and_path() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    await _asked(handle, path="/health?x=1")

    assert seen[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: shop.test\r\n")


async def test_a_closed_connection_is_not_a_refused_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused = await ask(free.getsockname(), "/", host="x", timeout_s=5)
    closed = await _asked(_saying(b""))

    assert (refused.failure, closed.failure) == (Failure.REFUSED, Failure.CLOSED)


@pytest.mark.parametrize(
    "words",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02P",
        b"x" * 70000,
    ],
)
async def test_what_is_not_http_is_told_with_its_beginning(words: bytes) -> None:
    answer = await _asked(_saying(words))

    assert answer.failure is Failure.NOT_HTTP
    assert answer.heard


async def test_silence_ends_at_the_timeout() -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        answer = await ask(server.sockets[0].getsockname(), "/", host="x", timeout_s=0.2)
        gone.set()

    assert answer.failure is Failure.SLOW


async def test_an_endless_body_does_not_hold_the_verdict() -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        answer = await ask(server.sockets[0].getsockname(), "/", host="x", timeout_s=30)
        gone.set()

    assert answer.status == 200
