"""Whether the world (containers, ports, the front door's file, what it answers) is as the record says."""

import asyncio
import http.client
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from klepaas.domain.events import KINDS
from klepaas.domain.status import Status
from klepaas.storage.tables import apps, deployment_events, deployments, port_leases, releases
from tests.acceptance.klepaas_process import Ground

SETTLES_WITHIN_S = 20.0
"""What a crash left behind is put right by the next look of the watcher; the rest is patience."""

ENDS = {status.value for status in Status if status.is_terminal}
ENDINGS = {kind for kind, event in KINDS.items() if event.leads_to is not None and event.leads_to.is_terminal}
"""Kinds of events after which a deployment is over."""


async def is_true(ground: Ground, versions: dict[str, str]) -> None:
    """Wait until record and world agree; fail with what differs. `versions`: commit SHA → answer at /version."""
    deadline = time.monotonic() + SETTLES_WITHIN_S
    while found := await asyncio.to_thread(differences, ground, versions):
        assert time.monotonic() < deadline, "\n".join(found)
        await asyncio.sleep(0.1)


def differences(ground: Ground, versions: dict[str, str]) -> list[str]:
    """One sentence for each thing that is not as the record says."""
    states = ground.select(sa.select(apps))
    live = {state.live_release_id: state for state in states if state.live_release_id}
    expected = dict.fromkeys(live, "running") | {s.warm_release_id: "paused" for s in states if s.warm_release_id}
    leases = {lease.holder: lease.port for lease in ground.select(sa.select(port_leases))}
    return [
        *_in_containers(ground, expected),
        *_in_leases(leases, set(expected), {state.key for state in states}),
        *(word for state in live.values() for word in _at_the_door(ground, state, leases, versions)),
        *_in_history(ground, {state.live_deployment_id for state in states if state.live_deployment_id}),
        *(f"{left} was left" for left in (ground.home / "work").glob("dep_*")),
    ]


def _in_containers(ground: Ground, expected: dict[str, str]) -> Iterator[str]:
    listed = [data for data in ground.containers() if "klepaas.release" in data["Labels"]]
    found = [(data["Labels"]["klepaas.release"], data["State"]) for data in listed]
    if sorted(found) != sorted(expected.items()):
        yield f"the engine runs {sorted(found)}, the record says {sorted(expected.items())}"


def _in_leases(leases: dict[str, int], expected: set[str], app_keys: set[str]) -> Iterator[str]:
    of_releases = {holder.removeprefix("release:") for holder in leases if holder.startswith("release:")}
    if of_releases != expected:
        yield f"ports are leased for {sorted(of_releases)}, the record has {sorted(expected)}"
    doors = {holder.removeprefix("door:") for holder in leases if holder.startswith("door:")}
    if unknown := {door for door in doors - app_keys if not door.startswith("spare-")}:
        yield f"doors are leased for {sorted(unknown)}"


def _at_the_door(ground: Ground, state: sa.Row[Any], leases: dict[str, int], versions: dict[str, str]) -> Iterator[str]:
    door, port = leases.get(f"door:{state.key}"), leases.get(f"release:{state.live_release_id}")
    file = ground.home / "proxy" / "up" / str(door)
    leads_to = file.read_text() if file.exists() else "nothing"
    if leads_to != f"127.0.0.1:{port}":
        yield f"the front door leads to {leads_to}, the live release is at {port}"
        return
    [release] = ground.select(sa.select(releases).where(releases.c.id == state.live_release_id))
    said = version_at(f"http://127.0.0.1:{door}")
    if said != versions[release.commit_sha]:
        yield f"the front door answers {said}, the record says {versions[release.commit_sha]} is live"


def _in_history(ground: Ground, live: set[str]) -> Iterator[str]:
    rows = ground.select(sa.select(deployments))
    for row in rows:
        events = ground.select(
            sa.select(deployment_events)
            .where(deployment_events.c.deployment_id == row.id)
            .order_by(deployment_events.c.seq)
        )
        if [event.seq for event in events] != list(range(1, row.seq + 1)):
            yield f"{row.id} has the events {[event.seq for event in events]} and says it has {row.seq}"
        terminal = [event.kind for event in events if event.kind in ENDINGS]
        if row.status not in ENDS or len(terminal) != 1 or events[-1].kind != terminal[0]:
            yield f"{row.id} is {row.status} after {[event.kind for event in events]}"
    if not_well := live - {row.id for row in rows if row.status == Status.SUCCEEDED}:
        yield f"{sorted(not_well)} is live and did not succeed"


def version_at(url: str, patience_s: float = 10.0) -> str:
    """What the sample app answers there at /version, over a connection of its own. Errors: OSError, HTTPException."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=patience_s)
    try:
        connection.request("GET", "/version")
        answer = connection.getresponse()
        said = answer.read().decode().strip()
    finally:
        connection.close()
    return said if answer.status == 200 else f"HTTP {answer.status}"


async def soon(what: Callable[[], bool], *, within_s: float = SETTLES_WITHIN_S) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(what):
            await asyncio.sleep(0.05)
