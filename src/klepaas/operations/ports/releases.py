"""The memory of releases."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from klepaas.domain.deployment import Deployment
from klepaas.domain.project import Project
from klepaas.domain.release import Release


class Releases(Protocol):
    async def create(
        self,
        deployment: Deployment,
        project: Project,
        *,
        image_digest: str,
        image_ref: str,
        container_port: int,
    ) -> Release:
        """The release of this deployment, with the project's settings and variables of now, or with those of
        the earlier release it names in `settings_of`. Idempotent."""

    async def get(self, release_id: str) -> Release | None: ...

    async def of_app(self, project_id: str, environment: str, *, limit: int = 100) -> Sequence[Release]:
        """Releases that were proven live at least once, newest first."""

    async def variables(self, release_id: str) -> Mapping[str, str]:
        """Opened. Errors: Refused when the key cannot open them; never an empty environment instead."""
