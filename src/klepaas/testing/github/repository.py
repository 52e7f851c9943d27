"""A repository of the stand-in with all that hangs on it. What changes it goes through `pushes`, `pulls` and so on."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from klepaas.testing.git.repository import GitRepository
from klepaas.testing.github import shapes
from klepaas.testing.github.comments import Comment
from klepaas.testing.github.deployments import Deployment
from klepaas.testing.github.hooks import Hook
from klepaas.testing.github.pull_requests import PullRequest
from klepaas.testing.github.releases import Release
from klepaas.testing.github.shapes import Account, Json, Links
from klepaas.testing.github.statuses import CheckRun, Status


@dataclass
class Repository:
    id: int
    name: str
    owner: Account
    private: bool
    default_branch: str
    git: GitRepository
    created_at: datetime
    pushed_at: datetime
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)
    check_runs: list[CheckRun] = field(default_factory=list)
    deployments: dict[int, Deployment] = field(default_factory=dict)
    releases: dict[int, Release] = field(default_factory=dict)
    hooks: dict[int, Hook] = field(default_factory=dict)
    last_number: int = 0
    """Of its issues and pull requests, which are counted together."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes its refs."""

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"

    def api(self, links: Links) -> str:
        return f"{links.api}/repos/{self.full_name}"

    def web(self, links: Links) -> str:
        return f"{links.web}/{self.full_name}"

    def json(self, links: Links, permissions: Mapping[str, bool] | None = None) -> Json:
        return shapes.repository(
            number=self.id,
            name=self.name,
            owner=self.owner,
            private=self.private,
            default_branch=self.default_branch,
            created_at=self.created_at,
            pushed_at=self.pushed_at,
            permissions=permissions,
            links=links,
        )
