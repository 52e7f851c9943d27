"""The load counts every request that fails, and sends none twice."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bench.load import Caller, Tally
from bench.surroundings import free_port

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[int, list[int]]]:
    """Its port, and the numbers of the requests that arrived; `answer` gets the number, which counts from 1."""
    arrived: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                arrived.append(len(arrived) + 1)
                await answer(arrived[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], arrived
    finally:
        listening.close()


async def called(port: int, times: int) -> Tally:
    tally, stopped = Tally(), asyncio.Event()
    task = asyncio.create_task(Caller(port, REQUEST, 0.001, tally).call(stopped))
    while tally.requests < times:
        await asyncio.sleep(0.001)
    stopped.set()
    await task
    return tally


async def test_requests_that_are_answered_are_not_failures_and_share_a_connection() -> None:
    peers = set()

    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        writer.write(FINE)

    async with server(answer) as (port, arrived):
        tally = await called(port, 20)

    assert tally.failed == 0
    assert tally.requests == len(arrived) == len(tally.took_ms) >= 20
    assert len(peers) == 1


async def test_a_request_whose_connection_is_closed_counts_as_failed_and_is_not_sent_again() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 3:
            writer.close()
        else:
            writer.write(FINE)

    async with server(answer) as (port, arrived):
        tally = await called(port, 10)

    assert tally.failures == {"closed": 1}
    assert tally.requests == len(arrived)


async def test_half_an_answer_is_a_failure() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE[:-1] if number == 2 else FINE)
        if number == 2:
            writer.close()

    async with server(answer) as (port, _):
        assert (await called(port, 5)).failures == {"closed": 1}


async def test_an_answer_that_is_not_2xx_is_a_failure_by_its_status() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE.replace(b"200 OK", b"502 Bad Gateway") if number == 2 else FINE)

    async with server(answer) as (port, _):
        assert (await called(port, 5)).failures == {"502": 1}


async def test_a_connection_that_is_refused_is_a_failed_request() -> None:
    tally = await called(free_port(), 3)

    assert tally.failed == tally.requests
    assert set(tally.failures) == {"connect"}


async def test_an_answer_that_never_comes_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.PATIENCE_S", 1.0)

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number != 2:
            writer.write(FINE)

    async with server(answer) as (port, _):
        assert (await called(port, 4)).failures == {"slow": 1}


async def test_the_program_goes_on_until_it_asked_often_enough_and_prints_its_tally() -> None:
    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)

    async with server(answer) as (port, arrived):
        argv = [sys.executable, "-m", "bench.load", str(port), "--rate", "2000", "--at-least", "300"]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        while not arrived:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said, _ = await process.communicate()

    tally = json.loads(said)
    assert tally["failed"] == 0
    assert tally["requests"] == len(arrived) >= 300
