"""The engine of this process, for those who have work for it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from klepaas.operations.ports.deployments import Submission

Submit = Callable[[str | None], Awaitable[Submission]]
"""Writes a deployment down. It gets the node that may claim it with the same stroke, if there is one."""


class Runner(Protocol):
    def wake(self) -> None:
        """Look for work now."""

    async def begin(self, submit: Submit) -> Submission:
        """Have a deployment written down, and carried by this process if it has room, else by whoever has."""

    def interrupt(self, deployment_id: str) -> None:
        """Obey a cancellation now, if the deployment runs in this process."""
