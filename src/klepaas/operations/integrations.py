"""What older clients set up by the name of a repository: the project, its mirror, and a deployment that makes what is
missing."""

from dataclasses import dataclass

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project
from klepaas.operations import deployments, pipelines, projects, repositories
from klepaas.operations.context import Context
from klepaas.operations.deployments import Accepted, DeploymentRequest
from klepaas.operations.projects import ProjectChange


@dataclass(frozen=True, kw_only=True)
class Integration:
    """What is said of a repository. None leaves a thing as it is. `mirror` and `place` mean something to targets with
    chains only."""

    target: str
    name: RepositoryName
    branch: str | None = None
    mirror: str | None = None
    place: str | None = None


async def integrate(context: Context, actor: Actor, wanted: Integration) -> Project:
    """Make the repository a project of the target, or change the project it is, whatever target that has.

    Errors: Invalid; Conflict; for a chain that has to follow to another branch, those of `Pipelines.ensure`."""
    actor.require(Scope.ADMIN)
    project = await repositories.find_own(context, actor, wanted.name, target=wanted.target)
    if project is None:
        project = await pipelines.project_of(context, actor, _as_pipeline(wanted))
    chains = context.pipelines.get(project.target)
    if chains is not None and (wanted.mirror is not None or wanted.place is not None):
        await chains.expect(project, mirror=wanted.mirror, place=wanted.place)
    if wanted.branch is not None and wanted.branch != project.branch:
        project = await projects.configure(context, actor, project.id, ProjectChange(branch=wanted.branch))
        if chains is not None and pipelines.is_whole(project):
            await chains.ensure(project)
    return await context.projects.get(project.id) or project


async def find_to_deploy(context: Context, actor: Actor, name: RepositoryName, *, target: str) -> Project | None:
    """The project of a repository, for somebody who may deploy it. Errors: NotAllowed; Conflict."""
    actor.require(Scope.DEPLOY)
    return await repositories.find(context, actor, name, target=target)


async def deploy(context: Context, actor: Actor, project: Project, request: DeploymentRequest) -> Accepted:
    """As `deployments.start`. What the project's chain lacks is made before, so that what the provider says against it
    is said to the caller; a deployment makes it by itself, so whoever may deploy may.

    Errors: as of `deployments.start` and `Pipelines.ensure`."""
    actor.require(Scope.DEPLOY)
    deployments.require_target(context, project)
    chains = context.pipelines.get(project.target)
    if chains is not None and not pipelines.is_whole(project):
        await chains.ensure(project)
    return await deployments.start(context, actor, request)


async def owner_of(context: Context, project: Project) -> str:
    """The name of its owner."""
    return next((each.name for each in await context.owners.list() if each.id == project.owner_id), "")


def _as_pipeline(wanted: Integration) -> pipelines.Wanted:
    return pipelines.Wanted(target=wanted.target, owner=wanted.name.owner, repo=wanted.name.name, branch=wanted.branch)
