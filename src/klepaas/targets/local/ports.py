"""What the local target needs from the database: loopback ports that stay the same over restarts."""

from collections.abc import Mapping
from typing import Protocol


class PortLeases(Protocol):
    """Ports are leased to a holder (`release:{id}`, `door:{app key}`) under a unique constraint."""

    async def lease(self, holder: str) -> int:
        """The holder's port; a free one is leased when it has none. Idempotent."""

    async def replace(self, holder: str, taken: int) -> int:
        """Lease another port because a stranger holds `taken`; it is not offered again for a while."""

    async def hand_over(self, holder: str, to: str) -> int | None:
        """Give the holder's port to `to`, atomically; None when the holder has no port (any more) or `to` has one.

        This is how an app gets a front door that the proxy already serves."""

    async def free(self, holder: str) -> None:
        """End the lease. Idempotent."""

    async def leased(self) -> Mapping[str, int]:
        """All leases, holder → port."""


def holder_of(release_id: str) -> str:
    """Who holds the port of a release's container."""
    return f"release:{release_id}"
