"""Deliveries: what GitHub told, what came of it, and deciding it once more."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from klepaas.domain.actor import Actor, Scope
from klepaas.domain.github import Received
from klepaas.errors import NotAllowed, NotFound
from klepaas.operations import projects
from klepaas.operations.context import Context
from klepaas.operations.intake import Intake
from klepaas.operations.ports.deliveries import StoredDelivery

REPLAY_OF = "klepaas-replay-of"
"""The header by which a replay, which is a delivery of our own, names the one it repeats."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """`body` only for the operator: it may speak of projects of several owners."""

    delivery: StoredDelivery
    body: bytes | None


async def list_all(
    context: Context, actor: Actor, *, project: str | None = None, before_number: int | None = None, limit: int = 50
) -> Sequence[StoredDelivery]:
    """Newest first. The operator sees all of them, an owner those that meant something for one of their projects.
    Errors: NotFound."""
    actor.require(Scope.READ)
    project_id = None if project is None else (await projects.find(context, actor, project)).id
    found = await context.deliveries.list(_only(actor), project_id=project_id, before_number=before_number, limit=limit)
    return [_seen_by(actor, each) for each in found]


async def show(context: Context, actor: Actor, delivery_id: str) -> Shown:
    """Errors: NotFound."""
    actor.require(Scope.READ)
    found = await _find(context, actor, delivery_id)
    body = await context.deliveries.body(found.id) if actor.scope is Scope.OPERATOR else None
    return Shown(delivery=_seen_by(actor, found), body=body)


async def replay(context: Context, intake: Intake, actor: Actor, delivery_id: str) -> StoredDelivery:
    """Decide a delivery by the rules and settings of now. What it started once is not started again.

    Returns the replay, which is a delivery of its own; undecided when deciding takes long. Errors: NotFound;
    NotAllowed when it also is about projects of other owners."""
    actor.require(Scope.DEPLOY)
    original = await _find(context, actor, delivery_id)
    body = await context.deliveries.body(original.id)
    if body is None:
        raise _missing(delivery_id)
    if not all(actor.owns(each.owner_id) for each in original.decisions):
        raise NotAllowed("This delivery is about projects of other owners, too.", hint="Ask the operator to replay it.")
    again = Received(
        id=f"replay-{secrets.token_hex(8)}",
        event=original.event,
        headers={**original.headers, REPLAY_OF: original.headers.get(REPLAY_OF, original.id)},
        body=body,
        received_at=context.clock.now(),
    )
    await intake.receive_replay(again)
    made = await context.deliveries.get(again.id)
    assert made is not None, "stored a moment ago"
    return _seen_by(actor, made)


async def _find(context: Context, actor: Actor, delivery_id: str) -> StoredDelivery:
    """Somebody else's is not found, as if it did not exist."""
    found = await context.deliveries.get(delivery_id)
    if found is None or not (
        actor.scope is Scope.OPERATOR or any(actor.owns(each.owner_id) for each in found.decisions)
    ):
        raise _missing(delivery_id)
    return found


def _missing(delivery_id: str) -> NotFound:
    return NotFound(f"There is no delivery {delivery_id[:80]!r}.", hint="List them with: klepaas github deliveries")


def _only(actor: Actor) -> str | None:
    return None if actor.scope is Scope.OPERATOR else actor.owner_id


def _seen_by(actor: Actor, delivery: StoredDelivery) -> StoredDelivery:
    """Without what it meant for others: the answer speaks of all projects."""
    if actor.scope is Scope.OPERATOR:
        return delivery
    own = [each for each in delivery.decisions if actor.owns(each.owner_id)]
    return replace(delivery, decisions=own, answer=None)
