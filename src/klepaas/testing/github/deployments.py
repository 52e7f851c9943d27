"""Deployments and their states. Source: OpenAPI schemas `deployment` and `deployment-status`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from klepaas.testing.github.shapes import Account, Json, Links, node_id, user, when

STATES = ("error", "failure", "inactive", "in_progress", "queued", "pending", "success")


@dataclass(frozen=True)
class DeploymentStatus:
    id: int
    state: str
    description: str
    environment: str
    log_url: str
    environment_url: str
    creator: Account
    created_at: datetime


@dataclass
class Deployment:
    """`statuses` oldest first."""

    id: int
    sha: str
    ref: str
    task: str
    environment: str
    description: str | None
    payload: Any
    transient: bool
    production: bool
    creator: Account
    created_at: datetime
    statuses: list[DeploymentStatus] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The newest; empty while there is none."""
        return self.statuses[-1].state if self.statuses else ""

    @property
    def states(self) -> list[str]:
        return [status.state for status in self.statuses]

    def json(self, repository_api: str, links: Links) -> Json:
        api = f"{repository_api}/deployments/{self.id}"
        return {
            "url": api,
            "id": self.id,
            "node_id": node_id("Deployment", self.id),
            "sha": self.sha,
            "ref": self.ref,
            "task": self.task,
            "payload": self.payload,
            "original_environment": self.environment,
            "environment": self.environment,
            "description": self.description,
            "creator": user(self.creator, links),
            "created_at": when(self.created_at),
            "updated_at": when(self.statuses[-1].created_at if self.statuses else self.created_at),
            "statuses_url": f"{api}/statuses",
            "repository_url": repository_api,
            "transient_environment": self.transient,
            "production_environment": self.production,
            "performed_via_github_app": None,
        }

    def status_json(self, status: DeploymentStatus, repository_api: str, links: Links) -> Json:
        api = f"{repository_api}/deployments/{self.id}"
        return {
            "url": f"{api}/statuses/{status.id}",
            "id": status.id,
            "node_id": node_id("DeploymentStatus", status.id),
            "state": status.state,
            "creator": user(status.creator, links),
            "description": status.description,
            "environment": status.environment,
            "target_url": status.log_url,
            "log_url": status.log_url,
            "environment_url": status.environment_url,
            "created_at": when(status.created_at),
            "updated_at": when(status.created_at),
            "deployment_url": api,
            "repository_url": repository_api,
            "performed_via_github_app": None,
        }


def made_inactive_by(deployment: Deployment, others: Iterable[Deployment]) -> list[Deployment]:
    """Which deployments end when this one succeeds with `auto_inactive`: earlier ones of the same environment that
    are neither transient nor in production. Source: GitHub's page on deployment statuses, "Inactive deployments"."""
    return [
        other
        for other in others
        if other.id < deployment.id
        and other.environment == deployment.environment
        and not other.transient
        and not other.production
        and other.state != "inactive"
    ]
