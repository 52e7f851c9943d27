"""Candidates and plans of rollbacks, as callers get them."""

from datetime import datetime
from typing import Any

from klepaas.domain.deployment import Deployment
from klepaas.interfaces.api.v1.answers.answer import Answer
from klepaas.interfaces.api.v1.answers.projects import ProjectName
from klepaas.interfaces.api.v1.answers.releases import ReleaseAnswer
from klepaas.operations.rollbacks import Candidate, RollbackPlan, Way


class CandidateAnswer(Answer):
    steps_back: int
    """0 is the live release; negative ones were released after it."""
    release_id: str
    number: int
    commit_sha: str
    commit_message: str
    released_at: datetime
    is_current: bool
    way: Way

    @classmethod
    def of(cls, candidate: Candidate, deployment: Deployment | None) -> "CandidateAnswer":
        release = candidate.release
        return cls(
            steps_back=candidate.steps_back,
            release_id=release.id,
            number=release.number,
            commit_sha=release.commit_sha,
            commit_message=deployment.commit_message if deployment else "",
            released_at=(deployment.live_at if deployment else None) or release.created_at,
            is_current=candidate.is_current,
            way=candidate.way,
        )


class CandidateList(Answer):
    candidates: list[CandidateAnswer]


class SettingChange(Answer):
    now: Any
    then: Any


class PlanAnswer(Answer):
    """What a rollback would do. Nothing was touched."""

    project: ProjectName
    environment: str
    candidate: CandidateAnswer
    current: ReleaseAnswer | None
    live_deployment_id: str | None
    goes_back: dict[str, SettingChange]
    stays: list[str]
    variables_added: list[str]
    variables_removed: list[str]
    variables_differ: bool

    @classmethod
    def of(cls, plan: RollbackPlan, deployment: Deployment | None) -> "PlanAnswer":
        return cls(
            project=ProjectName(id=plan.project.id, name=plan.project.name),
            environment=plan.app.environment,
            candidate=CandidateAnswer.of(plan.candidate, deployment),
            current=ReleaseAnswer.of(plan.current) if plan.current else None,
            live_deployment_id=plan.live_deployment_id,
            goes_back={name: SettingChange(now=now, then=then) for name, (now, then) in plan.goes_back.items()},
            stays=list(plan.stays),
            variables_added=list(plan.variables_added),
            variables_removed=list(plan.variables_removed),
            variables_differ=plan.variables_differ,
        )
