"""What callers get. Each answer is made from one noun of the domain and holds no secret by construction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from klepaas.domain.connection import Connection, ConnectionKind
from klepaas.domain.deployment import Deployment, Failure
from klepaas.domain.events import Recorded
from klepaas.domain.imported import Imported
from klepaas.domain.observation import Health
from klepaas.domain.project import Project
from klepaas.domain.release import Release
from klepaas.domain.settlement import Outcome, Source
from klepaas.domain.status import Stage, Status
from klepaas.operations.ports.access import Token
from klepaas.operations.ports.apps import WatchedChange
from klepaas.operations.ports.build_logs import LogLine
from klepaas.operations.ports.deployments import Submission
from klepaas.operations.queries import AppStatus
from klepaas.operations.rollbacks import Candidate, RollbackPlan, Way

_SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"
_DIGEST = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProjectName(Answer):
    id: str
    name: str


class ProjectAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "prj_0f9d1c2b3a495867",
                    "number": 1,
                    "name": "shop",
                    "repository": "octo-org/shop",
                    "branch": "main",
                    "environment": "production",
                    "target": "local",
                    "settings": {"port": None, "health_path": "/"},
                    "auto_deploy": False,
                    "rules": {"pushes": "merges", "paths": [], "releases": True},
                    "connection_id": None,
                    "github_repository_id": None,
                    "owner_id": "own_5e6f708192a3b4c5",
                    "created_at": "2026-01-05T09:00:00Z",
                    "updated_at": "2026-01-05T09:00:00Z",
                }
            ]
        }
    )
    id: str
    number: int
    name: str
    repository: str
    branch: str
    environment: str
    target: str
    settings: dict[str, Any]
    auto_deploy: bool
    rules: dict[str, Any]
    """When pushes and releases deploy it, while `auto_deploy` is on."""
    connection_id: str | None
    github_repository_id: int | None
    """GitHub's own number of the repository, once it was learnt."""
    owner_id: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, project: Project) -> "ProjectAnswer":
        return cls(
            id=project.id,
            number=project.number,
            name=project.name,
            repository=project.repository.display,
            branch=project.branch,
            environment=project.environment,
            target=project.target,
            settings=project.settings.model_dump(mode="json"),
            auto_deploy=project.auto_deploy,
            rules=project.rules.model_dump(mode="json"),
            connection_id=project.connection_id,
            github_repository_id=project.github_repository_id,
            owner_id=project.owner_id,
            created_at=project.created_at,
            updated_at=project.updated_at,
        )


class ProjectList(Answer):
    projects: list[ProjectAnswer]


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


class DeploymentAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "dep_7c1e2d3b4a596877",
                    "number": 12,
                    "project": {"id": "prj_0f9d1c2b3a495867", "name": "shop"},
                    "environment": "production",
                    "status": "succeeded",
                    "stage": "retire",
                    "branch": "main",
                    "commit_sha": _SHA,
                    "commit_message": "Show prices with tax",
                    "commit_author": "Kim Ha-neul",
                    "trigger": "manual",
                    "actor": "token laptop",
                    "pull_request": None,
                    "delivery_id": None,
                    "is_rollback": False,
                    "rollback_of": None,
                    "release_id": "rel_8899aabbccddeeff",
                    "image_digest": _DIGEST,
                    "image_ref": "klepaas/shop:9fceb02",
                    "created_at": "2026-01-05T09:00:00Z",
                    "started_at": "2026-01-05T09:00:00.012Z",
                    "live_at": "2026-01-05T09:00:07.4Z",
                    "finished_at": "2026-01-05T09:00:17.9Z",
                    "duration_s": 17.888,
                    "stages": [
                        {
                            "stage": "fetch",
                            "started_at": "2026-01-05T09:00:00.02Z",
                            "finished_at": "2026-01-05T09:00:00.61Z",
                            "took_s": 0.59,
                            "detail": "",
                        }
                    ],
                    "failure": None,
                    "superseded_by": None,
                    "cancelled_by": None,
                    "evidence": {"answer": {"status": 200}},
                    "urls": ["http://127.0.0.1:20000"],
                    "note": "",
                    "imported": None,
                }
            ]
        }
    )
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
    deployments: list[DeploymentAnswer]
    """Our own, then those that an older system made before."""
    next_before: int | None
    """Give it as `before` to read on; null at the end."""


class SubmissionAnswer(Answer):
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


class ReleaseAnswer(Answer):
    id: str
    number: int
    deployment_id: str
    commit_sha: str
    image_digest: str
    image_ref: str
    container_port: int
    variable_names: list[str]
    settings: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, release: Release) -> "ReleaseAnswer":
        return cls(
            id=release.id,
            number=release.number,
            deployment_id=release.deployment_id,
            commit_sha=release.commit_sha,
            image_digest=release.image_digest,
            image_ref=release.image_ref,
            container_port=release.container_port,
            variable_names=list(release.variable_names),
            settings=release.settings.model_dump(mode="json"),
            created_at=release.created_at,
        )


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


class VariableName(Answer):
    name: str
    updated_at: datetime


class VariableNames(Answer):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"variables": [{"name": "LOG_LEVEL", "updated_at": "2026-01-05T09:00:00Z"}]}]}
    )
    variables: list[VariableName]

    @classmethod
    def of(cls, names: Mapping[str, datetime]) -> "VariableNames":
        return cls(variables=[VariableName(name=name, updated_at=names[name]) for name in sorted(names)])


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


class EventPage(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "seq": 3,
                            "at": "2026-01-05T09:00:00.02Z",
                            "kind": "stage.started",
                            "stage": "fetch",
                            "fence": 1,
                        }
                    ],
                    "next_after": 3,
                }
            ]
        }
    )
    events: list[dict[str, Any]]
    """`seq`, `at`, `kind` and the fields of that kind."""
    next_after: int
    """Give it as `after` to read on."""


class LogLineAnswer(Answer):
    position: str
    """Opaque; give it as `after` to read on right behind this line."""
    at: datetime | None
    text: str

    @classmethod
    def of(cls, line: LogLine) -> "LogLineAnswer":
        return cls(position=line.position, at=line.at, text=line.text)


class LogPage(Answer):
    lines: list[LogLineAnswer]
    next_after: str | None

    @classmethod
    def of(cls, lines: Sequence[LogLine], after: str | None) -> "LogPage":
        return cls(lines=[LogLineAnswer.of(line) for line in lines], next_after=lines[-1].position if lines else after)


class RuntimeLog(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"lines": ["listening on :8080", "GET / 200"]}]})
    lines: list[str]


class TokenAnswer(Answer):
    id: str
    owner_id: str
    name: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, token: Token) -> "TokenAnswer":
        return cls(**asdict(token))


class NewTokenAnswer(TokenAnswer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0011223344556677",
                    "owner_id": "own_5e6f708192a3b4c5",
                    "name": "ci of the shop",
                    "scope": "deploy",
                    "created_at": "2026-01-05T09:00:00Z",
                    "expires_at": "2026-04-05T09:00:00Z",
                    "revoked_at": None,
                    "token": "klp_0011223344556677_…",
                }
            ]
        }
    )
    token: str
    """The only time it is shown."""


class TokenList(Answer):
    tokens: list[TokenAnswer]


class ConnectionAnswer(Answer):
    """Everything about a credential but the credential."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "con_8a9b0c1d2e3f4051",
                    "owner_id": "own_5e6f708192a3b4c5",
                    "kind": "git_basic",
                    "name": "forge",
                    "host": "git.example.org",
                    "installation_id": None,
                    "account": None,
                    "created_at": "2026-01-05T09:00:00Z",
                },
                {
                    "id": "gh_5f60718293a4b5c6",
                    "owner_id": "own_5e6f708192a3b4c5",
                    "kind": "github_token",
                    "name": "dana",
                    "host": "github.com",
                    "installation_id": None,
                    "account": "dana-kim",
                    "created_at": "2026-01-05T09:00:00Z",
                },
            ]
        }
    )
    id: str
    owner_id: str
    kind: ConnectionKind
    name: str
    host: str | None
    """The only server that may be told it; null: that of any project it is given to."""
    installation_id: str | None
    account: str | None
    """Who GitHub says it is; said when it was just added."""
    created_at: datetime

    @classmethod
    def of(cls, connection: Connection, account: str | None = None) -> "ConnectionAnswer":
        return cls(**asdict(connection), account=account)


class ConnectionList(Answer):
    connections: list[ConnectionAnswer]


class VerificationAnswer(Answer):
    """The server accepts the credential; when it does not, the answer is an error that says what it said."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"account": None, "branch": "main", "commit_sha": _SHA},
                {"account": "dana-kim", "branch": None, "commit_sha": None},
            ]
        }
    )
    account: str | None
    """Who GitHub says it is; null for other servers."""
    branch: str | None
    commit_sha: str | None
    """At the head of the branch; null when no repository was asked for."""


class RemovedConnectionAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "con_8a9b0c1d2e3f4051",
                    "name": "forge",
                    "projects": [{"id": "prj_0f9d1c2b3a495867", "name": "shop"}],
                }
            ]
        }
    )
    id: str
    name: str
    projects: list[ProjectName]
    """Those that used it; they have no connection now."""

    @classmethod
    def of(cls, connection: Connection, projects: Sequence[Project]) -> "RemovedConnectionAnswer":
        left = [ProjectName(id=project.id, name=project.name) for project in projects]
        return cls(id=connection.id, name=connection.name, projects=left)


def event_fields(recorded: Recorded) -> dict[str, Any]:
    """An event as it is listed and streamed: its place, its time, its kind and its own fields."""
    return {"seq": recorded.seq, "at": recorded.at, "kind": recorded.event.kind, **recorded.event.data()}
