"""Deployments, as callers get them."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from klepaas.domain.deployment import Deployment, Failure
from klepaas.domain.imported import Imported
from klepaas.domain.project import Project
from klepaas.domain.settlement import Outcome, Source
from klepaas.domain.status import Stage, Status
from klepaas.interfaces.api.v1.answers.answer import EXAMPLE_DIGEST, EXAMPLE_SHA, Answer
from klepaas.interfaces.api.v1.answers.projects import ProjectName
from klepaas.operations.ports.deployments import Submission


class StageAnswer(Answer):
    stage: Stage
    started_at: datetime
    finished_at: datetime | None
    took_s: float | None
    detail: str


class FailureAnswer(Answer):
    stage: str
    code: str
    message: str
    hint: str
    evidence: dict[str, Any]

    @classmethod
    def of(cls, failure: Failure) -> "FailureAnswer":
        return cls(
            stage=failure.stage,
            code=failure.code,
            message=failure.message,
            hint=failure.hint,
            evidence=failure.evidence,
        )


class ImportedAnswer(Answer):
    """What is known of a deployment that an older system made."""

    old_id: str
    source: str
    """Which database it came from."""
    settled_by: Source
    """`provider`: Naver Cloud's own history says how it ended; `record`: the older system wrote it down without
    contradicting itself; `nobody`: unknown, and no end until an import of the same database learns more."""
    reason: str
    findings: list[str]
    """What was wrong with its row."""
    originals: list[dict[str, Any]]
    """The row word for word; the newest last when it had changed between two imports."""
    imported_at: datetime

    @classmethod
    def of(cls, imported: Imported) -> "ImportedAnswer":
        return cls(
            old_id=imported.old_id,
            source=imported.source,
            settled_by=imported.settled_by,
            reason=imported.reason,
            findings=[each.text for each in imported.findings],
            originals=[dict(each) for each in imported.originals],
            imported_at=imported.imported_at,
        )


_ENDED: dict[str, Any] = {
    "id": "dep_7c1e2d3b4a596877",
    "number": 12,
    "project": {"id": "prj_0f9d1c2b3a495867", "name": "shop"},
    "environment": "production",
    "status": "succeeded",
    "stage": "retire",
    "branch": "main",
    "commit_sha": EXAMPLE_SHA,
    "commit_message": "Show prices with tax",
    "commit_author": "Kim Ha-neul",
    "trigger": "manual",
    "actor": "token laptop",
    "pull_request": None,
    "delivery_id": None,
    "is_rollback": False,
    "rollback_of": None,
    "release_id": "rel_8899aabbccddeeff",
    "image_digest": EXAMPLE_DIGEST,
    "image_ref": f"klepaas/shop-production:{EXAMPLE_SHA}",
    "created_at": "2026-01-05T09:00:00Z",
    "started_at": "2026-01-05T09:00:00.012000Z",
    "live_at": "2026-01-05T09:00:07.400000Z",
    "finished_at": "2026-01-05T09:00:17.900000Z",
    "duration_s": 17.888,
    "stages": [
        {
            "stage": "fetch",
            "started_at": "2026-01-05T09:00:00.020000Z",
            "finished_at": "2026-01-05T09:00:00.610000Z",
            "took_s": 0.59,
            "detail": "",
        }
    ],
    "failure": None,
    "superseded_by": None,
    "cancelled_by": None,
    "evidence": {
        "answer": {
            "at": "2026-01-05T09:00:07.390000Z",
            "took_ms": 2.1,
            "url": "http://127.0.0.1:20000/",
            "status": 200,
            "release_id": "rel_8899aabbccddeeff",
            "upstream": "127.0.0.1:32768",
            "detail": "",
        },
        "certificate": {
            "requests": 412,
            "failed": 0,
            "p99_ms": 3.8,
            "switched_at": "2026-01-05T09:00:07.380000Z",
            "began_at": "2026-01-05T09:00:06.900000Z",
            "ended_at": "2026-01-05T09:00:08.900000Z",
            "failures": [],
        },
    },
    "urls": ["http://127.0.0.1:20000"],
    "note": "",
    "imported": None,
}
_QUEUED: dict[str, Any] = {
    **_ENDED,
    "id": "dep_8d2f3e4c5b6a7988",
    "number": 13,
    "status": "queued",
    **dict.fromkeys(("stage", "commit_sha", "release_id", "image_digest", "image_ref")),
    **dict.fromkeys(("started_at", "live_at", "finished_at", "duration_s")),
    "commit_message": "",
    "commit_author": "",
    "stages": [],
    "evidence": {},
    "urls": [],
}


class DeploymentAnswer(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [_ENDED, _QUEUED]})
    id: str
    number: int
    project: ProjectName
    environment: str
    status: Status
    stage: Stage | None
    """The stage being worked on, or the last one reached."""
    branch: str
    commit_sha: str | None
    commit_message: str
    commit_author: str
    trigger: str
    """What led to it: `manual`, `push`, `merge`, `release`, or `branch watch` for a push no webhook told of."""
    actor: str
    pull_request: int | None
    """The number of the merged pull request, when it is known to have led to it."""
    delivery_id: str | None
    """`X-GitHub-Delivery` of the webhook that led to it."""
    is_rollback: bool
    rollback_of: str | None
    release_id: str | None
    image_digest: str | None
    image_ref: str | None
    created_at: datetime | None
    """Null only where an older system did not say it."""
    started_at: datetime | None
    live_at: datetime | None
    """When the new release was first seen answering through the front door."""
    finished_at: datetime | None
    duration_s: float | None
    """From `started_at` to `finished_at`."""
    stages: list[StageAnswer]
    failure: FailureAnswer | None
    superseded_by: str | None
    cancelled_by: str | None
    evidence: dict[str, Any]
    urls: list[str]
    note: str
    imported: ImportedAnswer | None = None
    """Of a deployment that an older system made: its number is below zero and nothing works on it, whatever its
    status."""

    @classmethod
    def of_past(cls, imported: Imported, project: Project) -> "DeploymentAnswer":
        began, ended = imported.started_at, imported.completed_at
        return cls(
            id=imported.id,
            number=imported.number,
            project=ProjectName(id=project.id, name=project.name),
            environment=imported.environment or "",
            status=Status(imported.outcome.value),
            stage=None,
            branch="",
            commit_sha=imported.commit_sha or None,
            commit_message=imported.commit_message,
            commit_author="",
            trigger="older system",
            actor=imported.source,
            pull_request=None,
            delivery_id=None,
            is_rollback=imported.is_rollback,
            rollback_of=imported.rollback_from,
            release_id=None,
            image_digest=imported.image_digest,
            image_ref=imported.image_ref,
            created_at=imported.created_at,
            started_at=began,
            live_at=imported.deployed_at,
            finished_at=ended,
            duration_s=round((ended - began).total_seconds(), 3) if began and ended else None,
            stages=[],
            failure=_past_failure(imported),
            superseded_by=None,
            cancelled_by=None,
            evidence=dict(imported.evidence),
            urls=[],
            note=imported.reason,
            imported=ImportedAnswer.of(imported),
        )

    @classmethod
    def of(cls, deployment: Deployment, project: Project) -> "DeploymentAnswer":
        began, ended = deployment.started_at, deployment.finished_at
        return cls(
            id=deployment.id,
            number=deployment.number,
            project=ProjectName(id=project.id, name=project.name),
            environment=deployment.environment,
            status=deployment.status,
            stage=deployment.stage,
            branch=deployment.branch,
            commit_sha=deployment.commit_sha,
            commit_message=deployment.commit_message,
            commit_author=deployment.commit_author,
            trigger=deployment.trigger,
            actor=deployment.actor,
            pull_request=deployment.pull_request,
            delivery_id=deployment.delivery_id,
            is_rollback=deployment.is_rollback,
            rollback_of=deployment.rollback_of,
            release_id=deployment.release_id,
            image_digest=deployment.image_digest,
            image_ref=deployment.image_ref,
            created_at=deployment.created_at,
            started_at=began,
            live_at=deployment.live_at,
            finished_at=ended,
            duration_s=round((ended - began).total_seconds(), 3) if began and ended else None,
            stages=[StageAnswer(**asdict(each)) for each in deployment.stages],
            failure=FailureAnswer.of(deployment.failure) if deployment.failure else None,
            superseded_by=deployment.superseded_by,
            cancelled_by=deployment.cancelled_by,
            evidence=deployment.evidence,
            urls=list(deployment.urls),
            note=deployment.note,
        )


def _past_failure(imported: Imported) -> FailureAnswer | None:
    if imported.outcome is not Outcome.FAILED:
        return None
    message = imported.error_message or imported.reason
    return FailureAnswer(stage="", code="failed_in_older_system", message=message, hint="", evidence={})


class DeploymentList(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"deployments": [_QUEUED, _ENDED], "next_before": None}]})
    deployments: list[DeploymentAnswer]
    """Our own, then those that an older system made before."""
    next_before: int | None
    """Give it as `before` to read on; null at the end."""


class SubmissionAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"deployment": _QUEUED, "is_new": True, "superseded": []}]}
    )
    deployment: DeploymentAnswer
    is_new: bool
    """False when the same request had been accepted before."""
    superseded: list[str]
    """Ids of the queued deployments this one replaces."""

    @classmethod
    def of(cls, submission: Submission, project: Project) -> "SubmissionAnswer":
        return cls(
            deployment=DeploymentAnswer.of(submission.deployment, project),
            is_new=submission.is_new,
            superseded=list(submission.superseded),
        )


class EvidenceAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "evidence": _ENDED["evidence"],
                    "certificate": _ENDED["evidence"]["certificate"],
                    "failure": None,
                },
                {
                    "evidence": {},
                    "certificate": None,
                    "failure": {
                        "stage": "verify",
                        "code": "not_healthy",
                        "message": "The new release did not become healthy within 60 s: connection refused.",
                        "hint": "",
                        "evidence": {"last_lines": ["listening on 127.0.0.1:3000"]},
                    },
                },
            ]
        }
    )
    evidence: dict[str, Any]
    certificate: dict[str, Any] | None
    """What a bounded prober saw around the switch."""
    failure: FailureAnswer | None

    @classmethod
    def of(cls, deployment: Deployment) -> "EvidenceAnswer":
        return cls(
            evidence=deployment.evidence,
            certificate=deployment.evidence.get("certificate"),
            failure=FailureAnswer.of(deployment.failure) if deployment.failure else None,
        )
