"""A connection: a credential with an owner, for GitHub, a registry or a provider. Sealed at rest."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ConnectionKind(StrEnum):
    GITHUB_APP = "github_app"
    GITHUB_TOKEN = "github_token"
    GIT_BASIC = "git_basic"
    """User name and password (or token) for any https git server."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Everything about a credential but the credential."""

    id: str
    owner_id: str
    kind: ConnectionKind
    name: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True, repr=False)
class Credential:
    """An opened secret, alive only inside the call that needs it. It has no useful repr on purpose."""

    username: str
    password: str
