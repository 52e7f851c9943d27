"""The memory of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from klepaas.domain.actor import Scope


@dataclass(frozen=True, kw_only=True)
class Token:
    id: str
    owner_id: str
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class Tokens(Protocol):
    async def add(self, token: Token, secret_hash: str) -> None: ...

    async def by_id(self, token_id: str) -> tuple[Token, str] | None:
        """The token and the hash of its secret."""

    async def list(self, owner_id: str | None) -> Sequence[Token]: ...

    async def revoke(self, token_id: str, at: datetime) -> bool:
        """False when there is no such token, or it had been revoked before. Errors: Conflict when it is the last one of
        the operator's scope that is valid: nobody could make another, nor manage anything."""

    async def any(self) -> bool: ...
