"""Start and cancel deployments."""

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.deployment import Deployment
from klepaas.domain.events import DeploymentQueued
from klepaas.domain.project import Project, parse_name
from klepaas.domain.repository import parse_branch, parse_commit
from klepaas.domain.status import Stage
from klepaas.errors import Conflict, Invalid, NotFound
from klepaas.operations import projects
from klepaas.operations.context import Context
from klepaas.operations.ports.deployments import Submission

MAX_REQUEST_KEY = 100


@dataclass(frozen=True, kw_only=True)
class DeploymentRequest:
    """What to deploy. `commit` None means the head of the branch at the moment it is fetched.

    `request_key` names the request: repeated with the same key it is the same deployment."""

    project: str
    environment: str | None = None
    branch: str | None = None
    commit: str | None = None
    rebuild: bool = False
    request_key: str | None = None
    trigger: str = "manual"
    note: str = ""
    pull_request: int | None = None
    """Of GitHub: what was merged."""
    delivery_id: str | None = None
    """Of the webhook that brought the news."""
    after_number: int | None = None
    """The app's newest deployment as the caller knows it; another one since then means deciding again."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What a request led to, and the project it was for as it was then."""

    submission: Submission
    project: Project


async def start(context: Context, actor: Actor, request: DeploymentRequest) -> Accepted:
    """Record a deployment and have it carried. Errors: NotFound, Invalid, NotAllowed; Overtaken, see `after_number`."""
    actor.require(Scope.DEPLOY)
    project = await projects.find(context, actor, request.project)
    require_target(context, project)
    environment = parse_name(request.environment, "environment") if request.environment else project.environment
    event = DeploymentQueued(
        project_id=project.id,
        environment=environment,
        branch=parse_branch(request.branch or project.branch),
        commit_sha=parse_commit(request.commit) if request.commit else None,
        rebuild=request.rebuild,
        trigger=request.trigger,
        actor=actor.label,
        first_step=Stage.FETCH,
        note=request.note[:500],
        pull_request=request.pull_request,
        delivery_id=request.delivery_id,
    )
    await context.apps.ensure(project, environment)
    key = scoped_key(project.id, request.request_key)
    submission = await submit(context, event, key, after_number=request.after_number)
    return Accepted(submission=submission, project=project)


async def submit(
    context: Context, event: DeploymentQueued, request_key: str | None, *, after_number: int | None = None
) -> Submission:
    """Record the deployment and have it carried; ring the bells of those who watch the ones it supersedes."""

    async def write(node: str | None) -> Submission:
        return await context.deployments.submit(
            event, request_key=request_key, after_number=after_number, claimed_by=node
        )

    submission = await context.runner.begin(write)
    for deployment_id in submission.superseded:
        context.feed.tell(deployment_id)
    return submission


async def cancel(context: Context, actor: Actor, deployment_id: str) -> Deployment:
    """End a deployment that is not live yet. Errors: NotFound; Conflict when it is live or has ended."""
    actor.require(Scope.DEPLOY)
    while True:
        deployment = await find(context, actor, deployment_id)
        events = deployment.cancel(actor=actor.label)
        try:
            cancelled = await context.deployments.decide(deployment, events)
        except Conflict:
            continue  # it went on in the meantime: decide again on what it is now
        break
    context.runner.interrupt(deployment_id)
    context.runner.wake()
    context.feed.tell(deployment_id)
    return cancelled


async def ended_within(context: Context, deployment: Deployment, patience: timedelta) -> Deployment:
    """The deployment once it has ended, or as it is when patience is at its end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience.total_seconds()):
            async for _ in context.feed.events(deployment.id, after=deployment.seq):
                pass
    return await context.deployments.get(deployment.id) or deployment


def require_target(context: Context, project: Project) -> None:
    """Errors: Rejected when the project's target is not set up here."""
    if project.target not in context.targets:
        raise context.absent(project.target).refusal


async def find(context: Context, actor: Actor, deployment_id: str) -> Deployment:
    """The deployment, if its project is the actor's. Errors: NotFound."""
    deployment = await context.deployments.get(deployment_id)
    project = await context.projects.get(deployment.project_id) if deployment else None
    if deployment is None or project is None or not actor.owns(project.owner_id):
        raise NotFound(
            f"There is no deployment {deployment_id[:80]!r}.", hint="List a project's with: klepaas history PROJECT"
        )
    return deployment


def scoped_key(project_id: str, key: str | None) -> str | None:
    """A caller's request key, unique within the project. Errors: Invalid."""
    if key is None:
        return None
    if not key or len(key) > MAX_REQUEST_KEY or not key.isprintable():
        raise Invalid("The request key must have 1 to 100 printable characters.", hint="A UUID is a good key.")
    return f"{project_id}:{hashlib.sha256(key.encode()).hexdigest()}"
