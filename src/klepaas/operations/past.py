"""What the history of an older system needs from memory, and from the provider that saw it happen."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from klepaas.domain.imported import Imported
from klepaas.domain.record_check import Complaint
from klepaas.domain.settlement import Outcome, PastRun
from klepaas.errors import Rejected


class ImportedHistory(Protocol):
    """Deployments of older systems. The engine has no way to them."""

    async def known(self, keys: Collection[str]) -> Mapping[str, Imported]:
        """By key."""

    async def by_old_id(self, owner_id: str, repository: str, old_ids: Collection[str]) -> Mapping[str, str]:
        """Old id → id of the imported deployment, the first one's for a twin."""

    async def keep(self, found: Sequence[Imported]) -> int:
        """Write those that are new, and what became known of unknown ones. Returns how many rows that changed."""

    async def of_repository(
        self,
        owner_id: str,
        repository: str,
        *,
        environment: str | None = None,
        outcomes: Collection[Outcome] = (),
        before_number: int | None = None,
        limit: int = 50,
    ) -> Sequence[Imported]:
        """Newest first, by when they were made; without twins. `repository` is `owner/repo` in lower case."""

    async def get(self, imported_id: str) -> Imported | None: ...

    async def complaints(self, owner_id: str | None, repository: str | None) -> Sequence[Complaint]:
        """About what was imported, of one owner or (None) of all."""


class Record(Protocol):
    """Our own deployments, looked at as a whole."""

    async def complaints(self, project_ids: Collection[str], now: datetime) -> Sequence[Complaint]: ...


@dataclass(frozen=True, kw_only=True)
class PastRuns:
    """Runs that began since a time, in no order."""

    deploys: Sequence[PastRun]
    builds: Sequence[PastRun]


class Provider(Protocol):
    """Where the older system let things be done, and what is still known of it there."""

    async def runs(self, *, build_project_id: str | None, deploy_project_id: str, since: datetime | None) -> PastRuns:
        """Errors: Outside."""

    async def ended_at(self, deploy_project_id: str, run: PastRun) -> datetime | None:
        """Its history tells only of single runs when they ended. Errors: Outside."""

    async def digest(self, image_ref: str) -> str | None:
        """Of an image in the registry; None when the registry says that it has none. Errors: Outside, Invalid."""


class NoProvider:
    """Nothing is configured that could be asked."""

    async def runs(self, *, build_project_id: str | None, deploy_project_id: str, since: datetime | None) -> PastRuns:
        raise _nobody()

    async def ended_at(self, deploy_project_id: str, run: PastRun) -> datetime | None:
        raise _nobody()

    async def digest(self, image_ref: str) -> str | None:
        raise _nobody()


@dataclass(frozen=True, kw_only=True)
class Past:
    """All of it."""

    imported: ImportedHistory
    record: Record
    provider: Provider


def _nobody() -> Rejected:
    return Rejected(
        "Naver Cloud was not asked: klepaas has no keys for it.",
        hint="Set KLEPAAS_NCP_ACCESS_KEY and KLEPAAS_NCP_SECRET_KEY, then import again.",
    )
