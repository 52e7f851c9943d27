"""A connection: a credential with an owner, for GitHub, a registry or a provider. Sealed at rest."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from klepaas.domain.repository import Repository, SourceKind, host_of
from klepaas.errors import Invalid

_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class ConnectionKind(StrEnum):
    GITHUB_APP = "github_app"
    GITHUB_TOKEN = "github_token"
    GIT_BASIC = "git_basic"
    """User name and password (or token) for any https git server."""


GITHUB_KINDS = (ConnectionKind.GITHUB_APP, ConnectionKind.GITHUB_TOKEN)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Everything about a credential but the credential."""

    id: str
    owner_id: str
    kind: ConnectionKind
    name: str
    created_at: datetime
    host: str | None = None
    """The one server that may be told the credential, as `Repository.host`; None: any its owner's projects name."""
    installation_id: str | None = None
    """Of a GitHub App connection: which account's installation of this klepaas's App it stands for."""
    api_url: str | None = None
    """Of a GitHub connection: its REST API, e.g. `https://api.github.com` or `https://ghe.example.org/api/v3`."""

    def check_may_open(self, repository: Repository) -> None:
        """Errors: Invalid when the credential must not or cannot be shown to the server of this repository."""
        if repository.kind is SourceKind.LOCAL:
            raise Invalid("A repository on this machine's disk needs no connection.", hint="Leave it away.")
        if not repository.keeps_secrets:
            raise Invalid(
                f"The connection {self.name} is only used with https, and {repository.display} is reached by "
                f"{repository.scheme}.",
                hint="Give the https address of the repository.",
            )
        if self.host is not None and repository.host != self.host:
            raise Invalid(
                f"The connection {self.name} is for {self.host} only, and {repository.display} is at "
                f"{repository.host}.",
                hint=f"Add another connection for {repository.host}.",
            )
        if self.is_github and repository.owner_and_name is None:
            raise Invalid(
                f"{repository.display} is not the address of a repository at a GitHub.", hint="Give owner/repo."
            )

    @property
    def is_github(self) -> bool:
        return self.kind in GITHUB_KINDS


@dataclass(frozen=True, kw_only=True, repr=False)
class Credential:
    """An opened secret, alive only inside the call that needs it. It has no useful repr on purpose."""

    username: str
    password: str
    host: str | None = None
    """Its connection's: whoever sends it looks here once more."""


def parse_server(text: str) -> str:
    """Read the https address of a GitHub Enterprise Server, or its name alone. Errors: Invalid."""
    name = parse_host(text.strip().removeprefix("https://").rstrip("/"))
    return f"https://{name}"


def parse_installation(text: str) -> str:
    """The id of an installation, as the address of its settings on GitHub ends with. Errors: Invalid."""
    given = text.strip()
    if not (given.isascii() and given.isdigit() and len(given) <= 20):
        raise Invalid(
            f"{text[:40]!r} is not the id of an installation.", hint="It is the number its page on GitHub ends with."
        )
    return given


def parse_host(text: str) -> str:
    """Read `git.example.org` or `git.example.org:8443`. Errors: Invalid."""
    given = text.strip()
    try:
        parts = urlsplit(f"https://{given}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        name, port = "", None
    if not name or len(given) > 255 or not _HOST.fullmatch(given):
        raise Invalid(
            f"{text[:80]!r} is not the name of a server.",
            hint="Give it as in the repository's address, without https:// and path, e.g. git.example.org.",
        )
    return host_of(name, port)
