"""The local target: each release in a container on this machine, beside the others, behind one proxy."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineConflict, EngineNotFound
from klepaas.domain.observation import Health, Observation, TrafficAnswer
from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.errors import EngineUnavailable, Outside, Rejected, SwitchFailed
from klepaas.settings import DockerSettings, ProxySettings
from klepaas.targets.local.changes import changes_of
from klepaas.targets.local.commands import Commands
from klepaas.targets.local.container import container_of
from klepaas.targets.local.containers import Containers
from klepaas.targets.local.doors import Doors
from klepaas.targets.local.memory import has_room_for
from klepaas.targets.local.plan import (
    APP,
    INSTANCE,
    LOOPBACK,
    RELEASE,
    SPEC,
    plan_of,
    refuse_replicas,
    spec_of,
)
from klepaas.targets.local.ports import PortLeases, holder_of
from klepaas.targets.local.probe import Failure, ask
from klepaas.targets.local.proxy import Proxy
from klepaas.targets.local.proxy_config import UPSTREAM_HEADER, VERIFY_HEADER, url_of
from klepaas.targets.local.runtime_log import RuntimeLogs
from klepaas.targets.local.sight import Sight
from klepaas.targets.local.sockets import connections_to
from klepaas.targets.protocol import Address, CommandSeen, Found, Plan, Reached, nothing_reached

_TRIES = 20
"""Ports held by strangers, or turns lost to another owner of the same deployment, before apply gives up."""
_TRAFFIC_TIMEOUT_S = 10.0


_STATES: Mapping[str, Literal["running", "parked", "stopped"]] = {
    "running": "running",
    "restarting": "running",
    "paused": "parked",
}
"""From the engine's words. Source: Docker Engine API reference, ContainerList."""


def _now() -> datetime:
    return datetime.now(UTC)


class LocalTarget:
    """Runs each release as one container with a loopback port of its own; touches only what carries
    `instance_id`, because several klepaas may share an engine.

    Shape:  containers are found by a name that follows from the release, so every call can be repeated by anyone.
    Errors: EngineUnavailable when the engine is gone; EngineTooOld from `check`; others as each method says."""

    name = "local"

    def __init__(
        self,
        engine: DockerEngine,
        leases: PortLeases,
        *,
        instance_id: str,
        home: Path,
        docker: DockerSettings | None = None,
        proxy: ProxySettings | None = None,
        reached: Reached = nothing_reached,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._engine, self._leases, self._instance_id = engine, leases, instance_id
        self._docker, self._proxy_settings = docker or DockerSettings(), proxy or ProxySettings()
        self._reached, self._clock = reached, clock
        self._logs = RuntimeLogs(home / "logs")
        self._doors = Doors(leases, home / "proxy")
        self._sight = Sight(engine, clock)
        self._containers = Containers(
            engine, leases, instance_id=instance_id, logs=self._logs, sight=self._sight, reached=reached
        )
        self._commands = Commands(engine, instance_id, reached)
        self._thawing: dict[str, asyncio.Task[None]] = {}
        self._proxy = Proxy(
            engine, self._doors, folder=home / "proxy", instance_id=instance_id, settings=self._proxy_settings
        )

    async def close_connections(self) -> None:
        """Let go of the proxy's admin socket. The engine belongs to whoever made it."""
        await self._proxy.close()

    async def remove_proxy(self) -> None:
        """Take the proxy of this klepaas away: no app is reachable any more. Idempotent."""
        await self._proxy.container.remove()

    async def check(self) -> None:
        await self._engine.connect()
        await self._proxy.container.caddy()

    def plan(self, app: App, release: Release) -> Plan:
        refuse_replicas(release)
        return plan_of(app, release)

    async def apply(
        self, app: App, release: Release, variables: Mapping[str, str], *, deployment_id: str | None = None
    ) -> None:
        """As the protocol says. Errors: ImageMissing; NotHealthy when the engine cannot start the container at
        all; Rejected when no port is free or a stranger has the container's name."""
        refuse_replicas(release)
        for _ in range(_TRIES):
            port = await self._leases.lease(holder_of(release.id))
            await self._reached("port_leased")
            if ahead := self._thawing.get(release.id):
                await asyncio.wait({ahead})
            found = await self._containers.seen(app, release)
            if found is None:
                if await self._containers.make(app, release, port, variables):
                    return
            elif found.state == "stopped" or found.labels.get(SPEC) != spec_of(release, port):
                await self._containers.take_away(app.name, release.id, found, with_port=False)
            elif found.state != "parked" or await self._containers.thaw(release, found):
                return
        raise Rejected(
            f"Release {release.number} of {app.name} could not be started in {_TRIES} tries.",
            hint="See whether other programs hold the ports of KLEPAAS_DOCKER__PORT_RANGE.",
        )

    async def observe(self, app: App, release: Release, *, deployment_id: str | None = None) -> Observation:
        try:
            found, seen = self._containers.after_our_own_change(release)
            if seen is not None and seen.health is Health.HEALTHY:
                return seen
            found = found or await self._containers.find(app, release)
            if found is None:
                return Observation(at=self._clock(), health=Health.ABSENT, detail="There is no container.")
            port = (await self._leases.leased()).get(holder_of(release.id)) if found.state == "running" else None
            return await self._sight.of(found, release, port)
        except EngineUnavailable as error:
            return Observation(at=self._clock(), health=Health.UNKNOWN, detail=error.message)

    async def begin_command(self, app: App, release: Release, variables: Mapping[str, str]) -> None:
        await self._commands.begin(app, release, variables)

    async def look_at_command(self, app: App, release: Release, *, after: str) -> CommandSeen:
        return await self._commands.look(app, release, after=after)

    async def end_command(self, app: App, release: Release) -> None:
        await self._commands.end(app, release)

    async def remove(self, app: App, release: Release) -> None:
        if release.settings.release_command:
            await self._commands.end(app, release)
        found = await self._containers.find(app, release)
        if found:
            await self._containers.take_away(app.name, release.id, found, with_port=True)
        await self._leases.free(holder_of(release.id))

    async def running(self, app: App) -> Sequence[str]:
        return [found.release_id for found in await self.everything() if found.app == app.name]

    async def tail(self, app: App, release: Release, lines: int) -> Sequence[str]:
        if lines <= 0:
            return []
        found = await self._containers.find(app, release)
        if found:
            try:
                return [line.text for line in await self._engine.logs(found.id, lines=lines)]
            except (EngineNotFound, EngineConflict):
                pass  # removed in between: what it wrote was saved
        return await self._logs.read(app.name, release.id, lines)

    async def open(self, app: App, hosts: Sequence[str]) -> Address:
        """As the protocol says. Errors: Rejected when host names are not served here, or are another app's."""
        self._refuse_hosts(app, hosts)
        known = await self._doors.of(app)
        door = known or await self._doors.take(app)
        await self._reached("port_leased")
        renamed = self._doors.name(app, door, hosts)
        await self._proxy.serve(None if renamed else door)
        if hosts:
            self._proxy.refuse_stranger()
        # Asked anew: the proxy may have moved the door out of a stranger's way.
        return await self.address(app, hosts)

    async def address(self, app: App, hosts: Sequence[str]) -> Address:
        named = (url_of(host, self._proxy_settings) for host in hosts)
        door = await self._doors.of(app)
        return Address(urls=(*named, *([f"http://{LOOPBACK}:{door}"] if door else [])))

    async def shift(self, app: App, release: Release) -> None:
        """As the protocol says. Errors: SwitchFailed when there is no door, or the release does not run."""
        leased = await self._leases.leased()
        door, port = leased.get(f"door:{app.key}"), leased.get(holder_of(release.id))
        found = await self._containers.seen(app, release)
        if door is None:
            raise SwitchFailed(f"{app.name} has no front door yet.")
        if port is None or found is None or found.state != "running":
            state = found.state if found else "gone"
            raise SwitchFailed(
                f"Release {release.number} of {app.name} does not run ({state}), so it gets no traffic.",
                evidence={"state": state},
            )
        self._doors.point(door, f"{LOOPBACK}:{port}")
        await self._reached("upstream_written")
        await self._containers.keep_alive(found)

    async def answering(self, app: App, path: str) -> TrafficAnswer:
        leased = await self._leases.leased()
        door = leased.get(f"door:{app.key}")
        if door is None:
            return TrafficAnswer(
                at=self._clock(), took_ms=0.0, url="", status=None, release_id=None, detail="There is no front door."
            )
        at = self._clock()
        host = next(iter(self._doors.hosts(door)), "localhost")
        token = {VERIFY_HEADER: self._proxy.token}
        answer = await ask((LOOPBACK, door), path, host=host, timeout_s=_TRAFFIC_TIMEOUT_S, headers=token)
        upstream = answer.headers.get(UPSTREAM_HEADER.lower()) or None
        return TrafficAnswer(
            at=at,
            took_ms=answer.took_ms,
            url=f"http://{LOOPBACK}:{door}{path}",
            status=answer.status,
            release_id=_behind(upstream, leased),
            upstream=upstream,
            detail=_traffic_detail(answer.status, answer.failure),
        )

    async def open_connections(self, app: App, release: Release) -> int | None:
        port = (await self._leases.leased()).get(holder_of(release.id))
        return 0 if port is None else await asyncio.to_thread(connections_to, LOOPBACK, port)

    async def close(self, app: App) -> None:
        await self._doors.give_back(app)

    async def park(self, app: App, release: Release) -> bool:
        found = await self._containers.find(app, release)
        if found is None or found.state in {"stopped", "restarting"}:
            return False
        if found.state == "parked":
            return True
        if not self._docker.warm_for or not await asyncio.to_thread(has_room_for, release.settings.memory_bytes):
            return False
        return await self._containers.freeze(app, release, found)

    def thaw_ahead(self, app: App, release: Release) -> None:
        task = asyncio.create_task(self._thaw_ahead(app, release))
        self._thawing[release.id] = task
        task.add_done_callback(lambda _: self._thawing.pop(release.id, None))

    def changes(self) -> AsyncIterator[str]:
        return changes_of(self._engine, self._instance_id)

    async def repair(self, app: App, hosts: Sequence[str], live: Release | None) -> Sequence[str]:
        door = await self._doors.of(app)
        if door is None and live is None:
            return []
        done: list[str] = []
        if door is None:
            done.append(f"{app.name} had no front door.")
            door = await self._doors.take(app)
        renamed = self._doors.name(app, door, hosts)
        done += await self._proxy.serve(None if renamed else door)
        if live and (found := await self._containers.find(app, live)) and found.state == "running":
            await self._containers.keep_alive(found)
        return done

    async def is_misled(self, app: App, live: Release | None) -> bool:
        leased = await self._leases.leased()
        door, port = leased.get(f"door:{app.key}"), leased.get(holder_of(live.id)) if live else None
        if door is None or (live and port is None):
            return False  # there is nothing that could lead anywhere, or nothing to lead to
        return self._doors.upstream(door) != (f"{LOOPBACK}:{port}" if port else None)

    async def everything(self) -> Sequence[Found]:
        # With SPEC, which only containers have: one that somebody runs by hand inherits the labels of our image.
        containers = await self._engine.containers([f"{INSTANCE}={self._instance_id}", RELEASE, SPEC])
        return [
            Found(
                app=data["Labels"].get(APP, ""),
                release_id=data["Labels"][RELEASE],
                workload_id=data["Id"],
                state=_STATES.get(data["State"], "stopped"),
            )
            for data in containers
        ]

    async def discard(self, found: Found) -> None:
        try:
            container = container_of(await self._engine.inspect(found.workload_id))
        except EngineNotFound:
            container = None
        if container and container.labels.get(INSTANCE) == self._instance_id:
            await self._containers.take_away(found.app, found.release_id, container, with_port=True)
        await self._leases.free(holder_of(found.release_id))

    async def _thaw_ahead(self, app: App, release: Release) -> None:
        with suppress(Outside):
            found = await self._containers.seen(app, release)
            if found and found.state == "parked":
                await self._containers.thaw(release, found)

    def _refuse_hosts(self, app: App, hosts: Sequence[str]) -> None:
        """What is not served here, or leads to another app, before anything is touched. Errors: Rejected."""
        for host in hosts:
            url_of(host, self._proxy_settings)
        for key, site in self._doors.sites():
            if key != app.key and (both := set(hosts) & set(site.hosts)):
                raise Rejected(
                    f"{', '.join(sorted(both))} already leads to another app.",
                    hint="Take the host name from that project first.",
                )


def _behind(upstream: str | None, leased: Mapping[str, int]) -> str | None:
    if upstream is None:
        return None
    holders = {f"{LOOPBACK}:{port}": holder for holder, port in leased.items() if holder.startswith("release:")}
    holder = holders.get(upstream)
    return holder.removeprefix("release:") if holder else None


def _traffic_detail(status: int | None, failure: Failure | None) -> str:
    if status is not None:
        return f"HTTP {status}"
    return {Failure.REFUSED: "the proxy is not there", Failure.SLOW: "no answer in time"}.get(
        failure or Failure.CLOSED, "the proxy closed the connection"
    )
