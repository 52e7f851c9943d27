"""The engine of this process, for those who have work for it."""

from typing import Protocol


class Runner(Protocol):
    def wake(self) -> None:
        """Look for work now."""

    def interrupt(self, deployment_id: str) -> None:
        """Obey a cancellation now, if the deployment runs in this process."""
