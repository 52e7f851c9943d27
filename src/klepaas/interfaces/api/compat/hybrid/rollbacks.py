"""Going back to an earlier commit: what there is, whether it would work, and doing it."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict

from klepaas.domain.deployment import Deployment
from klepaas.domain.github import RepositoryName
from klepaas.domain.project import Project
from klepaas.domain.status import Status
from klepaas.interfaces.api.compat.hybrid import words
from klepaas.interfaces.api.compat.hybrid.door import TARGET, Id, NamesRepository, OfOldClients, Sha
from klepaas.interfaces.api.door import CurrentActor, TheContext
from klepaas.interfaces.api.v1.answers.answer import Answer
from klepaas.interfaces.api.v1.parameters import PREFIX, IdempotencyKey, refusals
from klepaas.operations import deployments, readiness, repositories, rollbacks
from klepaas.operations.readiness import Diagnosis, Earlier, Readiness
from klepaas.operations.rollbacks import RollbackRequest, Way

log = structlog.get_logger()

LONGEST_WAIT_S = 600

router = APIRouter(prefix=f"{PREFIX}/rollback", tags=["older clients"], route_class=OfOldClients)

Owner = Annotated[str, Path(min_length=1, max_length=100, examples=["K-Le-PaaS"])]
Repo = Annotated[str, Path(min_length=1, max_length=100, examples=["test01"])]
UserId = Annotated[
    str | None, Query(max_length=80, description="Not read: who asks is known by the token.", examples=["nlp_user"])
]
Count = Annotated[int, Query(ge=1, le=50, description="At most this many.", examples=[10])]
WaitSeconds = Annotated[
    float,
    Query(
        ge=0,
        le=LONGEST_WAIT_S,
        allow_inf_nan=False,
        description="Wait that long for the end, to be told `success` or `failed` instead of `started`.",
        examples=[120],
    ),
]


class CommitToGoBackTo(NamesRepository):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"owner": "K-Le-PaaS", "repo": "test01", "target_commit_sha": "9fceb02"}]}
    )
    target_commit_sha: Sha
    """Its first digits are enough where they are no other commit's."""
    user_id: Id | None = None
    """Written to the log and nothing else."""


class RollbackAnswer(Answer):
    """`message` is the older service's and the same in every case; `status` tells: `started` when it was accepted,
    `success` and `failed` once that was seen within `wait_s`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "started",
                    "action": "rollback_to_commit",
                    "message": "커밋 9fceb02로 롤백했습니다.",
                    "result": {
                        "owner": "K-Le-PaaS",
                        "repo": "test01",
                        "commit_sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
                        "environment": "production",
                        "deployment_id": "dep_7c1e2d3b4a596877",
                        "deploy_history_id": 13,
                        "is_rollback": True,
                        "rebuild": False,
                        "error_message": None,
                    },
                    "deploy_history_id": 13,
                    "warnings": [],
                }
            ]
        }
    )
    status: str
    action: str = "rollback_to_commit"
    message: str
    result: dict[str, Any]
    deploy_history_id: int
    """In `deployment_histories`."""
    warnings: list[str]

    @classmethod
    def of(cls, made: Deployment, project: Project, asked: str) -> "RollbackAnswer":
        owner, repo = repositories.spelled(project)
        commit = made.commit_sha or asked.lower()
        return cls(
            status=_word(made),
            message=f"커밋 {commit[:7]}로 롤백했습니다.",
            result={
                "owner": owner,
                "repo": repo,
                "commit_sha": commit,
                "environment": made.environment,
                "deployment_id": made.id,
                "deploy_history_id": made.number,
                "is_rollback": True,
                "rebuild": made.rebuild,
                "error_message": made.failure.message if made.failure is not None else None,
            },
            deploy_history_id=made.number,
            warnings=[words.rebuild_warning(commit, is_in_registry=project.target == TARGET)] if made.rebuild else [],
        )


class CandidateOfOld(Answer):
    """`steps_back` counts from what is live: below zero are deployments after it; null for one that is too old."""

    steps_back: int | None
    commit_sha: str
    commit_sha_short: str
    deployed_at: datetime | None
    deployed_by: str | None
    image: str
    can_rollback: bool
    """Its image is there, or its commit can be built again. What is live already is not deployed again."""
    is_current: bool
    deployment_reason: str | None
    deploy_history_id: int

    @classmethod
    def of(cls, found: Earlier) -> "CandidateOfOld":
        commit = found.release.commit_sha
        return cls(
            steps_back=found.steps_back,
            commit_sha=commit,
            commit_sha_short=commit[:7],
            deployed_at=found.deployment.deployed_at,
            deployed_by=found.deployment.actor,
            image=found.release.image_ref,
            can_rollback=found.way in {Way.WARM, Way.IMAGE, Way.REBUILD},
            is_current=found.is_current,
            deployment_reason=found.deployment.note or None,
            deploy_history_id=found.deployment.number,
        )


class CandidatesOfOld(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "owner": "K-Le-PaaS",
                    "repo": "test01",
                    "total_candidates": 1,
                    "candidates": [
                        {
                            "steps_back": 0,
                            "commit_sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
                            "commit_sha_short": "9fceb02",
                            "deployed_at": "2026-01-05T09:00:00Z",
                            "deployed_by": "token laptop",
                            "image": "acme.kr.ncr.ntruss.com/k-le-paas-test01:9fceb02d0ae598e95dc970b74767f19372d61af8",
                            "can_rollback": True,
                            "is_current": True,
                            "deployment_reason": None,
                            "deploy_history_id": 12,
                        }
                    ],
                }
            ]
        }
    )
    owner: str
    repo: str
    total_candidates: int
    """All there are, also those beyond `limit`."""
    candidates: list[CandidateOfOld]
    """Successful deployments that are no rollbacks, newest first."""


class DiagnosisAnswer(Answer):
    """`ready` is true exactly when `issues` is empty; warnings do not change it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ready": True,
                    "owner": "K-Le-PaaS",
                    "repo": "test01",
                    "issues": [],
                    "warnings": ["Latest deployment image not found in NCR (HTTP 404). Rollback will trigger rebuild."],
                    "deployment_count": 5,
                    "latest_deployment": {
                        "commit_sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
                        "deployed_at": "2025-10-19T12:00:00Z",
                    },
                    "failed_attempts": 0,
                }
            ]
        }
    )
    ready: bool
    owner: str
    repo: str
    issues: list[str]
    warnings: list[str]
    deployment_count: int | None
    """Successful deployments that are no rollbacks; null when there are none."""
    latest_deployment: dict[str, Any] | None
    failed_attempts: int
    """Deployments that failed: they are no history one could go back in."""

    @classmethod
    def of(cls, found: Diagnosis, owner: str, repo: str) -> "DiagnosisAnswer":
        latest, project = found.latest, found.readiness.project
        warning = (
            words.image_warning(found.image, is_in_registry=project.target == TARGET)
            if found.image is not None and project is not None
            else None
        )
        return cls(
            ready=not found.readiness.missing,
            owner=owner,
            repo=repo,
            issues=[words.ISSUES[each] for each in found.readiness.missing],
            warnings=[warning] if warning is not None else [],
            deployment_count=found.readiness.succeeded or None,
            latest_deployment=None
            if latest is None
            else {"commit_sha": latest.commit_sha, "deployed_at": latest.deployed_at},
            failed_attempts=found.readiness.failed,
        )


@router.post("/commit", responses=refusals(400, 403, 404, 409, 413, 502))
async def roll_back(
    body: CommitToGoBackTo,
    context: TheContext,
    actor: CurrentActor,
    wait_s: WaitSeconds = 0,
    idempotency_key: IdempotencyKey = None,
) -> RollbackAnswer:
    """Deploy the release of a commit again, by its image; when the registry says that it is gone, built again. What
    cannot work is refused before anything is touched."""
    log.info("rollback_asked_for", owner=body.owner, repo=body.repo, user_id=body.user_id)
    found = await readiness.for_rollback(context, actor, body.repository, target=TARGET)
    owner, repo = _spelled(found, body.owner, body.repo)
    if found.project is None or found.missing:
        raise words.refusal(found, owner, repo)
    request = RollbackRequest(project=found.project.id, commit=body.target_commit_sha, request_key=idempotency_key)
    made = (await rollbacks.roll_back(context, actor, request)).submission.deployment
    if wait_s:
        made = await deployments.ended_within(context, made, timedelta(seconds=wait_s))
    return RollbackAnswer.of(made, found.project, body.target_commit_sha)


@router.get("/candidates/{owner}/{repo}", responses=refusals(404, 409))
async def candidates(
    owner: Owner, repo: Repo, context: TheContext, actor: CurrentActor, limit: Count = 10, user_id: UserId = None
) -> CandidatesOfOld:
    """Deployments one can go back to, newest first, in the project's own environment."""
    found = await readiness.look(context, actor, RepositoryName(owner=owner, name=repo), target=TARGET)
    if found.project is None:
        raise words.no_project(owner, repo)
    owner, repo = _spelled(found, owner, repo)
    shown = await readiness.earlier(context, found.project, limit)
    return CandidatesOfOld(
        owner=owner, repo=repo, total_candidates=found.succeeded, candidates=[CandidateOfOld.of(each) for each in shown]
    )


@router.get("/diagnose/{owner}/{repo}", responses=refusals(409))
async def diagnose(
    owner: Owner, repo: Repo, context: TheContext, actor: CurrentActor, user_id: UserId = None
) -> DiagnosisAnswer:
    """Whether a rollback would work, with everything that is missing at once. A repository that is no project (of the
    caller's) is not ready either, and no error."""
    found = await readiness.diagnose(context, actor, RepositoryName(owner=owner, name=repo), target=TARGET)
    return DiagnosisAnswer.of(found, *_spelled(found.readiness, owner, repo))


def _spelled(found: Readiness, owner: str, repo: str) -> tuple[str, str]:
    return repositories.spelled(found.project) if found.project is not None else (owner, repo)


def _word(made: Deployment) -> str:
    if not made.status.is_terminal:
        return "started"
    return "success" if made.status is Status.SUCCEEDED else "failed"
