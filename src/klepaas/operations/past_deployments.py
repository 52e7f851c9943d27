"""Read deployments that an older system made, and check the whole record for what contradicts itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.imported import PREFIX, Imported
from klepaas.domain.project import Project
from klepaas.domain.record_check import Complaint
from klepaas.domain.settlement import Outcome
from klepaas.operations import projects
from klepaas.operations.context import Context
from klepaas.operations.old_repository import is_of


async def of_project(
    context: Context,
    project: Project,
    *,
    environment: str | None = None,
    outcomes: Collection[Outcome] = (),
    before_number: int | None = None,
    limit: int = 50,
) -> Sequence[Imported]:
    """Newest first. The caller has checked that the project may be seen; only what was imported for its owner is."""
    named = project.repository.owner_and_name
    if named is None or limit < 1:
        return []
    return await context.past.imported.of_repository(
        project.owner_id,
        "/".join(named).lower(),
        environment=environment,
        outcomes=outcomes,
        before_number=before_number,
        limit=limit,
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    imported: Imported
    project: Project
    """Under which it is shown."""


async def find(context: Context, actor: Actor, deployment_id: str) -> Found | None:
    """None for an id that is none of an imported deployment, of somebody else's, or of one no project shows."""
    if not deployment_id.startswith(PREFIX):
        return None
    imported = await context.past.imported.get(deployment_id)
    if imported is None or not actor.owns(imported.owner_id):
        return None
    shown_by = [each for each in await context.projects.list(imported.owner_id) if is_of(each, imported.repository)]
    return Found(imported=imported, project=shown_by[0]) if shown_by else None


async def check(context: Context, actor: Actor, reference: str | None = None) -> Sequence[Complaint]:
    """What does not fit together, of one project or of all the caller may see: first our own record, then what was
    imported. Errors: NotFound."""
    actor.require(Scope.READ)
    owner_id = None if actor.scope is Scope.OPERATOR else actor.owner_id
    repository: str | None = None
    if reference is not None:
        project = await projects.find(context, actor, reference)
        own, owner_id = [project], project.owner_id
        named = project.repository.owner_and_name
        repository = "/".join(named).lower() if named else ""
    else:
        own = list(await context.projects.list(owner_id))
    return [
        *await context.past.record.complaints([each.id for each in own], context.clock.now()),
        *await context.past.imported.complaints(owner_id, repository),
    ]
