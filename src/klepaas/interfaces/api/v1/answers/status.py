"""What is live and what watchers saw, as callers get it."""

from datetime import datetime

from pydantic import ConfigDict

from klepaas.domain.deployment import Deployment
from klepaas.domain.observation import Health
from klepaas.interfaces.api.v1.answers.answer import Answer, example_of
from klepaas.interfaces.api.v1.answers.deployments import DeploymentAnswer
from klepaas.interfaces.api.v1.answers.projects import ProjectAnswer
from klepaas.interfaces.api.v1.answers.releases import ReleaseAnswer
from klepaas.operations.ports.apps import WatchedChange
from klepaas.operations.queries import AppStatus


class ChangeAnswer(Answer):
    number: int
    at: datetime
    health: Health
    detail: str
    action: str
    release_id: str | None

    @classmethod
    def of(cls, change: WatchedChange) -> "ChangeAnswer":
        return cls(
            number=change.number,
            at=change.at,
            health=change.health,
            detail=change.detail,
            action=change.action,
            release_id=change.release_id,
        )


class LiveAnswer(Answer):
    release: ReleaseAnswer
    deployment: DeploymentAnswer | None


class StatusAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "project": example_of(ProjectAnswer),
                    "environment": "production",
                    "health": "healthy",
                    "health_detail": "",
                    "observed_at": "2026-01-05T09:15:00.500000Z",
                    "urls": example_of(DeploymentAnswer)["urls"],
                    "live": {"release": example_of(ReleaseAnswer), "deployment": example_of(DeploymentAnswer)},
                    "active": [example_of(DeploymentAnswer, 1)],
                    "last": example_of(DeploymentAnswer),
                    "changes": [
                        {
                            "number": 31,
                            "at": "2026-01-05T09:12:00.500000Z",
                            "health": "stopped",
                            "detail": "The container does not run.",
                            "action": "started again: it was stopped",
                            "release_id": "rel_8899aabbccddeeff",
                        }
                    ],
                }
            ]
        }
    )
    project: ProjectAnswer
    environment: str
    health: Health
    """`absent` before the first release is live."""
    health_detail: str
    observed_at: datetime | None
    urls: list[str]
    live: LiveAnswer | None
    active: list[DeploymentAnswer]
    last: DeploymentAnswer | None
    changes: list[ChangeAnswer]

    @classmethod
    def of(cls, status: AppStatus) -> "StatusAnswer":
        def answer(deployment: Deployment) -> DeploymentAnswer:
            return DeploymentAnswer.of(deployment, status.project)

        release, deployment, state = status.live_release, status.live_deployment, status.state
        return cls(
            project=ProjectAnswer.of(status.project),
            environment=status.environment,
            health=state.health if state and release else Health.ABSENT,
            health_detail=state.health_detail if state and release else "Nothing was deployed here yet.",
            observed_at=state.observed_at if state else None,
            urls=list(status.urls),
            live=(
                LiveAnswer(release=ReleaseAnswer.of(release), deployment=answer(deployment) if deployment else None)
                if release
                else None
            ),
            active=[answer(each) for each in status.active],
            last=answer(status.last) if status.last else None,
            changes=[ChangeAnswer.of(each) for each in status.changes],
        )
