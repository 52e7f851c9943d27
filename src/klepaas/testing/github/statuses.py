"""Commit statuses and check runs. Source: OpenAPI schemas `status`, `combined-commit-status`, `check-run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from klepaas.testing.github.shapes import Account, Json, Links, node_id, user, when

STATES = ("error", "failure", "pending", "success")


@dataclass(frozen=True)
class Status:
    """Statuses are only ever added; per context the newest counts."""

    id: int
    sha: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    creator: Account
    created_at: datetime

    def json(self, repository_api: str, links: Links, *, creator: bool = True) -> Json:
        return {
            "url": f"{repository_api}/statuses/{self.sha}",
            "avatar_url": f"{links.web}/avatars/u/{self.creator.id}?v=4",
            "id": self.id,
            "node_id": node_id("StatusContext", self.id),
            "state": self.state,
            "description": self.description,
            "target_url": self.target_url,
            "context": self.context,
            "created_at": when(self.created_at),
            "updated_at": when(self.created_at),
            **({"creator": user(self.creator, links)} if creator else {}),
        }


@dataclass(frozen=True)
class CheckRun:
    """`conclusion` only when `status` is `completed`."""

    id: int
    sha: str
    name: str
    status: str
    conclusion: str | None
    started_at: datetime
    completed_at: datetime | None

    def json(self, repository_api: str, repository_web: str, app: Json | None) -> Json:
        api = f"{repository_api}/check-runs/{self.id}"
        return {
            "id": self.id,
            "head_sha": self.sha,
            "node_id": node_id("CheckRun", self.id),
            "external_id": "",
            "url": api,
            "html_url": f"{repository_web}/runs/{self.id}",
            "details_url": f"{repository_web}/runs/{self.id}",
            "status": self.status,
            "conclusion": self.conclusion,
            "started_at": when(self.started_at),
            "completed_at": when(self.completed_at),
            "output": {
                "title": None,
                "summary": None,
                "text": None,
                "annotations_count": 0,
                "annotations_url": f"{api}/annotations",
            },
            "name": self.name,
            "check_suite": {"id": self.id},
            "app": app,
            "pull_requests": [],
        }


def newest_by_context(statuses: Sequence[Status]) -> list[Status]:
    """What counts for a commit: the last status of each context, newest first."""
    return list({status.context: status for status in statuses}.values())[::-1]


def combined_state(statuses: Sequence[Status]) -> str:
    """`failure` when one failed, `pending` when one is pending or there are none, else `success`."""
    states = {status.state for status in newest_by_context(statuses)}
    if states & {"error", "failure"}:
        return "failure"
    return "success" if states == {"success"} else "pending"
