"""News of deployments, for those who watch."""

from collections.abc import AsyncIterator
from typing import Protocol

from klepaas.domain.events import Recorded


class Feed(Protocol):
    """News for those who watch. A missed bell costs time, never an event."""

    def tell(self, deployment_id: str) -> None:
        """Ring: something was written about this deployment."""

    def events(self, deployment_id: str, *, after: int) -> AsyncIterator[Recorded]:
        """Every event with a number above `after`, once and in order; ends after the terminal one."""

    def news(self, deployment_id: str) -> AsyncIterator[None]:
        """Yields at once and then whenever something may have happened."""

    async def stirred(self, *, within_s: float) -> None:
        """Returns when this process told of any deployment since the last return, at the latest after so long. For
        one listener."""
