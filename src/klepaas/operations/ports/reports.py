"""The memory of what GitHub was told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from klepaas.domain.deployment import Deployment
from klepaas.domain.project import Project


@dataclass(frozen=True, kw_only=True)
class DueReport:
    """A deployment that GitHub should show differently from what it was told last."""

    deployment: Deployment
    project: Project
    is_live: bool
    live: Deployment | None
    """What is live in its app; while a switch to another one may still be taken back, the one before."""
    together: Sequence[Deployment]
    """All deployments of the same commit in the same app, this one among them."""
    sent: Mapping[str, Any]
    attempts: int


class Reports(Protocol):
    """How far GitHub was told of each deployment."""

    async def notice(self) -> None:
        """Begin to tell of deployments that are new and whose project has a connection to GitHub."""

    async def take_back(self) -> None:
        """Have what was claimed due again. Only for a process that knows of no other: whoever claimed it has died."""

    async def is_retrying(self) -> bool:
        """Whether something waits to be told again."""

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[DueReport]:
        """Those that are due, oldest first. They are nobody else's until the lease ends."""

    async def told(self, due: DueReport, sent: Mapping[str, Any]) -> None:
        """Remember what was told, in the middle of telling."""

    async def agreed(self, due: DueReport) -> None:
        """GitHub shows this state of the deployment."""

    async def retry(self, due: DueReport, *, after: timedelta, error: str) -> None: ...

    async def give_up(self, due: DueReport, *, error: str) -> None: ...
