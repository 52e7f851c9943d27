"""The containers of releases on the engine: found by name, made, frozen, thawed, taken away.

A name follows from its release, so that whoever takes over finds what was made before."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import (
    EngineConflict,
    EngineNotFound,
    EngineRejected,
    NameTaken,
    NetworkBroken,
    NotRunning,
    PortTaken,
)
from klepaas.domain.observation import Observation
from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.errors import ImageMissing, NotHealthy
from klepaas.targets.local.container import Container, container_of, refuse_stranger
from klepaas.targets.local.glances import Glances
from klepaas.targets.local.plan import INSTANCE, container_body, container_name
from klepaas.targets.local.ports import PortLeases, holder_of
from klepaas.targets.local.runtime_log import RuntimeLogs
from klepaas.targets.local.sight import Sight
from klepaas.targets.local.thaw import Thaw
from klepaas.targets.protocol import Reached

_STOP_GRACE_S = 10
_SAVED_LINES = 1000
_LOOKS = 20
"""For what another owner of the same work is removing, a tenth of a second apart."""


class Containers:
    """Touches only what carries `instance_id`. Errors: EngineUnavailable; others as each method says."""

    def __init__(
        self,
        engine: DockerEngine,
        leases: PortLeases,
        *,
        instance_id: str,
        logs: RuntimeLogs,
        sight: Sight,
        reached: Reached,
    ) -> None:
        self._engine, self._leases, self._instance_id = engine, leases, instance_id
        self._logs, self._sight, self._reached = logs, sight, reached
        self._glances, self._thaw = Glances(), Thaw(engine)

    async def find(self, app: App, release: Release) -> Container | None:
        """The container of this release, in any state. Not one that merely has its name."""
        self._glances.forget(release)
        await self._thaw.ended(release.id)
        since = self._glances.changes(release)
        try:
            found = container_of(await self._engine.inspect(container_name(app, release)))
        except EngineNotFound:
            return None
        if found.labels.get(INSTANCE) != self._instance_id:
            return None
        self._glances.keep(release, found, since=since)
        return found

    async def seen(self, app: App, release: Release) -> Container | None:
        """The same, or what was seen of it a moment ago."""
        return self._glances.of(release) or await self.find(app, release)

    def after_our_own_change(self, release: Release) -> tuple[Container | None, Observation | None]:
        """What it must be like after what we did to it ourselves just now, for the first one who would look whether it
        worked; and what was seen of its app meanwhile."""
        return self._glances.take_ours(release)

    async def make(self, app: App, release: Release, port: int, variables: Mapping[str, str]) -> bool:
        """Create and start the container; False when something changed meanwhile and must be looked at again."""
        name = container_name(app, release)
        body = container_body(app, release, port=port, variables=variables, instance_id=self._instance_id)
        try:
            container = await self._engine.create(name, body)
        except NameTaken:
            await self._refuse_stranger(name)
            return False
        await self._reached("container_created")
        try:
            await self._engine.start(container)
        except (EngineNotFound, EngineConflict):
            # Another owner of the same work took it for a dead one and removes it.
            return False
        except PortTaken:
            await self._removed(container)
            await self._leases.replace(holder_of(release.id), port)
            await self._reached("port_leased")
            return False
        except ImageMissing:
            raise
        except NetworkBroken:
            await self._removed(container)
            raise  # the app has no part in it
        except EngineRejected as error:
            await self._removed(container)
            raise NotHealthy(
                f"The container of release {release.number} of {app.name} cannot be started: "
                f"{error.evidence.get('engine', error.message)}.",
                hint="See the CMD or ENTRYPOINT of its Dockerfile.",
                evidence=error.evidence,
            ) from error
        await self._reached("container_started")
        return True

    async def thaw(self, release: Release, found: Container) -> bool:
        """Unfreeze the container: the whole of a warm rollback. False when it is not frozen any more."""
        running, seen = replace(found, state="running"), None

        async def answers() -> bool:
            nonlocal seen
            port = (await self._leases.leased()).get(holder_of(release.id))
            seen = await self._sight.of(running, release, port)
            return seen.probe is not None and seen.probe.status is not None

        try:
            with self._glances.changing(release.id):
                await self._thaw.begin(release.id, found.id, answers)
        except (EngineNotFound, EngineConflict):
            return False
        self._glances.keep_ours(release, running, seen)
        await self._reached("container_thawed")
        return True

    async def freeze(self, app: App, release: Release, found: Container) -> bool:
        """False when it cannot be frozen any more: it ended in this very moment."""
        try:
            with self._glances.changing(release.id):
                # First, because a frozen container with the policy `always` runs again after an engine restart.
                await self._engine.restart_policy(found.id, "no")
                await self._engine.pause(found.id)
        except (EngineNotFound, NotRunning):
            again = await self.find(app, release)  # somebody else may have frozen it
            return again is not None and again.state == "parked"
        await self._reached("container_parked")
        return True

    async def keep_alive(self, found: Container) -> None:
        """What has traffic comes back by itself. Not part of thawing: it takes longer than the thaw."""
        if found.restart_policy != "always":
            await self._engine.restart_policy(found.id, "always")

    async def take_away(self, app: str, release_id: str, found: Container, *, with_port: bool) -> None:
        """Its last words are saved first. `with_port`: its port is given back, too."""
        with self._glances.changing(release_id):
            await self._taken_away(app, release_id, found, with_port=with_port)

    async def _taken_away(self, app: str, release_id: str, found: Container, *, with_port: bool) -> None:
        try:
            lines = await self._engine.logs(found.id, lines=_SAVED_LINES)
            await self._logs.save(app, release_id, [line.text for line in lines])
            if found.state != "stopped":
                # First, because the policy `always` revives what is stopped when the engine starts again.
                await self._engine.restart_policy(found.id, "no")
                await self._engine.stop(found.id, grace_s=_STOP_GRACE_S)
        except EngineNotFound:
            return
        except EngineConflict:
            pass  # another owner of the same work is removing it, and saved its last words
        if with_port:
            # Before the container goes: after a crash in between it is still there to be found and taken away.
            await self._leases.free(holder_of(release_id))
        await self._removed(found.id)
        await self._reached("container_removed")

    async def _removed(self, container: str) -> None:
        try:
            await self._engine.remove(container, force=True)
        except EngineNotFound:
            return
        except EngineConflict:
            # Another owner of the same work is removing it.
            for _ in range(_LOOKS):
                if await self._is_gone(container):
                    return
                await asyncio.sleep(0.1)
            raise

    async def _is_gone(self, container: str) -> bool:
        try:
            await self._engine.inspect(container)
        except EngineNotFound:
            return True
        return False

    async def _refuse_stranger(self, name: str) -> None:
        try:
            found = container_of(await self._engine.inspect(name))
        except EngineNotFound:
            return
        refuse_stranger(found, name, self._instance_id)
