"""The memory of webhook deliveries."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from klepaas.domain.github import Received
from klepaas.domain.verdict import Verdict
from klepaas.operations.ports.projects import AsOf


@dataclass(frozen=True, kw_only=True)
class StoredDelivery:
    """A webhook in the inbox, without its body. `answer` is what its sender was or would have been answered."""

    number: int
    id: str
    event: str
    headers: Mapping[str, str]
    repository: str | None
    received_at: datetime
    decided_at: datetime | None
    answer: Mapping[str, Any] | None
    decisions: Sequence["Decision"] = ()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a delivery meant for one project. `owner_id` is the project's."""

    verdict: Verdict
    project_name: str
    owner_id: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Known:
    """A delivery that came before. `answer` is None while it is not decided."""

    answer: Mapping[str, Any] | None


class Deliveries(Protocol):
    """The inbox of webhooks. What it has taken survives a power cut."""

    async def add(
        self,
        received: Received,
        *,
        repository: str | None,
        answer: Mapping[str, Any] | None,
        verdicts: Sequence[Verdict] = (),
        as_of: AsOf | None = None,
    ) -> Known | None:
        """Returns once it is on disk; None when it is new. A known id changes nothing.

        With an `answer`, and the `verdicts` it stands for, nothing is left to be decided; unless the state they were
        decided on is no more: then it is as if it were known, and undecided."""

    async def decided(
        self, delivery_id: str, *, answer: Mapping[str, Any], verdicts: Sequence[Verdict], at: datetime
    ) -> None:
        """Record what it meant. Again, it is what it means now."""

    async def get(self, delivery_id: str) -> StoredDelivery | None: ...

    async def body(self, delivery_id: str) -> bytes | None: ...

    async def undecided(self, *, received_before: datetime, after: int, limit: int) -> Sequence[StoredDelivery]:
        """In the order they came, from the number `after` on; without their decisions."""

    async def list(
        self, owner_id: str | None, *, project_id: str | None = None, before_number: int | None = None, limit: int = 50
    ) -> Sequence[StoredDelivery]:
        """Newest first; with an owner only those that meant something for one of their projects, and only that."""

    async def known(self, delivery_ids: Collection[str]) -> Collection[str]:
        """Which of these ids are in the inbox."""

    async def waiting(self) -> Sequence[StoredDelivery]:
        """What waits for something (the commit's checks) for one project at least, in the order it came; some hundred
        at most."""

    async def prune(self, *, received_before: datetime) -> int:
        """Forget what was decided and is older, at most some thousand at once. Returns how many."""
