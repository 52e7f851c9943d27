"""Tokens: who may come in. A token is shown once, when it is made; only a hash of its secret is kept."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta

from klepaas.domain.actor import OPERATORS_OWNER, Actor, Scope
from klepaas.domain.project import parse_name
from klepaas.errors import Invalid, NotAllowed, NotAuthenticated, NotFound
from klepaas.operations.context import Context
from klepaas.operations.ports.owners import Owner
from klepaas.operations.ports.tokens import Token

PREFIX = "klp"
LONGEST = timedelta(days=3650)


async def authenticate(context: Context, text: str) -> Actor:
    """The actor behind a token. Errors: NotAuthenticated, with the same words for every kind of wrong token."""
    refused = NotAuthenticated(
        "The token is missing, wrong, expired or revoked.",
        hint="Log in with: klepaas login. Who runs klepaas and has no token left: klepaas up --new-operator-token",
    )
    token_id, secret = _parts(text)
    found = await context.tokens.by_id(token_id) if token_id else None
    # Compared also when there is no such token, so that the time to answer tells nothing.
    expected = found[1] if found else _hash("")
    if not hmac.compare_digest(_hash(secret), expected) or found is None:
        raise refused
    token = found[0]
    if token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= context.clock.now()):
        raise refused
    return Actor(owner_id=token.owner_id, scope=token.scope, label=f"token {token.name}")


async def create(
    context: Context, actor: Actor, *, name: str, scope: Scope, lifetime: timedelta | None, owner: str | None = None
) -> tuple[Token, str]:
    """Make a token of the actor's owner, or, for the operator, of any owner (made when new). Returns its text."""
    actor.require(Scope.ADMIN)
    actor.require(scope)
    if not 1 <= len(name) <= 80 or not name.isprintable():
        raise Invalid("A token needs a name of 1 to 80 printable characters.")
    if lifetime is not None and not timedelta(0) < lifetime <= LONGEST:
        raise Invalid("A token lives for at least a moment and at most ten years.", hint="Give e.g. 30d.")
    owner_id = actor.owner_id
    if owner is not None:
        if actor.scope is not Scope.OPERATOR:
            raise NotAllowed("Only the operator may make tokens for another owner.")
        owner_id = (await _owner(context, parse_name(owner, "owner"))).id
    return await _issue(context, owner_id=owner_id, name=name, scope=scope, lifetime=lifetime)


async def first(context: Context) -> str | None:
    """The operator's token on the very first start; None ever after."""
    return None if await context.tokens.any() else await of_operator(context)


async def of_operator(context: Context) -> str:
    """One more token of the operator, for whoever starts klepaas: the home and its keys are theirs anyhow."""
    owner = await _owner(context, OPERATORS_OWNER)
    _, text = await _issue(context, owner_id=owner.id, name="operator", scope=Scope.OPERATOR, lifetime=None)
    return text


async def list_all(context: Context, actor: Actor) -> Sequence[Token]:
    actor.require(Scope.ADMIN)
    return await context.tokens.list(None if actor.scope is Scope.OPERATOR else actor.owner_id)


async def revoke(context: Context, actor: Actor, token_id: str) -> None:
    """End a token now. Errors: NotFound; Conflict for the last one of the operator that is valid."""
    actor.require(Scope.ADMIN)
    found = await context.tokens.by_id(token_id)
    if found is None or not actor.owns(found[0].owner_id):
        raise NotFound(f"There is no token {token_id[:80]!r}.", hint="List yours with: klepaas tokens")
    await context.tokens.revoke(token_id, context.clock.now())


async def _owner(context: Context, name: str) -> Owner:
    owner = await context.owners.named(name)
    if owner is None:
        owner = Owner(id="own_" + secrets.token_hex(8), name=name, created_at=context.clock.now())
        await context.owners.add(owner)
    return owner


async def _issue(
    context: Context, *, owner_id: str, name: str, scope: Scope, lifetime: timedelta | None
) -> tuple[Token, str]:
    now, secret = context.clock.now(), secrets.token_urlsafe(32)
    token = Token(
        id=secrets.token_hex(8),
        owner_id=owner_id,
        name=name,
        scope=scope,
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
        revoked_at=None,
    )
    await context.tokens.add(token, _hash(secret))
    return token, f"{PREFIX}_{token.id}_{secret}"


def _parts(text: str) -> tuple[str, str]:
    prefix, _, rest = text.strip().partition("_")
    token_id, _, secret = rest.partition("_")
    return (token_id, secret) if prefix == PREFIX and len(text) < 200 else ("", "")


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()
