"""The memory of the GitHub App."""

from datetime import datetime
from typing import Protocol

from klepaas.domain.github_app import GitHubApp


class StoredApp(Protocol):
    """The GitHub App made for this klepaas, if any."""

    async def get(self) -> GitHubApp | None:
        """Errors: WrongKey."""

    async def put(self, app: GitHubApp, at: datetime) -> None:
        """Errors: Conflict when there is one already."""

    async def remove(self) -> bool:
        """Whether there was one."""
