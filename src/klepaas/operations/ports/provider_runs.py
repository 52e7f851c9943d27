"""The memory of the runs at a provider."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from klepaas.domain.project import App


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
