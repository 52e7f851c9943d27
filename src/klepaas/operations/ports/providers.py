"""What a provider keeps for a project: its chain, and the runs of it."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from klepaas.domain.project import App, Project

Tell = Callable[[str], Awaitable[None]]
"""Receives a sentence for each thing that was changed, right after it was."""


class ChainBook(Protocol):
    """What is known of the projects' chains at their provider: the ids on the project, and the rest in `chain`."""

    async def claim_names(
        self, project: Project, candidates: Sequence[Mapping[str, str]], *, keep: Mapping[str, str]
    ) -> Mapping[str, str]:
        """By what they name: those the project has already, else the first of these that no other project holds,
        with `keep` in them whoever holds it. Errors: Conflict when all are held."""

    async def note(self, project_id: str, known: Mapping[str, Any]) -> None:
        """Write down what is known now and keep the rest. None takes something away."""

    async def forget(self, project_id: str) -> None:
        """The chain is gone, and its names are free."""


@dataclass(frozen=True, kw_only=True)
class ProviderRun:
    """A build, a deployment or a pipeline at the provider: ours, or started there by hand (no `deployment_id`).

    `known` are the ids its history held before ours was started; `run_id` is None until we know it, `word` is the
    provider's own for its state, `by` who started it there."""

    number: int
    app_key: str
    kind: str
    provider_project_id: str
    noted_at: datetime
    deployment_id: str | None = None
    commit_sha: str | None = None
    release_id: str | None = None
    known: tuple[str, ...] = ()
    run_id: str | None = None
    word: str | None = None
    by: str = ""
    ended_at: datetime | None = None


class ProviderRuns(Protocol):
    """Every start of a run is written down before it happens, so that neither a crash nor a lost answer makes two."""

    async def of(self, deployment_id: str, kind: str) -> ProviderRun | None: ...

    async def newest(self, app_key: str, kind: str) -> ProviderRun | None:
        """The newest one of ours."""

    async def intend(
        self,
        app: App,
        kind: str,
        provider_project_id: str,
        *,
        deployment_id: str,
        known: Collection[str],
        commit_sha: str | None = None,
        release_id: str | None = None,
    ) -> ProviderRun | None:
        """Write down that it is about to be started; what was written down before, when this deployment did so
        already. None while another deployment has one open in the same project at the provider."""

    async def began(self, run: ProviderRun, run_id: str) -> ProviderRun:
        """Errors: Conflict when that run is another deployment's."""

    async def ended(self, run: ProviderRun, word: str) -> None: ...

    async def forget(self, run: ProviderRun) -> None:
        """It was certainly not started. One that has begun is kept."""

    async def ids(self, kind: str, provider_project_id: str) -> Collection[str]:
        """Of all runs written down."""

    async def by_hand(self, app: App, kind: str, provider_project_id: str, run_id: str, *, word: str, by: str) -> bool:
        """Write down a run that somebody started at the provider. False when it is known already."""

    async def list(self, app_key: str, *, limit: int = 50) -> Sequence[ProviderRun]:
        """Newest first."""


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
