"""Making and taking down what builds and deploys a project at its provider."""

from typing import Protocol

from klepaas.domain.project import Project
from klepaas.operations.ports.chains import Tell


class PipelineIds(Protocol):
    """Of a chain that stands, at its provider. `image_repo` is where its images are, without a tag."""

    @property
    def build_project_id(self) -> int: ...

    @property
    def deploy_project_id(self) -> int: ...

    @property
    def pipeline_id(self) -> int: ...

    @property
    def image_repo(self) -> str: ...


class Pipelines(Protocol):
    """Chains at one provider: what builds and deploys a project there."""

    async def ensure(
        self, project: Project, tell: Tell | None = None, *, mirror: str | None = None
    ) -> tuple[PipelineIds, tuple[str, ...]]:
        """Have the chain of a project, with a sentence for each thing that was changed. Idempotent.

        `mirror` is the name of the repository it is to be mirrored to; None leaves it to the provider's adapter.
        Errors: Conflict, Unavailable, Rejected; what was made until then stays and is known."""

    async def expect(self, project: Project, *, mirror: str | None, place: str | None) -> None:
        """Write down, before there is a chain, which repository the project is to be mirrored to, and the id of the
        place of such repositories. Errors: Invalid; Conflict when it is mirrored to another one already."""

    async def remove(self, project: Project, tell: Tell | None = None) -> tuple[str, ...]:
        """Take it down. What is gone already is no error."""
