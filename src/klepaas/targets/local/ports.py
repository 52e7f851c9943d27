"""What the local target needs from the database: loopback ports that stay the same over restarts."""

from collections.abc import Mapping
from typing import Protocol


class PortLeases(Protocol):
    """Ports are leased to a holder (`release:{id}`, `door:{app key}`) under a unique constraint."""

    async def lease(self, holder: str) -> int:
        """The holder's port; a free one is leased when it has none. Idempotent."""

    async def replace(self, holder: str, taken: int) -> int:
        """Lease another port because a stranger holds `taken`; it is not offered again for a while."""

    async def free(self, holder: str) -> None:
        """End the lease. Idempotent."""

    async def leased(self) -> Mapping[str, int]:
        """All leases, holder → port."""
