"""The memory of connections to code hosts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from klepaas.domain.connection import Connection, Credential


class Connections(Protocol):
    async def get(self, connection_id: str) -> Connection | None: ...

    async def open(self, connection_id: str) -> Credential:
        """Errors: NotFound; WrongKey."""

    async def add(self, connection: Connection, credential: Credential) -> None:
        """Errors: Conflict for a name the owner has used already."""

    async def list(self, owner_id: str | None) -> Sequence[Connection]: ...

    async def remove(self, connection_id: str, at: datetime) -> Sequence[str]:
        """Ids of the projects that used it and now have none."""
