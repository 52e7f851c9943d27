"""What deployments that nobody asked for by hand have in common: their names, their start, whom GitHub is asked as."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.deployment import Deployment
from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.operations import deployments
from klepaas.operations.code_host import Place
from klepaas.operations.context import Context
from klepaas.operations.deployments import DeploymentRequest
from klepaas.operations.ports.deployments import Standing

OUR_CONTEXTS = "klepaas/"
"""How the contexts of our own commit statuses begin."""

PATIENCE = timedelta(milliseconds=500)
"""For one question while the sender of a webhook waits for our answer; GitHub gives up after 10 s."""
WATCHERS_PATIENCE = timedelta(seconds=10)

WAYS_TO_ASK = 3
TRIES = 20
"""Racing deliveries of one app repeat until each was decided on what the others led to."""
TOO_MANY = "many deployments are requested now"

BY_WATCHING = "branch watch"
OUR_TRIGGERS = frozenset({"push", "merge", BY_WATCHING})


def request_key(ref: str, sha: str, environment: str, again: str = "") -> str:
    """Names what was asked for within a project, whoever brought the news. `again` tells a commit that came back
    from its first time."""
    return "push " + hashlib.sha256("\n".join((ref, sha, environment, again)).encode()).hexdigest()


async def started(context: Context, project: Project, request: DeploymentRequest) -> Verdict:
    label = "klepaas" if request.trigger == BY_WATCHING else "webhook"
    actor = Actor(owner_id=project.owner_id, scope=Scope.DEPLOY, label=label)
    submission = (await deployments.start(context, actor, request)).submission
    made = submission.deployment
    if not submission.is_new:
        return repeated(project, made)
    why = f"pull request #{request.pull_request} was merged" if request.pull_request else f"by {request.trigger}"
    return Verdict(
        project_id=project.id,
        environment=made.environment,
        outcome=Outcome.DEPLOYED,
        reason=f"{why}; {request.note}" if request.note else why,
        deployment_id=made.id,
        deployment_number=made.number,
    )


def repeated(project: Project, deployment: Deployment) -> Verdict:
    return Verdict(
        project_id=project.id,
        environment=deployment.environment,
        outcome=Outcome.REPEATED,
        reason="this commit was asked for before",
        deployment_id=deployment.id,
        deployment_number=deployment.number,
    )


def rollback_in_effect(standing: Standing) -> Deployment | None:
    """The rollback a deployment would undo now."""
    both = (standing.active, standing.live)
    return next((each for each in both if each is not None and each.is_rollback), None)


async def standings(context: Context, app_keys: Sequence[str]) -> Mapping[str, Standing]:
    """Of all of them, by app key."""
    found = await context.deployments.standings(app_keys)
    return {key: found.get(key, Standing()) for key in app_keys}


async def ways_to_ask(context: Context, repository: RepositoryName, projects: Sequence[Project]) -> Sequence[Place]:
    """Ways to ask GitHub about the repository; as a stranger when no project has a connection to GitHub."""
    chosen = sorted(projects, key=lambda project: not project.auto_deploy)
    ids = list(dict.fromkeys(project.connection_id for project in chosen if project.connection_id))[:WAYS_TO_ASK]
    found = [connection for each in ids if (connection := await context.connections.get(each)) is not None]
    usable = [each for each in found if each.is_github]
    stranger = Place(owner=repository.owner, name=repository.name)
    return [replace(stranger, connection=connection) for connection in usable] or [stranger]
