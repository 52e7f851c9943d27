"""Connections: credentials for private repositories. They go in, are sealed, and never come out of a door again."""

import secrets
from collections.abc import Sequence

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.connection import Connection, ConnectionKind, Credential, parse_host
from klepaas.domain.project import Project
from klepaas.domain.repository import Repository, parse_branch, parse_repository
from klepaas.errors import Conflict, Invalid, NotFound
from klepaas.operations.context import Context

MAX_USERNAME = 255
MAX_PASSWORD_BYTES = 4096
"""Far above every token known to us, far below what web servers take as a header."""


async def add(
    context: Context,
    actor: Actor,
    *,
    name: str,
    kind: ConnectionKind,
    username: str,
    password: str,
    host: str | None = None,
) -> Connection:
    """Seal a credential under a name of the actor's owner. Without a user name, the password is a token.

    With a host no other server is ever told the credential. Errors: Invalid, never with the credential in its words;
    Conflict for a taken name."""
    actor.require(Scope.ADMIN)
    if kind is not ConnectionKind.GIT_BASIC:
        raise Invalid(
            f"Connections of the kind {kind} cannot be added yet.", hint=f"Choose {ConnectionKind.GIT_BASIC}."
        )
    if not 1 <= len(name) <= 80 or not name.isprintable() or name != name.strip() or "/" in name:
        raise Invalid("A connection needs a name of 1 to 80 printable characters without a slash.")
    _check(username, password)
    connection = Connection(
        id="con_" + secrets.token_hex(8),
        owner_id=actor.owner_id,
        kind=kind,
        name=name,
        created_at=context.clock.now(),
        host=None if host is None else parse_host(host),
    )
    await context.connections.add(connection, Credential(username=username, password=password))
    return connection


async def list_all(context: Context, actor: Actor) -> Sequence[Connection]:
    actor.require(Scope.ADMIN)
    return await context.connections.list(None if actor.scope is Scope.OPERATOR else actor.owner_id)


async def verify(context: Context, actor: Actor, reference: str, *, repository: str, branch: str) -> str:
    """Show the credential to the server of this repository. Returns the SHA at the head of the branch.

    Errors: Invalid for a repository the connection is not for (nothing was sent); AuthenticationFailed,
    RepositoryNotFound, BranchNotFound as the server says; Unavailable when it says nothing."""
    actor.require(Scope.ADMIN)
    connection = await find(context, actor, reference)
    place = parse_repository(repository, github_url=context.github_url)
    connection.check_may_open(place)
    credential = await context.connections.open(connection.id)
    return await context.source.head(place, branch=parse_branch(branch), credential=credential)


async def remove(context: Context, actor: Actor, reference: str) -> tuple[Connection, Sequence[Project]]:
    """Forget a credential. Returns it with the projects that used it and have none from now on. Errors: NotFound."""
    actor.require(Scope.ADMIN)
    connection = await find(context, actor, reference)
    left = await context.connections.remove(connection.id, context.clock.now())
    found = [await context.projects.get(project_id) for project_id in left]
    return connection, [project for project in found if project is not None]


async def find(context: Context, actor: Actor, reference: str) -> Connection:
    """The actor's connection by id or name. Somebody else's is not found, as if it did not exist."""
    found = await context.connections.get(reference) if reference.startswith("con_") else None
    if found is None:
        named = await _named(context, reference, actor.owner_id)
        if not named and actor.scope is Scope.OPERATOR:
            named = await _named(context, reference, None)
        if len(named) > 1:
            raise Conflict(
                f"Several owners have a connection named {reference[:80]}.",
                hint=f"Use its id: {', '.join(each.id for each in named)}.",
            )
        found = named[0] if named else None
    if found is None or not actor.owns(found.owner_id):
        raise NotFound(f"There is no connection {reference[:80]!r}.", hint="List yours with: klepaas connections")
    return found


async def for_project(
    context: Context, actor: Actor, reference: str, *, owner_id: str, repository: Repository
) -> Connection:
    """The connection by which a project of this owner may fetch this repository. Errors: NotFound, Invalid."""
    connection = await find(context, actor, reference)
    if connection.owner_id != owner_id:  # only the operator gets here; the owner could use it, but not see it
        raise Invalid(f"The connection {connection.name} and the project have different owners.")
    connection.check_may_open(repository)
    return connection


async def _named(context: Context, name: str, owner_id: str | None) -> Sequence[Connection]:
    return [each for each in await context.connections.list(owner_id) if each.name == name]


def _check(username: str, password: str) -> None:
    # HTTP's basic authentication ends the user name at the first colon.
    if len(username) > MAX_USERNAME or not username.isprintable() or ":" in username:
        raise Invalid(f"A user name has at most {MAX_USERNAME} printable characters and no colon.")
    if not password:
        raise Invalid("A connection needs a password or a token.")
    if len(password.encode()) > MAX_PASSWORD_BYTES or not password.isprintable():
        raise Invalid(
            "The password is too long or holds a line end or another character that cannot be printed.",
            hint=f"The limit is {MAX_PASSWORD_BYTES} bytes.",
        )
