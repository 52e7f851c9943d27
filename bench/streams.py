"""A thousand subscribers of one deployment: does each get every event once and in order, and how late?

The floor is one subscriber."""

import asyncio
import itertools
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.apps import App, waiting_app
from bench.figures import Samples, percentile, turns
from bench.report import BenchFailed, Report, ms
from bench.server import Server, server
from bench.surroundings import Surroundings

RUNS = 2
SUBSCRIBERS = 1000
BUILD_S = {"many": 45, "floor": 3}
"""Time to connect all of them before anything happens."""
CONNECTING_AT_ONCE = 50
WITHIN_S = 120.0
SIDES = {"many": SUBSCRIBERS, "floor": 1}


@dataclass
class Subscriber:
    """What came over one connection: (sequence number, wall clock) of each event."""

    events: list[tuple[int, float]] = field(default_factory=list)
    connected_at: float = 0.0
    ended_in_order: bool = False
    """The server said that nothing more comes, and closed."""

    async def listen(self, port: int, path: str, token: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            writer.write(f"{head}Accept: text/event-stream\r\n\r\n".encode())
            status = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
        if status != b"200":
            raise BenchFailed(f"A subscriber was answered with {status.decode()}.")
        self.connected_at = time.time()
        try:
            # The chunks' own size lines stand between those of the events and begin with none of their names.
            while line := await reader.readline():
                if line.startswith(b"id:"):
                    self.events.append((int(line[3:]), time.time()))
                elif line == b"0\r\n":
                    self.ended_in_order = True
                    return
        finally:
            writer.transport.abort()


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Summed over all subscribers; against what the API lists afterwards."""

    missing: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    cut_off: int = 0

    def __add__(self, other: "Faults") -> "Faults":
        return Faults(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def faults_of(subscribers: Sequence[Subscriber], wanted: Sequence[int]) -> Faults:
    """What the subscribers did not get as `wanted`: once each, in this order."""
    total = Faults()
    for subscriber in subscribers:
        got = [number for number, _ in subscriber.events]
        total += Faults(
            missing=len(set(wanted) - set(got)),
            duplicates=len(got) - len(set(got)),
            out_of_order=sum(later < earlier for earlier, later in itertools.pairwise(got)),
            cut_off=int(not subscriber.ended_in_order),
        )
    return total


def run(around: Surroundings, runs: int) -> Report:
    _allow_many_files()
    app = waiting_app(around, "app")
    samples, faults, deliveries = Samples(), Faults(), 0
    with server(around) as klepaas:
        klepaas.register(app.name, app.repository, app.settings)
        for number, side in enumerate(turns(tuple(SIDES), runs)):
            app.wait(BUILD_S[side])
            app.commit(f"{number}-{side}")
            subscribers, events = asyncio.run(_deployment(klepaas, app, SIDES[side]))
            faults += faults_of(subscribers, [event["seq"] for event in events])
            deliveries += sum(len(subscriber.events) for subscriber in subscribers)
            for name, value in _lateness(subscribers, events).items():
                samples.add(f"{side} {name}", value)
    return _report(samples, faults, deliveries, runs)


async def _deployment(klepaas: Server, app: App, count: int) -> tuple[list[Subscriber], list[dict[str, Any]]]:
    deployment = await asyncio.to_thread(klepaas.deploy, app.name)
    subscribers, gate = [Subscriber() for _ in range(count)], asyncio.Semaphore(CONNECTING_AT_ONCE)
    path = f"/api/v1/deployments/{deployment}/events"
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
        for subscriber in subscribers:
            group.create_task(subscriber.listen(klepaas.port, path, klepaas.token, gate))
    await asyncio.to_thread(klepaas.ended, deployment)
    return subscribers, await asyncio.to_thread(klepaas.events, deployment)


def _lateness(subscribers: Sequence[Subscriber], events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds from an event to its arrival, of events that happened when all were connected.

    `last` is when the last subscriber had the last event."""
    from_here = max(subscriber.connected_at for subscriber in subscribers)
    at = {event["seq"]: datetime.fromisoformat(event["at"]).timestamp() for event in events}
    live = [
        (came - at[number]) * 1000
        for subscriber in subscribers
        for number, came in subscriber.events
        if at[number] > from_here
    ]
    if not live:
        raise BenchFailed(
            f"Connecting {len(subscribers):,} subscribers took longer than the whole deployment: the last came "
            f"{from_here - max(at.values()):.1f} s after its end."
        )
    ended_at = at[events[-1]["seq"]]
    last = max(subscriber.events[-1][1] for subscriber in subscribers if subscriber.events)
    return {"last": (last - ended_at) * 1000, "p99": percentile(live, 99), "p50": percentile(live, 50)}


def _allow_many_files() -> None:
    """Here and in the server, which inherits it: a connection is an open file at both ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * SUBSCRIBERS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchFailed(f"This user may open {hard} files, and {wanted} are needed: ulimit -n {wanted}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _report(samples: Samples, faults: Faults, deliveries: int, runs: int) -> Report:
    found = {side: {name: samples.median(f"{side} {name}") for name in ("p50", "p99", "last")} for side in SIDES}
    rows = [[f"{SIDES[side]:,}", ms(n["p50"]), ms(n["p99"]), ms(n["last"])] for side, n in found.items()]
    return Report(
        numbers={
            "ratio": samples.ratio("many last", "floor last"),
            "subscribers": SUBSCRIBERS,
            "deliveries": deliveries,
            **vars(faults),
            "last_ms": found["many"]["last"],
            "floor_ms": found["floor"]["last"],
            "p99_ms": found["many"]["p99"],
            "runs": runs,
        },
        head=["subscribers", "p50", "p99", "last one has the last event"],
        rows=rows,
        notes=[
            f"From an event to its arrival, in ms; {runs} deployments each, taking turns; medians.",
            f"Of {deliveries:,} deliveries {faults.missing} missing, {faults.duplicates} twice, "
            f"{faults.out_of_order} out of order; {faults.cut_off} streams cut off.",
        ],
    )
