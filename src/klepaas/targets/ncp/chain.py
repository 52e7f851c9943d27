"""The chain of a project at Naver Cloud: mirror, build, deployment, pipeline; made once, then kept in repair."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from klepaas.domain.project import Project
from klepaas.errors import Conflict
from klepaas.operations.ports import ChainBook
from klepaas.settings import NcpSettings
from klepaas.targets.ncp.client import NcpClient

Tell = Callable[[str], Awaitable[None]]
"""Receives a sentence for each thing that was changed, right after it was."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Everything a deployment needs to know. `git_url` has no credential; `image_repo` is `{host}/{image}`, `image`
    the part after the slash, `app` the name in the cluster, `branch` that of the mirror."""

    repository_id: int
    repository_name: str
    git_url: str
    branch: str
    build_project_id: int
    deploy_project_id: int
    stage_id: int
    scenario_id: int
    pipeline_id: int
    image_repo: str
    image: str
    app: str


def chain_of(project: Project) -> Chain | None:
    """As the record has it, without asking anybody; None while something of it is missing."""
    known, names = project.chain, project.chain.get("names") or {}
    try:
        return Chain(
            repository_id=int(known["repository_id"]),
            repository_name=str(names["repository"]),
            git_url=str(known["git_url"]),
            branch=project.branch,
            build_project_id=int(project.build_project_id or ""),
            deploy_project_id=int(project.deploy_project_id or ""),
            stage_id=int(known["stage_id"]),
            scenario_id=int(known["scenario_id"]),
            pipeline_id=int(project.pipeline_id or ""),
            image_repo=str(known["image_repo"]),
            image=str(names["image"]),
            app=str(names["app"]),
        )
    except (KeyError, ValueError):
        return None


class Chains:
    """One per account. What it makes is written to the book at once, so that a crash anywhere loses nothing."""

    def __init__(self, client: NcpClient, settings: NcpSettings, book: ChainBook) -> None:
        self._client, self._settings, self._book = client, settings, book

    async def ensure(self, project: Project, tell: Tell | None = None) -> tuple[Chain, tuple[str, ...]]:
        """Have the whole chain, as klepaas sets it up. Returns it with a sentence for each thing that was changed.

        Idempotent; what exists by its names is adopted, what drifted is repaired. The tag that the build is set to
        stays as it is. Errors: those of the client, Conflict, Rejected when settings are missing."""
        raise NotImplementedError

    async def remove(self, project: Project, tell: Tell | None = None) -> tuple[str, ...]:
        """Take the chain down. What is gone already is no error. Images in the registry stay."""
        raise NotImplementedError


def known_or_refused(project: Project) -> Chain:
    """Errors: Conflict while the chain is not complete."""
    chain = chain_of(project)
    if chain is None:
        raise Conflict(
            f"The chain of {project.name} at Naver Cloud is not complete.",
            hint="Create it with: klepaas projects create --target ncp, or POST /api/v1/ncp/pipeline/create",
        )
    return chain
