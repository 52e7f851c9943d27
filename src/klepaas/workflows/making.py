"""The steps that make an image of a commit: fetch and build. Each may run twice: it looks before it makes."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from klepaas import project_file
from klepaas.builders.protocol import BuildRequest, Image
from klepaas.domain.connection import Credential
from klepaas.domain.deployment import Deployment
from klepaas.domain.events import (
    CommitResolved,
    Event,
    ImagePinned,
    ProjectFileRead,
)
from klepaas.domain.project import ProjectSettings
from klepaas.domain.repository import Repository
from klepaas.errors import CommitNotFound, Invalid, RepositoryNotFound
from klepaas.operations import connections, projects
from klepaas.operations.context import Context
from klepaas.sources.protocol import Commit
from klepaas.workflows.engine import Run
from klepaas.workflows.outcome import OnRetry, Outcome
from klepaas.workflows.release_command import refuse
from klepaas.workflows.scene import Scene
from klepaas.workflows.stages import persistently

FETCH_TRIES = 3


@dataclass
class Making:
    context: Context
    work: Path
    """Folder for checkouts: `{work}/{deployment}/{fence}`, so that no two attempts share one."""

    async def fetch(self, run: Run, scene: Scene, on_retry: OnRetry) -> Outcome:
        deployment = run.deployment
        if not deployment.is_rollback:
            refuse(scene.target, scene.settings(deployment))
        if (earlier := await self._built_earlier(run, scene)) is not None:
            return Outcome(
                events=(ProjectFileRead(settings=earlier.file_settings),), detail="skipped: it was built before"
            )
        commit = await self._fetched(run, scene, deployment.commit_asked, on_retry)
        resolved = CommitResolved(
            commit_sha=commit.sha,
            message=commit.message,
            author=commit.author,
            committed_at=commit.committed_at.isoformat(),
        )
        return Outcome(events=(resolved, *await self._project_file(run, scene)), detail=commit.sha[:12])

    async def build(self, run: Run, scene: Scene, on_retry: OnRetry) -> Outcome:
        deployment = run.deployment
        if deployment.commit_sha is None:
            raise CommitNotFound("The commit to build is not known.")
        settings = scene.settings(deployment)
        image = None if deployment.rebuild else await self._built(scene, settings, deployment.commit_sha)
        reused = image is not None
        if image is None:
            if not self._checkout(deployment).exists():
                await self._fetched(run, scene, deployment.commit_sha, on_retry)
            image = await self._build(run, scene, deployment.commit_sha)
        pinned = ImagePinned(
            image_digest=image.digest, image_ref=image.ref, reused=reused, exposed_ports=image.exposed_ports
        )
        return Outcome(events=(pinned,), detail="image reused" if reused else image.digest[:19])

    async def clear(self, deployment: Deployment) -> None:
        """Remove the checkouts of one that has ended, when nobody waits for it any more."""
        await asyncio.to_thread(shutil.rmtree, self.work / deployment.id, ignore_errors=True)

    async def _fetched(self, run: Run, scene: Scene, commit: str | None, on_retry: OnRetry) -> Commit:
        into = self._checkout(run.deployment)

        async def fetch_from(repository: Repository, credential: Credential | None) -> Commit:
            await asyncio.to_thread(shutil.rmtree, into, ignore_errors=True)
            return await self.context.source.fetch(
                repository, branch=run.deployment.branch, commit=commit, into=into, credential=credential
            )

        async def fetch() -> Commit:
            project = scene.project
            try:
                return await fetch_from(project.repository, await scene.credential())
            except RepositoryNotFound:
                # It may only have another name by now, which GitHub tells whoever knows its number.
                learnt = await projects.learn(self.context, project)
                if learnt.repository == project.repository:
                    raise
            credential = await connections.opened(self.context, learnt.connection_id, learnt.repository)
            return await fetch_from(learnt.repository, credential)

        return await persistently(fetch, tries=FETCH_TRIES, first_rest_s=1, longest_rest_s=10, on_retry=on_retry)

    async def _built_earlier(self, run: Run, scene: Scene) -> Deployment | None:
        """The deployment that built the wanted commit, when its image is there and nothing has to be fetched."""
        wanted = run.deployment.commit_sha
        if wanted is None or run.deployment.rebuild:
            return None
        for release in await self.context.releases.of_app(scene.app.project_id, scene.app.environment):
            if release.commit_sha == wanted:
                earlier = await self.context.deployments.get(release.deployment_id)
                settings = scene.project.settings.over(earlier.file_settings) if earlier else None
                return earlier if settings and await self._built(scene, settings, wanted) else None
        return None

    async def _project_file(self, run: Run, scene: Scene) -> tuple[Event, ...]:
        """What the repository says about its app. Errors: Invalid, naming file, line and accepted values."""
        found = await asyncio.to_thread(project_file.read, self._checkout(run.deployment))
        if found is None:
            return ()
        if found.target is not None and found.target != scene.target.name:
            raise Invalid(
                f"klepaas.toml is for the target {found.target!r}, the project runs on {scene.target.name!r}.",
                hint="Change one of the two.",
            )
        names = await self.context.projects.variable_names(scene.project.id, scene.app.environment)
        if missing := [name for name in found.variables if name not in names]:
            raise Invalid(
                f"klepaas.toml names variables that are not set: {', '.join(missing)}.",
                hint=f"Set them: klepaas env set {scene.project.name} {missing[0]}",
            )
        refuse(scene.target, scene.project.settings.over(found.settings))
        return (ProjectFileRead(settings=dict(found.settings)),)

    async def _built(self, scene: Scene, settings: ProjectSettings, commit_sha: str) -> Image | None:
        return await self.context.builder_of(scene.project.target).find(
            scene.app, commit_sha, dockerfile=settings.dockerfile, context=settings.context
        )

    async def _build(self, run: Run, scene: Scene, commit_sha: str) -> Image:
        settings = scene.settings(run.deployment)
        request = BuildRequest(
            app=scene.app,
            deployment_id=run.deployment.id,
            commit_sha=commit_sha,
            source=self._checkout(run.deployment),
            dockerfile=settings.dockerfile,
            context=settings.context,
        )
        writer = self.context.logs.writer(run.deployment.id, run.deployment.fence)
        try:
            return await self.context.builder_of(scene.project.target).build(request, writer.write)
        finally:
            await writer.close()

    def _checkout(self, deployment: Deployment) -> Path:
        return self.work / deployment.id / str(deployment.fence)
