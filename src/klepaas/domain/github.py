"""What GitHub tells and is told, as nouns: pushes, releases, pull requests, how commits lie to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

ZERO_SHA = "0" * 40
"""What a push names as the commit of a branch that does not exist (any more)."""

MOST_COMMITS = 2048
"""GitHub lists no more of them in a push."""

_KINDS_OF_PATHS = ("added", "modified", "removed")


@dataclass(frozen=True, kw_only=True)
class RepositoryName:
    """A repository as a payload names it. The ids survive renames and moves; the name is GitHub's spelling."""

    owner: str
    name: str
    repository_id: int | None = None
    installation_id: str | None = None
    is_private: bool = field(default=False, compare=False)
    """As far as whoever named it said so."""

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Push:
    """A `push` event, as far as deployments care. `before` and `after` are full SHAs; zeros mean: no such branch."""

    repository: RepositoryName
    ref: str
    before: str
    after: str
    deleted: bool
    forced: bool
    message: str
    """Of the head commit, whole; empty when the push names none."""
    pusher: str
    commits: Any = field(default=None, repr=False, compare=False)
    """As the payload lists them, unread; None when the push differs by more than these."""

    @cached_property
    def paths(self) -> tuple[str, ...] | None:
        """Files its commits touch; None when the payload does not list them all. Hardly ever asked for."""
        if not isinstance(self.commits, list) or len(self.commits) >= MOST_COMMITS:
            return None
        found: dict[str, None] = {}
        for commit in self.commits:
            listed = [commit.get(kind) for kind in _KINDS_OF_PATHS] if isinstance(commit, dict) else [None]
            for paths in listed:
                if not isinstance(paths, list) or not set(map(type, paths)) <= {str}:
                    return None
                found.update(dict.fromkeys(paths))
        return tuple(found)

    @property
    def branch(self) -> str | None:
        """The branch, only for exactly `refs/heads/…`."""
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else None


@dataclass(frozen=True, kw_only=True)
class PublishedRelease:
    """A `release` event with action `published`. GitHub calls a tag with notes a release; ours is another noun."""

    repository: RepositoryName
    tag: str
    draft: bool
    prerelease: bool
    target_commitish: str


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    number: int
    title: str
    merged_at: datetime | None
    base_branch: str
    merge_commit_sha: str | None


class Lineage(StrEnum):
    """How a commit lies to another one, GitHub's words: is it ahead of the other?"""

    IDENTICAL = "identical"
    AHEAD = "ahead"
    BEHIND = "behind"
    DIVERGED = "diverged"


class Checks(StrEnum):
    """All checks and statuses that others (not klepaas) reported for a commit, taken together."""

    PASSED = "passed"
    """Also when there are none."""
    PENDING = "pending"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Head:
    """The commit at the head of a branch. `etag` makes the next question free while nothing changed."""

    sha: str
    message: str
    etag: str | None = None


class StatusState(StrEnum):
    """GitHub's words for a commit status."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


class DeploymentState(StrEnum):
    """GitHub's words for the state of a deployment."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    INACTIVE = "inactive"


@dataclass(frozen=True, kw_only=True)
class SentDelivery:
    """A delivery as GitHub's own list shows it. `guid` is `X-GitHub-Delivery`; `id` is what redelivery wants."""

    id: int
    guid: str
    event: str
    delivered_at: datetime
    status_code: int
    redelivery: bool
    installation_id: str | None = None
    repository_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Received:
    """One webhook as it arrived, after its signature was checked. `headers` are only those kept, in lower case."""

    id: str
    event: str
    body: bytes = field(repr=False)
    received_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
