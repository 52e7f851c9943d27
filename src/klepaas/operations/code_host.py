"""What operations and watchers ask of GitHub. The adapter is in `klepaas.github`.

Every method may raise: Unavailable (GitHub is away, answers 5xx, or asks us to wait: `retry_after` says how long when
it said so), AuthenticationFailed, RepositoryNotFound (also: the credential may not see it), Rejected (anything else,
with GitHub's words)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from klepaas.domain.connection import Connection, Credential
from klepaas.domain.github import (
    Checks,
    DeploymentState,
    Head,
    Lineage,
    PullRequest,
    RepositoryName,
    SentDelivery,
    StatusState,
)
from klepaas.domain.github_app import GitHubApp, Installation


@dataclass(frozen=True, kw_only=True)
class Place:
    """A repository and the credential that is shown for it; without a connection GitHub is asked as a stranger."""

    owner: str
    name: str
    connection: Connection | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    lineage: Lineage
    paths: tuple[str, ...] | None
    """Files that differ; None when GitHub cut the list (300 files)."""


class CodeHost(Protocol):
    async def repository(self, place: Place) -> RepositoryName:
        """Its canonical name and id."""

    async def head(self, place: Place, branch: str, *, etag: str | None = None) -> Head | None:
        """The branch's head; None when it is still the one `etag` came with. Errors: BranchNotFound."""

    async def tag(self, place: Place, name: str) -> str:
        """The full SHA of the commit a tag names, peeled. Errors: BranchNotFound."""

    async def pull_requests(self, place: Place, sha: str) -> Sequence[PullRequest]:
        """The pull requests this commit belongs to."""

    async def compare(self, place: Place, base: str, head: str) -> Comparison:
        """How `head` lies to `base`."""

    async def checks(self, place: Place, sha: str, *, without: str) -> Checks:
        """What others say of the commit; `without` is how the contexts of our own statuses begin: they do not count."""

    async def set_status(
        self, place: Place, sha: str, *, context: str, state: StatusState, description: str, url: str | None
    ) -> None: ...

    async def deployments(self, place: Place, *, sha: str, environment: str) -> Mapping[str, int]:
        """Our key (kept in the payload) → GitHub's id, of the deployments it has for this commit and environment."""

    async def create_deployment(
        self, place: Place, *, sha: str, environment: str, key: str, description: str, production: bool
    ) -> int: ...

    async def set_deployment_status(
        self,
        place: Place,
        number: int,
        *,
        state: DeploymentState,
        description: str,
        log_url: str | None,
        environment_url: str | None,
    ) -> None: ...

    async def comment(self, place: Place, pull_request: int, *, marker: str, text: str) -> None:
        """One comment: the one that holds `marker` is edited, or a new one is made."""

    async def sent_deliveries(self, *, after: int | None = None) -> Sequence[SentDelivery]:
        """What GitHub sent to this App's webhook lately, newest first, down to (without) the id `after`."""

    async def redeliver(self, delivery: int) -> None: ...

    async def git_credential(self, connection: Connection, place: Place) -> Credential:
        """What git shows to fetch this one repository: the token itself, or one minted for this repository only."""

    async def identify(self, connection: Connection, credential: Credential | None = None) -> str:
        """Who GitHub says this credential is: the account of an installation of our App, or the login of a token.
        A token that is not stored yet comes along as `credential`."""

    async def installations(self) -> Sequence[Installation]:
        """Where this klepaas's App is installed."""

    async def create_app(self, code: str) -> GitHubApp:
        """The App that GitHub made of our manifest, for the code it gave in return. A code works once."""
