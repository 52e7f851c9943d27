"""Who calls: nobody, a user's token, an App (by JWT) or one of its installations; and what each may do."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from klepaas.testing.github.repository import Repository
from klepaas.testing.github.shapes import Account

TokenKind = Literal["none", "user", "installation", "app", "bad"]

LEVELS = {"none": 0, "read": 1, "write": 2, "admin": 3}

PUBLIC = {"metadata", "contents", "pull_requests", "issues", "statuses", "checks", "deployments"}
"""What everybody may read of a public repository."""


@dataclass(frozen=True)
class Token:
    """A user's token or one of an installation. `repositories` None: all that its user or installation has;
    `permissions` None: everything, as a classic personal access token's `repo` scope."""

    value: str = field(repr=False)
    account: Account
    repositories: frozenset[int] | None = None
    permissions: Mapping[str, str] | None = None
    installation_id: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Caller:
    """`budget` names whose rate limit a request counts against."""

    kind: TokenKind
    budget: str
    account: Account | None = None
    repositories: frozenset[int] | None = frozenset()
    permissions: Mapping[str, str] | None = field(default_factory=dict)
    app_id: int | None = None
    installation_id: int | None = None

    def reaches(self, repository: Repository) -> bool:
        """Whether its credential is for this repository."""
        return self.repositories is None or repository.id in self.repositories

    def sees(self, repository: Repository) -> bool:
        """Whether it may know that this repository exists."""
        return not repository.private or self.reaches(repository)

    def may(self, repository: Repository, permission: str, level: str) -> bool:
        if not repository.private and level == "read" and permission in PUBLIC:
            return True
        if not self.reaches(repository):
            return False
        if self.permissions is None:
            return True
        if permission == "metadata":
            return level == "read"
        return LEVELS[self.permissions.get(permission, "none")] >= LEVELS[level]


NOBODY = Caller("none", "anonymous")


def new_token(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(18)}"
