"""A target in memory that keeps the target contract, and whose world a test can steer.

It answers like the local target: releases become healthy as scripted, traffic goes where it was shifted, a parked
release thaws as the same workload. A test may also break it: refuse a call, slow it down, hang it, end a workload."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from klepaas.domain.observation import Health, Observation, ProbeAnswer, TrafficAnswer
from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.errors import Rejected, Unavailable
from klepaas.targets.protocol import Address, CommandSeen, Found, Plan, Reached, nothing_reached

EVERY = "*"
"""Steers every release that has no script of its own."""

_LOOKS_READY = (Health.HEALTHY,)


@dataclass
class Workload:
    """A container that does not exist."""

    app: App
    release: Release
    id: str
    state: Literal["running", "parked", "stopped"] = "running"
    exit_code: int | None = None
    looks: int = 0
    connections: int = 0
    log: list[str] = field(default_factory=list)


@dataclass
class Command:
    """A release's command, which ended as soon as it was begun."""

    app: App
    exit_code: int
    lines: tuple[str, ...]


@dataclass
class FakeTarget:
    """In-memory Target with all optional powers.

    `calls` lists every call as `method:release id` (or `method:app name`), in order."""

    name: str = "fake"
    reached: Reached = nothing_reached
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    warm: bool = True
    """Whether `park` finds room to keep a release."""
    reachable: bool = True
    calls: list[str] = field(default_factory=list)
    workloads: dict[str, Workload] = field(default_factory=dict)
    """By release id."""
    traffic: dict[str, str] = field(default_factory=dict)
    """App key → id of the release the front door sends requests to."""
    doors: dict[str, Address] = field(default_factory=dict)
    """App key → its front door."""
    variables: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """Release id → the opened variables `apply` was given."""
    commands: dict[str, Command] = field(default_factory=dict)
    """By release id, until it is taken away."""
    commands_begun: list[tuple[str, ...]] = field(default_factory=list)
    command_ends: list[int] = field(default_factory=list)
    """Exit codes of the next commands; 0 when none is left."""
    _scripts: dict[str, tuple[Health, ...]] = field(default_factory=dict)
    _failures: dict[str, list[Exception]] = field(default_factory=lambda: defaultdict(list))
    _delays_s: dict[str, float] = field(default_factory=dict)
    _gates: dict[str, asyncio.Event] = field(default_factory=dict)
    _logs: dict[str, list[str]] = field(default_factory=dict)
    _changes: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    # Steering.

    def script(self, which: str, *health: Health) -> None:
        """What successive looks at a running release see; the last one stays. `which` is a release id, a commit
        SHA or EVERY."""
        self._scripts[which] = health

    def fail(self, method: str, *errors: Exception) -> None:
        """Make the next calls of this method raise these errors, one each, before they touch anything."""
        self._failures[method].extend(errors)

    def slow(self, method: str, seconds: float) -> None:
        """Make every call of this method take that long."""
        self._delays_s[method] = seconds

    def hang(self, method: str) -> asyncio.Event:
        """Make calls of this method wait until the returned event is set."""
        self._gates[method] = asyncio.Event()
        return self._gates[method]

    def end(self, release_id: str, *, exit_code: int = 1) -> None:
        """End the workload of a release, as when its app dies or somebody stops it by hand."""
        workload = self.workloads[release_id]
        workload.state, workload.exit_code = "stopped", exit_code
        self._changes.put_nowait(workload.app.name)

    def print(self, release_id: str, *lines: str) -> None:
        """Have the app of a release write lines to its log."""
        self.workloads[release_id].log.extend(lines)

    # Target.

    async def check(self) -> None:
        await self._enter("check", "")

    def plan(self, app: App, release: Release) -> Plan:
        step = {"run": release.image_digest, "variables": sorted(release.variable_names)}
        return Plan(target=self.name, summary=f"Run release {release.number} of {app.name}.", steps=(step,))

    async def apply(
        self, app: App, release: Release, variables: Mapping[str, str], *, deployment_id: str | None = None
    ) -> None:
        await self._enter("apply", release.id)
        if release.settings.replicas != 1:
            raise Rejected(f"This target runs one copy of an app, not {release.settings.replicas}.")
        self.variables[release.id] = dict(variables)
        there = self.workloads.get(release.id)
        if there and there.state == "running":
            return
        if there and there.state == "parked":
            there.state = "running"
            await self.reached("container_thawed")
            return
        self.workloads[release.id] = Workload(app=app, release=release, id=f"workload-{next(self._numbers)}")
        await self.reached("container_created")
        await self.reached("container_started")

    # RunsCommands.

    async def begin_command(self, app: App, release: Release, variables: Mapping[str, str]) -> None:
        await self._enter("begin_command", release.id)
        if release.id not in self.commands:
            lines = ("command began", *(f"{name} is {value}" for name, value in variables.items()))
            exit_code = self.command_ends.pop(0) if self.command_ends else 0
            self.commands[release.id] = Command(app=app, exit_code=exit_code, lines=lines)
            self.commands_begun.append(release.settings.release_command)
        await self.reached("command_started")

    async def look_at_command(self, app: App, release: Release, *, after: str) -> CommandSeen:
        await self._enter("look_at_command", release.id)
        command = self.commands[release.id]
        return CommandSeen(exit_code=command.exit_code, lines=() if after else command.lines, position="1")

    async def end_command(self, app: App, release: Release) -> None:
        await self._enter("end_command", release.id)
        self.commands.pop(release.id, None)

    # Target again.

    async def observe(self, app: App, release: Release, *, deployment_id: str | None = None) -> Observation:
        try:
            await self._enter("observe", release.id)
        except Unavailable as error:
            return Observation(at=self.clock(), health=Health.UNKNOWN, detail=error.message)
        workload = self.workloads.get(release.id)
        if workload is None:
            return Observation(at=self.clock(), health=Health.ABSENT, detail="There is no such workload.")
        health = self._health_of(workload)
        ready = health is Health.HEALTHY
        probe = ProbeAnswer(
            at=self.clock(),
            took_ms=1.0,
            ready=ready,
            status=200 if ready else 503,
            detail=f"HTTP {200 if ready else 503}",
        )
        return Observation(
            at=self.clock(),
            health=health,
            detail=f"The release is {health}.",
            image_digest=workload.release.image_digest,
            workload_id=workload.id,
            ready_replicas=1 if ready else 0,
            exit_code=workload.exit_code,
            probe=probe if workload.state == "running" else None,
        )

    async def remove(self, app: App, release: Release) -> None:
        await self._enter("remove", release.id)
        self.commands.pop(release.id, None)
        if workload := self.workloads.pop(release.id, None):
            self._logs[release.id] = workload.log
            await self.reached("container_removed")

    async def running(self, app: App) -> Sequence[str]:
        await self._enter("running", app.name)
        apps = {key: each.app for key, each in self.workloads.items()}
        apps |= {key: each.app for key, each in self.commands.items()}
        return [release_id for release_id, owner in apps.items() if owner.key == app.key]

    async def tail(self, app: App, release: Release, lines: int) -> Sequence[str]:
        await self._enter("tail", release.id)
        workload = self.workloads.get(release.id)
        log = workload.log if workload else self._logs.get(release.id, [])
        return log[-lines:] if lines else []

    # ShiftsTraffic.

    async def open(self, app: App, hosts: Sequence[str]) -> Address:
        await self._enter("open", app.name)
        urls = (*(f"http://{host}" for host in hosts), f"http://{app.name}.invalid")
        self.doors[app.key] = Address(urls=urls)
        return self.doors[app.key]

    async def address(self, app: App, hosts: Sequence[str]) -> Address:
        return self.doors.get(app.key, Address(urls=()))

    async def shift(self, app: App, release: Release) -> None:
        await self._enter("shift", release.id)
        if app.key not in self.doors:
            raise Rejected(f"{app.name} has no front door yet.")
        if release.id not in self.workloads:
            raise Rejected(f"Release {release.number} of {app.name} does not run; it cannot get traffic.")
        self.traffic[app.key] = release.id
        await self.reached("upstream_written")

    async def answering(self, app: App, path: str) -> TrafficAnswer:
        await self._enter("answering", app.name)
        release_id = self.traffic.get(app.key)
        workload = self.workloads.get(release_id or "")
        answers = workload is not None and workload.state == "running"
        serves = workload is not None and self._health_of(workload, looking=False) is Health.HEALTHY
        return TrafficAnswer(
            at=self.clock(),
            took_ms=1.0,
            url=f"http://{app.name}.invalid{path}",
            status=200 if serves else 503 if answers else 502,
            release_id=release_id if answers else None,
            upstream=workload.id if workload else None,
            detail="" if serves else f"HTTP {503 if answers else 502}",
        )

    async def open_connections(self, app: App, release: Release) -> int | None:
        await self._enter("open_connections", release.id)
        workload = self.workloads.get(release.id)
        return workload.connections if workload else 0

    async def close(self, app: App) -> None:
        await self._enter("close", app.name)
        self.doors.pop(app.key, None)
        self.traffic.pop(app.key, None)

    # KeepsWarm.

    async def park(self, app: App, release: Release) -> bool:
        await self._enter("park", release.id)
        workload = self.workloads.get(release.id)
        if not self.warm or workload is None or workload.state == "stopped":
            return False
        workload.state = "parked"
        await self.reached("container_parked")
        return True

    def thaw_ahead(self, app: App, release: Release) -> None:
        """No head start: each thaw is seen where `apply` makes it."""
        self.calls.append(f"thaw_ahead:{release.id}")

    # WatchesItself, RepairsFront, ShowsEverything.

    async def changes(self) -> AsyncIterator[str]:
        while True:
            yield await self._changes.get()

    async def repair(self, app: App, hosts: Sequence[str], live: Release | None) -> Sequence[str]:
        await self._enter("repair", app.name)
        return []

    async def is_misled(self, app: App, live: Release | None) -> bool:
        await self._enter("is_misled", app.name)
        return self.traffic.get(app.key) != (live.id if live else None)

    async def everything(self) -> Sequence[Found]:
        await self._enter("everything", "")
        return [
            Found(app=workload.app.name, release_id=release_id, workload_id=workload.id, state=workload.state)
            for release_id, workload in self.workloads.items()
        ]

    async def discard(self, found: Found) -> None:
        await self._enter("discard", found.release_id)
        workload = self.workloads.get(found.release_id)
        if workload and workload.id == found.workload_id:
            del self.workloads[found.release_id]

    async def _enter(self, method: str, subject: str) -> None:
        self.calls.append(f"{method}:{subject}" if subject else method)
        if delay_s := self._delays_s.get(method):
            await asyncio.sleep(delay_s)
        if gate := self._gates.get(method):
            await gate.wait()
        if self._failures[method]:
            raise self._failures[method].pop(0)
        if not self.reachable:
            raise Unavailable("The fake target is out of reach.")

    def _health_of(self, workload: Workload, *, looking: bool = True) -> Health:
        if workload.state == "parked":
            return Health.PARKED
        if workload.state == "stopped":
            return Health.STOPPED
        release = workload.release
        script = next(
            (self._scripts[key] for key in (release.id, release.commit_sha, EVERY) if key in self._scripts),
            _LOOKS_READY,
        )
        seen = script[min(workload.looks, len(script) - 1)] if looking else script[-1 if workload.looks else 0]
        workload.looks += looking
        return seen
