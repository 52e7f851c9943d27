"""A release's command on the local target: a container beside the release that runs once and keeps how it ended."""

from collections.abc import Mapping
from typing import Any

from klepaas.docker.engine import DockerEngine
from klepaas.docker.errors import EngineConflict, EngineNotFound, EngineRejected, NameTaken
from klepaas.domain.project import App
from klepaas.domain.release import Release
from klepaas.errors import ImageMissing, ReleaseCommandFailed
from klepaas.targets.local.container import Container, container_of, refuse_stranger
from klepaas.targets.local.plan import INSTANCE, command_body, command_name
from klepaas.targets.protocol import CommandSeen, Reached

_LINES = 1000
"""Looked at each time; what a command writes more of between two looks is only in the engine's own log."""


class Commands:
    """Found by a name that follows from the release, so that whoever takes over finds the one that was begun."""

    def __init__(self, engine: DockerEngine, instance_id: str, reached: Reached) -> None:
        self._engine, self._instance_id, self._reached = engine, instance_id, reached

    async def begin(self, app: App, release: Release, variables: Mapping[str, str]) -> None:
        """As the protocol says. Errors: ImageMissing; ReleaseCommandFailed when there is no such program; Rejected when
        a stranger has the container's name."""
        body = command_body(app, release, variables=variables, instance_id=self._instance_id)
        container = await self._made(command_name(app, release), body)
        if container is None:
            return
        await self._reached("command_created")
        try:
            await self._engine.start(container)
        except (ImageMissing, EngineNotFound, EngineConflict):
            raise
        except EngineRejected as error:
            raise ReleaseCommandFailed(
                f"The release command cannot be started: {error.evidence.get('engine', error.message)}.",
                hint="The image must have that program; see release_command.",
                evidence=error.evidence,
            ) from error
        await self._reached("command_started")

    async def look(self, app: App, release: Release, *, after: str) -> CommandSeen:
        """As the protocol says. Errors: ReleaseCommandFailed when somebody removed its container."""
        found = await self._find(app, release)
        if found is None:
            raise ReleaseCommandFailed(
                "The container of the release command was removed while it ran.", hint="Deploy again."
            )
        lines = [line for line in await self._engine.logs(found.id, lines=_LINES) if line.at > after]
        return CommandSeen(
            exit_code=found.exit_code if found.state == "stopped" else None,
            out_of_memory=found.out_of_memory,
            lines=tuple(line.text for line in lines),
            position=lines[-1].at if lines else after,
        )

    async def end(self, app: App, release: Release) -> None:
        found = await self._find(app, release)
        if found is None:
            return
        try:
            await self._engine.remove(found.id, force=True)
        except (EngineNotFound, EngineConflict):
            return  # another owner of the same work removes it
        await self._reached("command_removed")

    async def _made(self, name: str, body: Mapping[str, Any]) -> str | None:
        """Its container, to be started; None when it was begun before."""
        try:
            return await self._engine.create(name, body)
        except NameTaken:
            found = container_of(await self._engine.inspect(name))
            refuse_stranger(found, name, self._instance_id)
            return found.id if found.status == "created" else None

    async def _find(self, app: App, release: Release) -> Container | None:
        try:
            found = container_of(await self._engine.inspect(command_name(app, release)))
        except EngineNotFound:
            return None
        return found if found.labels.get(INSTANCE) == self._instance_id else None
