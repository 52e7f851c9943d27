"""Projects as clients of older systems name them: by owner and name of their repository, in any case of letters."""

from collections.abc import Callable, Sequence

from klepaas.domain.actor import Actor
from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project
from klepaas.errors import Conflict
from klepaas.operations.context import Context


async def find(context: Context, actor: Actor, name: RepositoryName, *, target: str) -> Project | None:
    """The one project of the repository that the actor may see: their own before another owner's (an operator's
    case), that of the target before others, that of the main branch before others. Errors: Conflict."""
    seen = [each for each in await context.projects.of_repository(name) if actor.owns(each.owner_id)]
    return _one(context, actor, name, seen, target)


async def find_own(context: Context, actor: Actor, name: RepositoryName, *, target: str) -> Project | None:
    """The same among those of the actor's owner only. Errors: Conflict."""
    own = [each for each in await context.projects.of_repository(name) if each.owner_id == actor.owner_id]
    return _one(context, actor, name, own, target)


def spelled(project: Project) -> tuple[str, str]:
    """Owner and name of its repository, as GitHub spells them."""
    return project.repository.owner_and_name or (project.repository.owner, project.repository.name)


def _one(context: Context, actor: Actor, name: RepositoryName, seen: Sequence[Project], target: str) -> Project | None:
    preferences: tuple[Callable[[Project], bool], ...] = (
        lambda each: each.owner_id == actor.owner_id,
        lambda each: each.target == target,
        lambda each: each.branch == context.main_branch,
    )
    for is_preferred in preferences:
        seen = [each for each in seen if is_preferred(each)] or seen
    if len(seen) > 1:
        raise Conflict(
            f"Several projects deploy {name.full_name}; which one is meant is not known.",
            hint=f"They are: {', '.join(each.name for each in seen[:10])}. Name one at the routes of projects.",
        )
    return seen[0] if seen else None
