"""Candidates and plans of rollbacks, as callers get them."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from klepaas.domain.deployment import Deployment
from klepaas.interfaces.api.v1.answers.answer import EXAMPLE_SHA, Answer, example_of
from klepaas.interfaces.api.v1.answers.projects import ProjectName
from klepaas.interfaces.api.v1.answers.releases import ReleaseAnswer
from klepaas.operations.rollbacks import Candidate, RollbackPlan, Way


class CandidateAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "steps_back": 1,
                    "release_id": "rel_7788990011223344",
                    "number": 8,
                    "commit_sha": "3f2a9c1bd0ae598e95dc970b74767f19372d61af",
                    "commit_message": "Show prices",
                    "released_at": "2026-01-04T15:30:07.400000Z",
                    "is_current": False,
                    "way": "warm",
                },
                {
                    "steps_back": 0,
                    "release_id": "rel_8899aabbccddeeff",
                    "number": 9,
                    "commit_sha": EXAMPLE_SHA,
                    "commit_message": "Show prices with tax",
                    "released_at": "2026-01-05T09:00:07.400000Z",
                    "is_current": True,
                    "way": "image",
                },
            ]
        }
    )
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
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"candidates": [example_of(CandidateAnswer, 1), example_of(CandidateAnswer)]}]}
    )
    candidates: list[CandidateAnswer]


class SettingChange(Answer):
    now: Any
    then: Any


class PlanAnswer(Answer):
    """What a rollback would do. Nothing was touched."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "project": {"id": "prj_0f9d1c2b3a495867", "name": "shop"},
                    "environment": "production",
                    "candidate": example_of(CandidateAnswer),
                    "current": example_of(ReleaseAnswer),
                    "live_deployment_id": "dep_7c1e2d3b4a596877",
                    "goes_back": {"health_path": {"now": "/health", "then": "/"}},
                    "stays": [
                        "dockerfile",
                        "context",
                        "hosts",
                        "replicas",
                        "keep_releases",
                        "switch_failed_budget",
                        "switch_p99_budget_ms",
                    ],
                    "variables_added": [],
                    "variables_removed": ["LOG_LEVEL"],
                    "variables_differ": True,
                }
            ]
        }
    )
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
