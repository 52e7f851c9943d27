"""Connections: credentials for private repositories. They go in, are sealed, and never come out of a door again."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.connection import (
    Connection,
    ConnectionKind,
    Credential,
    parse_host,
    parse_installation,
    parse_server,
)
from klepaas.domain.project import Project
from klepaas.domain.repository import Repository, host_of, parse_branch, parse_repository
from klepaas.errors import AuthenticationFailed, Conflict, Invalid, NotAllowed, NotFound, Rejected
from klepaas.operations.context import Context
from klepaas.operations.places import place_of

MAX_USERNAME = 255
MAX_PASSWORD_BYTES = 4096
"""Far above every token known to us, far below what web servers take as a header."""
NO_CREDENTIAL = Credential(username="", password="")
"""What is kept for an installation: the App's key opens it."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """`account` is who GitHub says the credential is; the commit is the head of the branch that was asked for."""

    account: str | None = None
    branch: str | None = None
    commit_sha: str | None = None


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
        raise Invalid(f"A connection of the kind {kind} is added in another way.", hint="Use: klepaas github connect")
    _check_name(name)
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


async def add_github_token(
    context: Context, actor: Actor, *, name: str, token: str, server: str | None = None
) -> tuple[Connection, str]:
    """Seal a personal access token once GitHub has said whose it is; returns the connection and that login.

    `server` is a GitHub Enterprise Server other than the operator's GitHub. The token is shown to that GitHub only.
    Errors: Invalid; Conflict; AuthenticationFailed when GitHub does not know it; Unavailable."""
    actor.require(Scope.ADMIN)
    _check_name(name)
    _check("", token)
    if not token.isascii() or " " in token:
        raise Invalid("That is no token of GitHub.", hint="It begins with ghp_ or github_pat_.")
    base = parse_server(server) if server is not None else context.github_url
    is_ours = _host(base) == _host(context.github_url)
    connection = _github(
        context,
        actor.owner_id,
        name,
        ConnectionKind.GITHUB_TOKEN,
        host=_host(base),
        api_url=context.github_api_url if is_ours else f"{base}/api/v3",
    )
    await _refuse_taken(context, connection)
    credential = Credential(username="", password=token, host=connection.host)
    login = await context.github.identify(connection, credential)
    await context.connections.add(connection, credential)
    return connection, login


async def add_installation(
    context: Context, actor: Actor, *, name: str, installation_id: str, owner: str | None = None
) -> tuple[Connection, str]:
    """Let an owner (the actor's own, unless named) use an installation of this klepaas's App. Returns the connection
    and the account of the installation.

    Only for the operator: who knows or guesses the number of an installation would get at its repositories.
    Errors: NotAllowed; Invalid; NotFound for an unknown owner or installation; Conflict; Unavailable."""
    if actor.scope is not Scope.OPERATOR:
        raise NotAllowed(
            "Only the operator may connect an installation of the GitHub App.",
            hint="Ask the operator, or add a token of your own: klepaas github connect --token-stdin",
        )
    _check_name(name)
    connection = _github(
        context,
        await _owner(context, actor, owner),
        name,
        ConnectionKind.GITHUB_APP,
        host=_host(context.github_url),
        api_url=context.github_api_url,
        installation_id=parse_installation(installation_id),
    )
    await _refuse_taken(context, connection)
    if await context.github_app.now() is None:
        raise Conflict("This klepaas has no GitHub App yet.", hint="Make one: klepaas github connect")
    try:
        account = await context.github.identify(connection)
    except AuthenticationFailed:
        raise
    except Rejected as unknown:
        if unknown.evidence.get("status") != 404:
            raise
        raise NotFound(
            f"GitHub knows no installation {connection.installation_id} of this klepaas's App.",
            hint="See them with: klepaas github status",
        ) from None
    await context.connections.add(connection, NO_CREDENTIAL)
    return connection, account


async def list_all(context: Context, actor: Actor) -> Sequence[Connection]:
    actor.require(Scope.ADMIN)
    return await context.connections.list(None if actor.scope is Scope.OPERATOR else actor.owner_id)


async def verify(
    context: Context, actor: Actor, reference: str, *, repository: str | None = None, branch: str | None = None
) -> Verified:
    """Show the credential to the server of this repository, a GitHub one also to GitHub itself.

    Errors: Invalid for a repository the connection is not for (nothing was sent); AuthenticationFailed,
    RepositoryNotFound, BranchNotFound as the server says; Unavailable when it says nothing."""
    actor.require(Scope.ADMIN)
    connection = await find(context, actor, reference)
    if repository is None:
        if not connection.is_github:
            raise Invalid(
                f"Nobody can say whether {connection.name} is good without a repository it is to open.",
                hint="Name one.",
            )
        return Verified(account=await context.github.identify(connection))
    place = parse_repository(repository, github_url=context.github_url)
    connection.check_may_open(place)
    account = await context.github.identify(connection) if connection.is_github else None
    wanted = parse_branch(branch if branch is not None else context.main_branch)
    credential = await opened(context, connection.id, place)
    sha = await context.source.head(place, branch=wanted, credential=credential)
    return Verified(account=account, branch=wanted, commit_sha=sha)


async def remove(context: Context, actor: Actor, reference: str) -> tuple[Connection, Sequence[Project]]:
    """Forget a credential. Returns it with the projects that used it and have none from now on. Errors: NotFound."""
    actor.require(Scope.ADMIN)
    connection = await find(context, actor, reference)
    left = await context.connections.remove(connection.id, context.clock.now())
    found = [await context.projects.get(project_id) for project_id in left]
    return connection, [project for project in found if project is not None]


async def find(context: Context, actor: Actor, reference: str) -> Connection:
    """The actor's connection by id or name. Somebody else's is not found, as if it did not exist."""
    found = await context.connections.get(reference) if reference.startswith(("con_", "gh_")) else None
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


async def opened(context: Context, connection_id: str | None, repository: Repository) -> Credential | None:
    """What git shows to fetch this repository: the stored credential, or a token minted for this one repository.

    Errors: NotFound when the connection is gone; Invalid when it is not for this repository; those of GitHub."""
    if connection_id is None:
        return None
    connection = await context.connections.get(connection_id)
    if connection is None or not connection.is_github:
        return await context.connections.open(connection_id)
    connection.check_may_open(repository)
    place = place_of(repository, connection)
    assert place is not None  # checked just before
    return await context.github.git_credential(connection, place)


def _github(
    context: Context,
    owner_id: str,
    name: str,
    kind: ConnectionKind,
    *,
    host: str,
    api_url: str,
    installation_id: str | None = None,
) -> Connection:
    return Connection(
        id="gh_" + secrets.token_hex(8),
        owner_id=owner_id,
        kind=kind,
        name=name,
        created_at=context.clock.now(),
        host=host,
        installation_id=installation_id,
        api_url=api_url,
    )


def _host(url: str) -> str:
    """The server of a GitHub, as `Repository.host` says it."""
    parts = urlsplit(url)
    return host_of(parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme))


async def _owner(context: Context, actor: Actor, owner: str | None) -> str:
    if owner is None:
        return actor.owner_id
    found = await context.owners.named(owner)
    if found is None:
        raise NotFound(
            f"There is no owner {owner[:80]!r}.", hint="Make one with a token: klepaas tokens create NAME --owner OWNER"
        )
    return found.id


async def _refuse_taken(context: Context, connection: Connection) -> None:
    """Before GitHub is asked in vain."""
    if await _named(context, connection.name, connection.owner_id):
        raise Conflict(
            f"There is already a connection named {connection.name}.", hint="Choose another name, or remove it."
        )


async def _named(context: Context, name: str, owner_id: str | None) -> Sequence[Connection]:
    return [each for each in await context.connections.list(owner_id) if each.name == name]


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 80 or not name.isprintable() or name != name.strip() or "/" in name:
        raise Invalid("A connection needs a name of 1 to 80 printable characters without a slash.")


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
