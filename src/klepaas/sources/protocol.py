"""What klepaas asks of the place a commit comes from."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from klepaas.domain.connection import Credential
from klepaas.domain.repository import Repository


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit as git tells it. `sha` is full and lower case; `message` is its first line."""

    sha: str
    message: str
    author: str
    committed_at: datetime


class Source(Protocol):
    async def fetch(
        self,
        repository: Repository,
        *,
        branch: str,
        commit: str | None,
        into: Path,
        credential: Credential | None,
    ) -> Commit:
        """Check out one commit into the new folder `into`, without its history.

        `commit` None means the head of `branch`; a prefix of at least 7 digits is looked up in the branch.
        Errors: RepositoryNotFound, BranchNotFound, CommitNotFound, AuthenticationFailed, NetworkTimeout,
        DiskFull, Unavailable for anything else that another try may mend."""

    async def head(self, repository: Repository, *, branch: str, credential: Credential | None) -> str:
        """The full SHA at the head of the branch, without fetching it. Errors as in `fetch`."""

    async def has(self, repository: Repository, *, branch: str, commit: str, credential: Credential | None) -> bool:
        """Whether this commit (full SHA) can still be fetched. Errors: Unavailable when nobody can say."""
