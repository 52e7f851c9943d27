"""A deployment that an older system made and klepaas took over into its history. It is past: nothing works on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from klepaas.domain.old_findings import Finding
from klepaas.domain.settlement import Outcome, Source

PREFIX = "imp_"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """One row of the older system. With `twin_of` it tells of the same deployment as that one, and is kept for its
    text only. `number` is below zero, where those of our own deployments never are; 0 until stored.

    `originals` holds the row word for word, the newest last when it had changed there between two imports."""

    id: str
    key: str
    owner_id: str
    source: str
    """Which database, for people."""
    old_id: str
    github_owner: str
    github_repo: str
    commit_sha: str
    commit_message: str
    environment: str | None
    outcome: Outcome
    settled_by: Source
    reason: str
    image_ref: str | None
    is_rollback: bool
    created_at: datetime | None
    started_at: datetime | None
    deployed_at: datetime | None
    completed_at: datetime | None
    error_message: str | None
    imported_at: datetime
    asked_at: datetime
    """When it was last tried to learn how it ended."""
    originals: tuple[Mapping[str, Any], ...]
    image_digest: str | None = None
    rollback_from: str | None = None
    """Id of the imported deployment that this rollback undid."""
    twin_of: str | None = None
    findings: tuple[Finding, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0

    @property
    def repository(self) -> str:
        """For comparing."""
        return f"{self.github_owner}/{self.github_repo}".lower()


def id_of(key: str) -> str:
    """The same row has the same id, whichever import brings it."""
    return f"{PREFIX}{key[:16]}"
