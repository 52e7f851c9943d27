"""Connections: add, list, verify, remove. What is sealed in them comes out of no route."""

from fastapi import APIRouter

from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext
from klepaas.interfaces.api.v1.answers import (
    ConnectionAnswer,
    ConnectionList,
    RemovedConnectionAnswer,
    VerificationAnswer,
)
from klepaas.interfaces.api.v1.bodies import NewConnection, Verification
from klepaas.interfaces.api.v1.parameters import PREFIX, ConnectionId, refusals
from klepaas.operations import connections

router = APIRouter(prefix=f"{PREFIX}/connections", tags=["connections"], route_class=Guarded)


@router.post("", status_code=201, responses=refusals(403, 409, 413))
async def add(body: NewConnection, context: TheContext, actor: CurrentActor) -> ConnectionAnswer:
    """Seal a credential for private repositories."""
    connection = await connections.add(
        context,
        actor,
        name=body.name,
        kind=body.kind,
        username=body.username,
        password=body.password.get_secret_value(),
        host=body.host,
    )
    return ConnectionAnswer.of(connection)


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
    sha = await connections.verify(context, actor, connection_id, repository=body.repository, branch=body.branch)
    return VerificationAnswer(branch=body.branch, commit_sha=sha)


@router.delete("/{connection_id}", responses=refusals(403, 404))
async def remove(connection_id: ConnectionId, context: TheContext, actor: CurrentActor) -> RemovedConnectionAnswer:
    """Forget the credential. Projects that used it stay, without a connection."""
    return RemovedConnectionAnswer.of(*await connections.remove(context, actor, connection_id))
