"""Whose turn it is to carry a deployment."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from klepaas.domain.deployment import Deployment
from klepaas.domain.events import Event


class Lost(Exception):
    """The deployment belongs to another node now; whoever gets this writes nothing more about it."""


class Queue(Protocol):
    """The engine's side of the same rows: leases, claims and fenced writes."""

    async def join(self, node: str, lease_s: float) -> None: ...

    async def renew(self, node: str, lease_s: float) -> bool:
        """False when the node's own lease had run out: then it owns nothing any more."""

    async def leave(self, node: str) -> None: ...

    async def leads(self, node: str) -> bool:
        """Whether this node is the one that watches; exactly one node with a running lease is."""

    async def claim(self, node: str, room: int) -> Sequence[Deployment]:
        """Take deployments that may run: queued ones of idle apps, and those whose owner is gone."""

    async def owned(self, node: str) -> Mapping[str, bool]:
        """Ids of the running deployments of the node, with whether their cancellation was requested."""

    async def let_go(self, deployment_id: str, node: str, look_again_in_s: float = 0.0) -> None:
        """Have a row claimed again, by whichever node comes first, after that time."""

    async def advance(self, deployment: Deployment, node: str, events: Sequence[Event]) -> Deployment:
        """Append events and write the new state in one transaction, if the deployment is still the node's.
        Repeating it after a lost answer changes nothing. Errors: Lost."""
