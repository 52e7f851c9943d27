"""From a repository to where its GitHub is asked about it."""

from klepaas.domain.connection import Connection
from klepaas.domain.project import Project
from klepaas.domain.repository import Repository, SourceKind
from klepaas.operations.code_host import Place
from klepaas.operations.context import Context


def place_of(repository: Repository, connection: Connection | None) -> Place | None:
    """None for a repository that is at no GitHub we know how to ask."""
    names = repository.owner_and_name
    is_github = repository.kind is SourceKind.GITHUB or (connection is not None and connection.is_github)
    if names is None or not is_github:
        return None
    return Place(owner=names[0], name=names[1], connection=connection)


async def place_of_project(context: Context, project: Project) -> Place | None:
    """Where GitHub is asked about the project, and told about it."""
    connection = await context.connections.get(project.connection_id) if project.connection_id else None
    return place_of(project.repository, connection)
