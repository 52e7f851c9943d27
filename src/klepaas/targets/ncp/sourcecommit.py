"""SourceCommit: repositories of git. What is in them goes by git, never through this API."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from klepaas.errors import Rejected
from klepaas.targets.ncp.client import NcpClient
from klepaas.targets.ncp.endpoints import Service
from klepaas.targets.ncp.making import Ensured, ensured
from klepaas.targets.ncp.names import check_name
from klepaas.targets.ncp.reading import Listed, each_of, listed, named, understood
from klepaas.targets.ncp.refusal import is_missing

SERVICE = Service.SOURCE_COMMIT


@dataclass(frozen=True, kw_only=True)
class SourceRepository:
    """`git_url` has no credential; None where the service does not say it."""

    id: int
    name: str
    description: str
    git_url: str | None


@dataclass(frozen=True, kw_only=True)
class Branches:
    default: str | None
    names: tuple[str, ...]


class SourceCommit:
    def __init__(self, client: NcpClient) -> None:
        self._client = client

    async def repositories(self) -> Sequence[Listed]:
        data = await self._client.get(SERVICE, "/repository")
        with understood(SERVICE):
            return each_of(data, "repository", listed)

    async def find(self, name: str) -> SourceRepository | None:
        """After a 400 the list tells whether it is missing: no guide says which code that has."""
        try:
            data = await self._client.get(SERVICE, f"/repository/{_segment(name)}")
        except Rejected as refused:
            if is_missing(refused):
                return None
            if refused.evidence.get("status") != 400 or named(await self.repositories(), name) is not None:
                raise
            return None
        with understood(SERVICE):
            return _repository(data)

    async def ensure(self, name: str, *, description: str = "") -> Ensured[SourceRepository]:
        """The answer of making one holds no id: it is looked up until it is shown."""
        check_name(name, "SourceCommit repository", 100)
        body = {"name": name, "description": description[:120]}

        async def make() -> None:
            await self._client.change(SERVICE, "POST", "/repository", body)

        return await ensured(
            lambda: self.find(name), make, looks_s=self._client.looks_s, what=f"the SourceCommit repository {name}"
        )

    async def branches(self, name: str) -> Branches:
        data = await self._client.get(SERVICE, f"/repository/{_segment(name)}/branch")
        with understood(SERVICE):
            return Branches(default=data.get("default") or None, names=tuple(each_of(data, "branch", str)))

    async def remove(self, repository_id: int) -> None:
        """What is gone already is no error."""
        try:
            await self._client.change(SERVICE, "DELETE", f"/repository/id/{int(repository_id)}")
        except Rejected as refused:
            if not is_missing(refused):
                raise


def _repository(data: Any) -> SourceRepository:
    url = (data.get("git") or {}).get("https")
    return SourceRepository(
        id=int(data["id"]),
        name=str(data["name"]),
        description=str(data.get("description") or ""),
        git_url=_without_user(url) if isinstance(url, str) else None,
    )


def _without_user(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _segment(name: str) -> str:
    return quote(name, safe="")
