"""Reading without deciding: how an app stands, its history, its events, its logs."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from klepaas.domain.actor import Actor
from klepaas.domain.deployment import Deployment
from klepaas.domain.events import Recorded
from klepaas.domain.project import Project
from klepaas.domain.release import Release
from klepaas.domain.status import Stage, Status
from klepaas.errors import NotFound
from klepaas.operations import deployments, projects
from klepaas.operations.context import Context
from klepaas.operations.ports.apps import AppState, WatchedChange
from klepaas.operations.ports.build_logs import LogLine
from klepaas.targets.protocol import KeepsRunning, ShiftsTraffic

LINES_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class AppStatus:
    """How an app stands: what the record wants, what was last seen, and what is under way."""

    project: Project
    environment: str
    state: AppState | None
    live_release: Release | None
    live_deployment: Deployment | None
    active: Sequence[Deployment]
    """Deployments that have not ended: the running (or unknown) one and the queued one."""
    last: Deployment | None
    urls: Sequence[str]
    changes: Sequence[WatchedChange]


async def status(context: Context, actor: Actor, reference: str, environment: str | None = None) -> AppStatus:
    project = await projects.find(context, actor, reference)
    place = environment or project.environment
    state = await context.apps.get(project.id, place)
    recent = await context.deployments.of_project(project.id, environment=place, limit=20)
    target = context.target_of(project.target)
    urls: Sequence[str] = ()
    if state is not None and state.live_release_id and isinstance(target, ShiftsTraffic):
        urls = (await target.address(state.app, project.settings.hosts)).urls
    elif state is not None and state.live_release_id and isinstance(target, KeepsRunning):
        urls = target.urls(state.app, project.settings.hosts)
    return AppStatus(
        project=project,
        environment=place,
        state=state,
        live_release=await context.releases.get(state.live_release_id) if state and state.live_release_id else None,
        live_deployment=(
            await context.deployments.get(state.live_deployment_id) if state and state.live_deployment_id else None
        ),
        active=[d for d in recent if not d.status.is_terminal],
        last=recent[0] if recent else None,
        urls=urls,
        changes=await context.apps.changes(state.app.key, limit=10) if state else [],
    )


async def history(
    context: Context,
    actor: Actor,
    reference: str,
    *,
    environment: str | None = None,
    status: Sequence[Status] = (),
    before_number: int | None = None,
    limit: int = 50,
) -> Sequence[Deployment]:
    """Newest first; go on with `before_number` = the last one's number."""
    project = await projects.find(context, actor, reference)
    return await context.deployments.of_project(
        project.id, environment=environment, status=status, before_number=before_number, limit=limit
    )


async def events(context: Context, actor: Actor, deployment_id: str, *, after: int, limit: int) -> Sequence[Recorded]:
    await deployments.find(context, actor, deployment_id)
    return await context.deployments.events(deployment_id, after=after, limit=limit)


def follow(context: Context, deployment_id: str, *, after: int) -> AsyncIterator[Recorded]:
    """Every event after `after`, once and in order, as it comes; ends after the terminal one.

    The caller has checked that the deployment may be seen."""
    return context.feed.events(deployment_id, after=after)


async def build_log(
    context: Context, actor: Actor, deployment_id: str, *, after: str | None, limit: int
) -> Sequence[LogLine]:
    await deployments.find(context, actor, deployment_id)
    return await context.logs.page(deployment_id, after=after, limit=limit)


async def follow_build_log(
    context: Context, deployment_id: str, *, after: str | None
) -> AsyncIterator[Sequence[LogLine]]:
    """Every line after `after`, in batches as they come; ends when the build and the release command, if there is one,
    are over. The caller has checked permission."""
    async for _ in context.feed.news(deployment_id):
        deployment = await context.deployments.get(deployment_id)
        # Looked at before the last read: what is written until then is in it.
        over = deployment is None or _is_written(deployment)
        while lines := await context.logs.page(deployment_id, after=after, limit=LINES_AT_ONCE):
            after = lines[-1].position
            yield lines
        if over:
            return


def _is_written(deployment: Deployment) -> bool:
    """Whether nothing more comes into its build log."""
    if deployment.is_rollback:
        return deployment.status.is_terminal or deployment.image_digest is not None
    return deployment.status.is_terminal or deployment.step not in {Stage.FETCH, Stage.BUILD, Stage.RELEASE}


async def runtime_log(
    context: Context, actor: Actor, reference: str, *, environment: str | None = None, lines: int = 200
) -> Sequence[str]:
    """The last lines the live release wrote. Errors: NotFound when nothing is live."""
    project = await projects.find(context, actor, reference)
    state = await context.apps.get(project.id, environment or project.environment)
    release = await context.releases.get(state.live_release_id) if state and state.live_release_id else None
    if state is None or release is None:
        raise NotFound(f"{project.name} has nothing live.", hint=f"Deploy it first: klepaas deploy {project.name}")
    return await context.target_of(project.target).tail(state.app, release, lines)
