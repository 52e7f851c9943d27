"""Fifty switches under a load that does not retry: how many requests fail?

Two apps are switched all the while, by deployments and rollbacks in turn: a static one that has the load, and a
Python app that has POST requests, slow requests and a websocket. The floor is the same load with nothing switched."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.apps import App, python_app, static_app
from bench.held import ECHO_EVERY_S, Held, dropped_too_early
from bench.report import BenchFailed, Report, ms
from bench.server import Server, server
from bench.surroundings import Surroundings, tied

RUNS = 50
REQUESTS = 100_000
RATE = 2000.0
"""Requests a second: a brisk load that leaves the switches their share of a small machine."""
POSTS_RATE = 50.0
QUIET_S = 10.0
DRAIN_S = 4.0
"""Drain time of the Python app: longer than its slow requests, so that these must all be answered."""
SLACK_S = ECHO_EVERY_S + 0.4


@dataclass
class Switcher:
    """Deploys and rolls back one app in turn, and keeps when its traffic was switched."""

    klepaas: Server
    app: App
    shifted_at: list[float] = field(default_factory=list)
    certified_failed: int = 0
    _count: int = 0

    def prepare(self, **settings: Any) -> int:
        """Have a first version live; returns the port of the app's door."""
        self.klepaas.register(self.app.name, self.app.repository, {**self.app.settings, **settings})
        self.app.commit("0")
        self.klepaas.ended(self.klepaas.deploy(self.app.name))
        return self.klepaas.door(self.app.name)

    def switch(self) -> None:
        self._count += 1
        if self._count % 2:
            self.app.commit(str(self._count))
            deployment = self.klepaas.deploy(self.app.name)
        else:
            found = self.klepaas.ask("POST", f"/projects/{self.app.name}/rollback", {"steps_back": 1})
            deployment = found["deployment"]["id"]
        self.klepaas.ended(deployment)
        for event in self.klepaas.events(deployment):
            if event["kind"] == "traffic.shifted":
                self.shifted_at.append(datetime.fromisoformat(event["at"]).timestamp())
            elif event["kind"] == "traffic.certified":
                self.certified_failed += event["certificate"]["failed"]


def run(around: Surroundings, runs: int) -> Report:
    with server(around) as klepaas:
        loaded, holding = Switcher(klepaas, static_app(around)), Switcher(klepaas, python_app(around))
        door, other_door = loaded.prepare(), holding.prepare(drain_timeout_s=DRAIN_S)
        with _load(door, rate=RATE) as quiet:
            time.sleep(QUIET_S)
        held = Held(other_door)
        at_least = REQUESTS * min(runs, RUNS) // RUNS
        with (
            _load(door, rate=RATE, at_least=at_least) as requests,
            _load(other_door, rate=POSTS_RATE, connections=4, method="POST") as posts,
        ):
            asyncio.run(_switch_all(loaded, holding, held, runs))
    return _report(loaded, holding, held, quiet=quiet, requests=requests, posts=posts)


async def _switch_all(loaded: Switcher, holding: Switcher, held: Held, runs: int) -> None:
    stopped = asyncio.Event()

    async def switch_the_other() -> None:
        while not stopped.is_set():
            await asyncio.to_thread(holding.switch)

    async with asyncio.TaskGroup() as group:
        group.create_task(held.hold(stopped))
        group.create_task(switch_the_other())
        for _ in range(runs):
            await asyncio.to_thread(loaded.switch)
        stopped.set()


@contextmanager
def _load(
    port: int, *, rate: float, at_least: int = 0, connections: int = 16, method: str = "GET"
) -> Iterator[dict[str, Any]]:
    """A load on this port for as long as the block lasts; its tally is in the dict afterwards."""
    options = {"rate": rate, "at-least": at_least, "connections": connections, "method": method}
    argv = [sys.executable, "-m", "bench.load", str(port), *(f"--{k}={v}" for k, v in options.items())]
    process = subprocess.Popen([*tied(), *argv], stdout=subprocess.PIPE, start_new_session=True)
    tally: dict[str, Any] = {}
    try:
        yield tally
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=300)
        if process.returncode:
            raise BenchFailed("The load generator failed.")
        tally.update(json.loads(said))
    finally:
        process.kill()
        process.wait()


def _report(
    loaded: Switcher,
    holding: Switcher,
    held: Held,
    *,
    quiet: dict[str, Any],
    requests: dict[str, Any],
    posts: dict[str, Any],
) -> Report:
    # Slow requests and new websockets are requests, too.
    slow_failed = len(held.slow_failures)
    all_failed = requests["failed"] + posts["failed"] + slow_failed + held.refused
    all_requests = requests["requests"] + posts["requests"] + held.slow + len(held.sessions) + held.refused
    endings = {how: sum(s.ended == how for s in held.sessions) for how in ("closed", "silent", "open")}
    drops = dropped_too_early(held.sessions, holding.shifted_at, DRAIN_S, SLACK_S)
    failures = {
        "GET": requests["failures"],
        "POST": posts["failures"],
        "slow": held.slow_failures[:5],
        "websocket": held.refused,
    }
    rows = [
        _row("GET, static app", requests, len(loaded.shifted_at)),
        _row("POST, Python app", posts, len(holding.shifted_at)),
        ["slow requests, Python app", f"{held.slow:,}", str(slow_failed), "", "", str(len(holding.shifted_at))],
        _row("floor: GET, nothing is switched", quiet, 0),
    ]
    return Report(
        numbers={
            "failed": all_failed,
            "requests": all_requests,
            "switches": len(loaded.shifted_at),
            "p99_ms": requests["p99_ms"],
            "p99_quiet_ms": quiet["p99_ms"],
            "ratio": requests["p99_ms"] / quiet["p99_ms"],
            "websocket_drops_before_drain": drops,
            "websockets": endings,
            "slow_requests": held.slow,
            "slow_requests_failed": slow_failed,
            "other_switches": len(holding.shifted_at),
            "certified_failed": loaded.certified_failed + holding.certified_failed,
            "failures": failures,
        },
        head=["load", "requests", "failed", "p50 ms", "p99 ms", "switches"],
        rows=rows,
        notes=[
            f"{all_failed} of {all_requests:,} requests failed; none was sent twice. Goal: 0.",
            f"Websockets: {drops} ended before their release was drained ({DRAIN_S:g} s); {endings['closed']} were "
            f"closed after it, {endings['silent']} fell silent, {endings['open']} open at the end.",
            *([f"Failures: {json.dumps(failures)}"] if all_failed else []),
        ],
    )


def _row(name: str, tally: dict[str, Any], switches: int) -> list[str]:
    count, failed = f"{tally['requests']:,}", str(tally["failed"])
    return [name, count, failed, ms(tally["p50_ms"]), ms(tally["p99_ms"]), str(switches)]
