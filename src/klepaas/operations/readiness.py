"""Whether an app could be rolled back, and to what: asked by the name of its repository, counted in deployments.

Rolling back itself is `rollbacks.roll_back`, whoever asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.deployment import Deployment
from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project
from klepaas.domain.release import Release
from klepaas.domain.status import Status
from klepaas.errors import Outside
from klepaas.operations import repositories, rollback_lines, rollbacks
from klepaas.operations.context import Context
from klepaas.operations.ports.apps import AppState
from klepaas.operations.rollbacks import Way


class Missing(StrEnum):
    """What keeps every rollback from happening, in the order it is refused for."""

    PROJECT = "project"
    BUILD_PROJECT = "build_project"
    DEPLOY_PROJECT = "deploy_project"
    MIRROR = "mirror"
    HISTORY = "history"


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """`succeeded` and `failed` count deployments of the project's own environment that are no rollbacks."""

    project: Project | None
    missing: tuple[Missing, ...]
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class ImageSeen:
    """`is_there` is None when nobody can say; `code` is the HTTP status that was answered, if any."""

    is_there: bool | None
    code: int | None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """`latest` is the newest successful deployment that is no rollback, `image` what became of its image."""

    readiness: Readiness
    latest: Deployment | None = None
    image: ImageSeen | None = None


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A successful deployment. `steps_back` means what it means to a rollback: 1 is the release before the live one,
    below zero are those after it; None for one whose release cannot be rolled back to any more."""

    deployment: Deployment
    release: Release
    steps_back: int | None
    is_current: bool
    way: Way


async def for_rollback(context: Context, actor: Actor, name: RepositoryName, *, target: str) -> Readiness:
    """What a caller who wants a rollback is to be told first. Errors: NotAllowed; Conflict."""
    actor.require(Scope.DEPLOY)
    found = await look(context, actor, name, target=target)
    if Missing.HISTORY in found.missing:
        rollback_lines.found_nothing(name.full_name)
    return found


async def look(context: Context, actor: Actor, name: RepositoryName, *, target: str) -> Readiness:
    """Everything that is missing at once, as the record has it. Projects of other targets than this one need no ids:
    nothing but klepaas builds and deploys them. Errors: Conflict when several projects could be meant."""
    project = await repositories.find(context, actor, name, target=target)
    if project is None:
        return Readiness(project=None, missing=(Missing.PROJECT, Missing.HISTORY))
    counts = await context.deployments.counts_of(project.id, project.environment)
    succeeded = counts.get(Status.SUCCEEDED, 0)
    needed = {
        Missing.BUILD_PROJECT: project.target != target or project.build_project_id,
        Missing.DEPLOY_PROJECT: project.target != target or project.deploy_project_id,
        Missing.MIRROR: project.target != target or project.sc_repo_name,
        Missing.HISTORY: succeeded,
    }
    return Readiness(
        project=project,
        missing=tuple(what for what, there in needed.items() if not there),
        succeeded=succeeded,
        failed=counts.get(Status.FAILED, 0) + counts.get(Status.ROLLED_BACK, 0),
    )


async def diagnose(context: Context, actor: Actor, name: RepositoryName, *, target: str) -> Diagnosis:
    """The same with a look at the image of the latest deployment. Errors: Conflict, as for `look`."""
    found = await look(context, actor, name, target=target)
    made = await _succeeded(context, found.project, 1) if found.project is not None else ()
    if found.project is None or not made:
        return Diagnosis(readiness=found)
    release = await context.releases.get(made[0].release_id or "")
    image = await _image(context, found.project, release) if release is not None else None
    return Diagnosis(readiness=found, latest=made[0], image=image)


async def earlier(context: Context, project: Project, limit: int) -> Sequence[Earlier]:
    """Successful deployments that are no rollbacks, newest first, each with how it could be had back. The caller has
    checked that the project may be seen."""
    state = await context.apps.get(project.id, project.environment)
    if state is None:
        return []
    history = await rollbacks.history_of(context, state)
    steps = {release.id: steps_back for steps_back, release in history}
    made = await _succeeded(context, project, limit)
    pairs = [(each, await context.releases.get(each.release_id or "")) for each in made]
    shown = [(deployment, release) for deployment, release in pairs if release is not None]
    current = _current(state, [release for _, release in shown], history)
    return [
        Earlier(
            deployment=deployment,
            release=release,
            steps_back=steps.get(release.id),
            is_current=release.id == current,
            way=await rollbacks.way_back(context, project, state, release),
        )
        for deployment, release in shown
    ]


def _current(state: AppState, shown: Sequence[Release], history: Sequence[tuple[int, Release]]) -> str | None:
    """What is live; when that was built for a rollback, the newest of the same commit stands for it."""
    live = next((release for steps_back, release in history if steps_back == 0), None)
    if live is None or any(release.id == live.id for release in shown):
        return state.live_release_id
    return next((release.id for release in shown if release.commit_sha == live.commit_sha), None)


async def _succeeded(context: Context, project: Project, limit: int) -> Sequence[Deployment]:
    return await context.deployments.of_project(
        project.id, environment=project.environment, status=(Status.SUCCEEDED,), limit=limit, without_rollbacks=True
    )


async def _image(context: Context, project: Project, release: Release) -> ImageSeen:
    """An image that we may not see, or that nobody can be asked about, is not a missing one."""
    try:
        found = await context.builder_of(project.target).inspect(release.image_digest, ref=release.image_ref)
    except Outside as fault:
        code = fault.evidence.get("status")
        return ImageSeen(is_there=None, code=code if isinstance(code, int) else None)
    return ImageSeen(is_there=found is not None, code=200 if found is not None else 404)
