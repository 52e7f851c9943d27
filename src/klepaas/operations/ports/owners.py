"""The memory of owners."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Owner:
    id: str
    name: str
    created_at: datetime


class Owners(Protocol):
    async def list(self) -> Sequence[Owner]: ...

    async def add(self, owner: Owner) -> None: ...

    async def named(self, name: str) -> Owner | None: ...
