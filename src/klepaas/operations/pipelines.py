"""The chain that builds and deploys a project at its provider: have it, keep it in repair, take it down."""

from collections.abc import Sequence
from dataclasses import dataclass

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project
from klepaas.errors import Conflict, Invalid
from klepaas.operations import projects
from klepaas.operations.context import Context
from klepaas.operations.ports.chains import Tell
from klepaas.operations.ports.pipelines import PipelineIds, Pipelines
from klepaas.operations.projects import ProjectChange, Registration


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A project with its chain. `changes` are sentences: what this call made, adopted or repaired."""

    project: Project
    ids: PipelineIds
    changes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A chain for a repository, whether or not it is a project already. None leaves a thing as it is, or to klepaas."""

    target: str
    owner: str
    repo: str
    branch: str | None = None
    mirror: str | None = None


async def ensure(context: Context, actor: Actor, reference: str, tell: Tell | None = None) -> Standing:
    """Errors: NotFound; Invalid for a target without chains; those of `Pipelines.ensure`."""
    actor.require(Scope.ADMIN)
    project = await projects.find(context, actor, reference)
    return await _ensured(context, project, tell)


async def ensure_for_repository(context: Context, actor: Actor, wanted: Wanted) -> Standing:
    """The same call again leads to the same project and the same ids."""
    actor.require(Scope.ADMIN)
    _offered(context, wanted.target)
    project = await project_of(context, actor, wanted)
    if wanted.branch is not None and wanted.branch != project.branch:
        project = await projects.configure(context, actor, project.id, ProjectChange(branch=wanted.branch))
    return await _ensured(context, project, None, mirror=wanted.mirror)


async def project_of(context: Context, actor: Actor, wanted: Wanted) -> Project:
    """The caller's project of this repository and target, made when there is none. Errors: those of a registration."""
    if (found := await _found(context, actor, wanted)) is not None:
        return found
    repository = f"{wanted.owner}/{wanted.repo}"
    try:
        return await projects.register(
            context, actor, Registration(repository=repository, branch=wanted.branch, target=wanted.target)
        )
    except Conflict:
        # Somebody was quicker, with the same wish; or the name is that of something else.
        if (found := await _found(context, actor, wanted)) is not None:
            return found
        raise


def is_whole(project: Project) -> bool:
    """Whether everything its chain consists of was made once."""
    ids = (project.sc_repo_name, project.build_project_id, project.deploy_project_id, project.pipeline_id)
    return all(ids)


async def take_down(context: Context, actor: Actor, reference: str) -> Sequence[str]:
    """What the app runs stays; nothing deploys it any more until there is a chain again. Returns what was done."""
    actor.require(Scope.ADMIN)
    project = await projects.find(context, actor, reference)
    chains = _offered(context, project.target)
    await _refuse_while_under_way(context, project)
    return await chains.remove(project)


async def retire(context: Context, actor: Actor, reference: str) -> Sequence[str]:
    """Take the project away with its chain. When the chain's end is not reached, a new project of the same
    repository takes up what is left of it."""
    actor.require(Scope.ADMIN)
    project = await projects.find(context, actor, reference)
    chains = _offered(context, project.target)
    await projects.retire(context, actor, project.id)
    return await chains.remove(project)


async def _ensured(context: Context, project: Project, tell: Tell | None, *, mirror: str | None = None) -> Standing:
    ids, changes = await _offered(context, project.target).ensure(project, tell, mirror=mirror)
    return Standing(project=await context.projects.get(project.id) or project, ids=ids, changes=changes)


def _offered(context: Context, target: str) -> Pipelines:
    """Errors: Invalid."""
    if target in context.pipelines:
        return context.pipelines[target]
    raise Invalid(
        f"Nothing is set up at a provider for projects of the target {target!r}.",
        hint=context.absent_targets.get(target, "Only projects that are built and deployed elsewhere have a chain."),
    )


async def _found(context: Context, actor: Actor, wanted: Wanted) -> Project | None:
    """The caller's project of this repository and target. Errors: Conflict when several could be meant."""
    named = await context.projects.of_repository(RepositoryName(owner=wanted.owner, name=wanted.repo))
    ours = [each for each in named if each.owner_id == actor.owner_id and each.target == wanted.target]
    if len(ours) > 1:
        ours = [each for each in ours if each.branch == (wanted.branch or context.main_branch)]
        if len(ours) != 1:
            raise Conflict(
                f"Several projects deploy {wanted.owner}/{wanted.repo}; which one is meant is not known.",
                hint="Name its branch, or set up its chain with: klepaas projects pipeline PROJECT",
            )
    return ours[0] if ours else None


async def _refuse_while_under_way(context: Context, project: Project) -> None:
    for deployment in await context.deployments.of_project(project.id, limit=20):
        if not deployment.status.is_terminal:
            raise Conflict(
                f"Deployment {deployment.id} of {project.name} is {deployment.status}.",
                hint=f"Wait for it, or run: klepaas cancel {deployment.id}",
            )
