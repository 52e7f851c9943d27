"""The memory of branches."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class DecidedHead:
    """The newest commit of a branch that was decided about for a project."""

    project_id: str
    branch: str
    sha: str
    is_settled: bool
    """False: to be decided again, because GitHub could not be asked or checks still run."""
    seen_at: datetime
    etag: str | None = None
    """GitHub's, of the branch while `sha` was its head."""


class Branches(Protocol):
    """What is known of the branches of projects. The newest decision counts; writing it again changes nothing."""

    async def heads(self, project_ids: Collection[str], branch: str) -> Mapping[str, DecidedHead]:
        """By project id."""

    async def decided(self, heads: Sequence[DecidedHead]) -> None: ...

    async def saw(self, project_ids: Collection[str], branch: str, sha: str, etag: str | None) -> None:
        """Remember the etag that came with this head."""

    async def move(self, repository: str, ref: str, before: str, after: str) -> None:
        """Remember that a ref went from one commit to another, as its push said."""

    async def moves(self, repository: str, ref: str) -> Mapping[str, set[str]]:
        """From which commits the ref came to each."""

    async def forget_old_moves(self) -> None: ...

    async def known(self) -> Sequence[DecidedHead]:
        """Of all projects that deploy by themselves."""
