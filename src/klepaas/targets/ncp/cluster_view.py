"""Looking into the cluster, where the keys of klepaas may; without it the provider's word has to be enough."""

import time
from collections.abc import Callable, Sequence
from typing import Literal

import structlog

from klepaas.errors import AuthenticationFailed, Outside, PermissionMissing, Unavailable
from klepaas.targets.ncp.kubernetes import Kubernetes
from klepaas.targets.ncp.rollout import Rollout, Wanted, look

log = structlog.get_logger()

WITHOUT_FOR_S = 600.0
"""After the cluster did not let us in, it is not asked again for so long."""


class ClusterView:
    """`kubernetes` is None when no cluster is configured by its UUID."""

    def __init__(
        self,
        kubernetes: Kubernetes | None,
        access: Literal["auto", "always", "never"],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubernetes = None if access == "never" else kubernetes
        self._is_needed = access == "always"
        self._has_seen = False
        self._without_until, self._clock = 0.0, clock

    async def look(self, wanted: Sequence[Wanted], digest: str) -> Rollout | None:
        """None where we may not look, or there is nothing to look at. Once we could, we have to: then an error is one.

        Errors: those of the cluster."""
        if self._kubernetes is None or not wanted or self._clock() < self._without_until:
            return None
        try:
            seen = await look(self._kubernetes, wanted, digest)
        except (AuthenticationFailed, PermissionMissing, Unavailable) as fault:
            if self._is_needed or self._has_seen:
                raise
            self._go_without(fault)
            return None
        self._has_seen = True
        return seen

    async def close(self) -> None:
        if self._kubernetes is not None:
            await self._kubernetes.close()

    def _go_without(self, fault: Outside) -> None:
        log.warning("cluster_not_seen", reason=fault.message)
        self._without_until = self._clock() + WITHOUT_FOR_S
