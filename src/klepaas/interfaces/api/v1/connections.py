"""Connections: add, list, verify, remove. What is sealed in them comes out of no route."""

from fastapi import APIRouter

from klepaas.domain.connection import ConnectionKind
from klepaas.errors import Invalid
from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext
from klepaas.interfaces.api.v1.answers.connections import (
    ConnectionAnswer,
    ConnectionList,
    RemovedConnectionAnswer,
    VerificationAnswer,
)
from klepaas.interfaces.api.v1.bodies import NewConnection, Verification
from klepaas.interfaces.api.v1.parameters import PREFIX, ConnectionId, refusals
from klepaas.operations import connections

_FIELDS = {
    ConnectionKind.GIT_BASIC: {"username", "password", "host"},
    ConnectionKind.GITHUB_TOKEN: {"password", "server"},
    ConnectionKind.GITHUB_APP: {"installation_id", "owner"},
}
"""What may be said about each kind, besides kind and name."""

router = APIRouter(prefix=f"{PREFIX}/connections", tags=["connections"], route_class=Guarded)


@router.post("", status_code=201, responses=refusals(403, 404, 409, 413, 502))
async def add(body: NewConnection, context: TheContext, actor: CurrentActor) -> ConnectionAnswer:
    """Seal a credential for private repositories. GitHub is asked whose it is before one of its own is kept."""
    _refuse_what_does_not_belong(body)
    password = body.password.get_secret_value() if body.password is not None else ""
    match body.kind:
        case ConnectionKind.GITHUB_TOKEN:
            made, account = await connections.add_github_token(
                context, actor, name=body.name, token=password, server=body.server
            )
            return ConnectionAnswer.of(made, account)
        case ConnectionKind.GITHUB_APP:
            made, account = await connections.add_installation(
                context, actor, name=body.name, installation_id=body.installation_id or "", owner=body.owner
            )
            return ConnectionAnswer.of(made, account)
        case ConnectionKind.GIT_BASIC:
            made = await connections.add(
                context,
                actor,
                name=body.name,
                kind=body.kind,
                username=body.username,
                password=password,
                host=body.host,
            )
            return ConnectionAnswer.of(made)


@router.get("", responses=refusals(403))
async def list_all(context: TheContext, actor: CurrentActor) -> ConnectionList:
    found = await connections.list_all(context, actor)
    return ConnectionList(connections=[ConnectionAnswer.of(each) for each in found])


@router.post("/{connection_id}/verify", responses=refusals(403, 404, 413, 502))
async def verify(
    connection_id: ConnectionId, body: Verification, context: TheContext, actor: CurrentActor
) -> VerificationAnswer:
    """Show the credential to the repository's server. What the server says no with is an error: 502 with the code
    `authentication_failed`, `repository_not_found` or `branch_not_found`; 503 when it cannot be asked now."""
    seen = await connections.verify(context, actor, connection_id, repository=body.repository, branch=body.branch)
    return VerificationAnswer(account=seen.account, branch=seen.branch, commit_sha=seen.commit_sha)


@router.delete("/{connection_id}", responses=refusals(403, 404))
async def remove(connection_id: ConnectionId, context: TheContext, actor: CurrentActor) -> RemovedConnectionAnswer:
    """Forget the credential. Projects that used it stay, without a connection."""
    return RemovedConnectionAnswer.of(*await connections.remove(context, actor, connection_id))


def _refuse_what_does_not_belong(body: NewConnection) -> None:
    """A field that would be ignored is a mistake about what the connection may do."""
    given = {name for name in body.model_fields_set - {"kind", "name"} if getattr(body, name) not in {None, ""}}
    if strange := sorted(given - _FIELDS[body.kind]):
        raise Invalid(
            f"A connection of the kind {body.kind} has no {strange[0]}.",
            hint=f"It has: {', '.join(sorted(_FIELDS[body.kind]))}.",
        )
