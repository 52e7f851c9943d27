"""A load that forgives nothing: connections that are kept, and no request is ever sent twice.

`python -m bench.load PORT …` goes on until SIGTERM and then prints one JSON object. A process of its own, so that
it is not late because the bench is busy."""

import argparse
import asyncio
import json
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.figures import percentile

PATIENCE_S = 10.0
"""A request that takes longer has failed."""
REST_AFTER_FAILURE_S = 0.01


@dataclass
class Tally:
    """`failures` by kind: connect, closed, slow, or the status that was not 2xx."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)
    """Of those that succeeded."""

    @property
    def failed(self) -> int:
        return self.failures.total()

    def as_dict(self) -> dict[str, object]:
        p50, p99 = ((percentile(self.took_ms, p) if self.took_ms else 0.0) for p in (50, 99))
        return {
            "requests": self.requests,
            "failed": self.failed,
            "failures": dict(self.failures),
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": max(self.took_ms, default=0.0),
        }


class Refused(Exception):
    """The answer is not 2xx; its words are the status."""


class Caller:
    """One connection that is kept and asked again and again, at most once in `period_s`."""

    def __init__(self, port: int, request: bytes, period_s: float, tally: Tally) -> None:
        self._port, self._request, self._period_s, self._tally = port, request, period_s, tally
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, stopped: asyncio.Event) -> None:
        due = time.monotonic()
        try:
            while not stopped.is_set():
                await asyncio.sleep(max(due - time.monotonic(), 0))
                due = max(due + self._period_s, time.monotonic())  # what was missed is not caught up with
                await self._once()
        finally:
            self._hang_up()

    async def _once(self) -> None:
        self._tally.requests += 1
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._ask()
        except (Refused, OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError) as error:
            self._tally.failures[self._kind(error)] += 1
            self._hang_up()
            await asyncio.sleep(REST_AFTER_FAILURE_S)
        else:
            self._tally.took_ms.append((time.perf_counter() - began) * 1000)

    async def _ask(self) -> None:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        status = head.split(b" ", 2)[1].decode()
        if not status.startswith("2"):
            raise Refused(status)
        if b"\r\nconnection: close" in head:
            self._hang_up()

    def _kind(self, error: Exception) -> str:
        match error:
            case Refused():
                return str(error)
            case TimeoutError():  # which is an OSError
                return "slow"
        return "connect" if self._writer is None else "closed"

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


async def load(port: int, path: str, *, method: str, connections: int, rate: float, at_least: int) -> Tally:
    """Ask until SIGTERM, and after it until there were `at_least` requests. `rate` is in requests a second."""
    tally, stopped, asked_to = Tally(), asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to.set)
    body = b"Content-Length: 0\r\n" if method == "POST" else b""
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode() + body + b"\r\n"
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(Caller(port, request, connections / rate, tally).call(stopped))
        await asked_to.wait()
        while tally.requests < at_least:  # noqa: ASYNC110 (counting must not cost an event per request)
            await asyncio.sleep(0.05)
        stopped.set()
    return tally


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--path", default="/version")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--at-least", type=int, default=0)
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        tally = runner.run(
            load(
                chosen.port,
                chosen.path,
                method=chosen.method,
                connections=chosen.connections,
                rate=chosen.rate,
                at_least=chosen.at_least,
            )
        )
    print(json.dumps(tally.as_dict()))


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # it does not exist for every platform
        return None
    return uvloop.Loop


if __name__ == "__main__":
    main()
