"""What a deployment is about: its project, app, target and settings, read once when it is taken on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from klepaas.domain.connection import Credential
from klepaas.domain.deployment import Deployment
from klepaas.domain.project import App, Project, ProjectSettings
from klepaas.domain.release import Release
from klepaas.errors import NotFound, Outside
from klepaas.operations import connections
from klepaas.operations.context import Context
from klepaas.operations.ports.apps import AppState
from klepaas.targets.protocol import Target
from klepaas.workflows.engine import Run

ASK_FOR_S = 1.5
"""A target that does not answer a simple question within this time cannot be asked now."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """`earlier` is the release that is run again, or whose settings the new one takes. `before` is what the record
    said of the app when the deployment was taken on: while it is in hand, nobody else changes what is live.

    `credential` opens the project's connection at the moment of use; None when the repository needs none."""

    project: Project
    app: App
    before: AppState
    target: Target
    earlier: Release | None
    credential: Callable[[], Awaitable[Credential | None]]
    now: Callable[[], datetime]

    def settings(self, deployment: Deployment) -> ProjectSettings:
        """What the new release is built and run with."""
        if self.earlier is not None:
            return self.earlier.settings
        return self.project.settings.over(deployment.file_settings)

    async def can_be_asked(self) -> bool:
        """Whether the target answers now."""
        try:
            async with asyncio.timeout(ASK_FOR_S):
                await self.target.check()
        except (Outside, TimeoutError):
            return False
        return True


async def scene_of(context: Context, run: Run) -> Scene:
    """Read what the claimed deployment is about. Errors: NotFound when its project is gone (a bug)."""
    deployment = run.deployment
    earlier_id = deployment.release_id or deployment.settings_of
    project, state, earlier = await asyncio.gather(
        context.projects.get(deployment.project_id),
        context.apps.get(deployment.project_id, deployment.environment),
        context.releases.get(earlier_id or ""),
    )
    if project is None:
        raise NotFound(f"The project {deployment.project_id} of deployment {deployment.id} is gone.")
    state = state or await context.apps.ensure(project, deployment.environment)
    connection_id, repository = project.connection_id, project.repository

    async def credential() -> Credential | None:
        return await connections.opened(context, connection_id, repository)

    return Scene(
        project=project,
        app=state.app,
        before=state,
        target=context.target_of(project.target),
        earlier=earlier,
        credential=credential,
        now=context.clock.now,
    )
