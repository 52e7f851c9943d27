"""The history as a whole: taking over that of an older system, and looking for what contradicts itself."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from klepaas.domain.record_check import Complaint
from klepaas.domain.settlement import Outcome, Source
from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext
from klepaas.interfaces.api.v1.answers.answer import Answer
from klepaas.interfaces.api.v1.bodies import Body, Text
from klepaas.interfaces.api.v1.parameters import PREFIX, refusals
from klepaas.operations import old_history, past_deployments
from klepaas.operations.old_history import OldRows, Report
from klepaas.operations.old_repository import Line

router = APIRouter(prefix=f"{PREFIX}/history", tags=["history"], route_class=Guarded)

MOST_ROWS = 500


class OldHistory(Body):
    """Rows of one repository, word for word, with all their neighbours in time; several repositories are several
    requests. Without `apply` nothing is written."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "klepaas.db",
                    "deployments": [
                        {
                            "id": 14,
                            "github_owner": "K-Le-PaaS",
                            "github_repo": "test01",
                            "github_commit_sha": "559ec56d0ae598e95dc970b74767f19372d61af8",
                            "status": "running",
                            "created_at": "2025-01-20 10:11:46",
                            "deployed_at": None,
                        }
                    ],
                    "projects": [{"github_owner": "K-Le-PaaS", "github_repo": "test01", "deploy_project_id": "12501"}],
                    "apply": False,
                }
            ]
        }
    )
    source: Annotated[str, Field(min_length=1, max_length=255)]
    """Which database it is, for people; no credentials."""
    deployments: Annotated[list[dict[str, Any]], Field(max_length=MOST_ROWS)]
    """Of `deployment_histories`."""
    projects: Annotated[list[dict[str, Any]], Field(max_length=MOST_ROWS)] = Field(default_factory=list)
    """Of `user_project_integrations`."""
    owner: Text | None = None
    """Whose history it becomes. Unset: the caller's."""
    apply: bool = False


class OldRowAnswer(Answer):
    old_id: str
    id: str
    outcome: Outcome
    settled_by: Source
    reason: str
    twin_of: str | None
    """Id of the one that tells of the same deployment already; this one is kept for its text only."""
    commit_sha: str
    is_rollback: bool
    created_at: datetime | None
    deployed_at: datetime | None
    image_digest: str | None
    findings: list[dict[str, str]]
    """`problem` and `text`."""
    is_new: bool
    is_settled: bool
    """It was unknown here, and is not any more."""

    @classmethod
    def of(cls, line: Line) -> "OldRowAnswer":
        imported = line.imported
        return cls(
            old_id=imported.old_id,
            id=imported.id,
            outcome=imported.outcome,
            settled_by=imported.settled_by,
            reason=imported.reason,
            twin_of=imported.twin_of,
            commit_sha=imported.commit_sha,
            is_rollback=imported.is_rollback,
            created_at=imported.created_at,
            deployed_at=imported.deployed_at,
            image_digest=imported.image_digest,
            findings=[{"problem": each.problem.value, "text": each.text} for each in imported.findings],
            is_new=line.is_new,
            is_settled=line.is_settled,
        )


class ImportAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "rows": [
                        {
                            "old_id": "14",
                            "id": "imp_3b4a59687f0f9d1c",
                            "outcome": "failed",
                            "settled_by": "provider",
                            "reason": "SourceDeploy run 80123, the only one that began around it, ended with 'failed'.",
                            "twin_of": None,
                            "commit_sha": "559ec56d0ae598e95dc970b74767f19372d61af8",
                            "is_rollback": False,
                            "created_at": "2025-01-20T10:11:46Z",
                            "deployed_at": None,
                            "image_digest": None,
                            "findings": [
                                {"problem": "stuck", "text": "It says 'running' since 2025-01-20 10:11 UTC."},
                            ],
                            "is_new": True,
                            "is_settled": False,
                        }
                    ],
                    "refused": [],
                    "projects": {"K-Le-PaaS/test01": ["test01"]},
                    "changed": 1,
                }
            ]
        }
    )
    rows: list[OldRowAnswer]
    refused: list[str]
    """Why rows cannot be imported, one sentence each."""
    projects: dict[str, list[str]]
    """Repository → projects here that show its rows; none: they show once it is registered."""
    changed: int
    """Rows written now."""

    @classmethod
    def of(cls, report: Report) -> "ImportAnswer":
        return cls(
            rows=[OldRowAnswer.of(each) for each in report.lines],
            refused=list(report.refused),
            projects={name: list(names) for name, names in report.projects.items()},
            changed=report.changed,
        )


class ComplaintAnswer(Answer):
    deployment_id: str
    number: int
    repository: str
    problem: str
    """`duplicate`, `contradiction`, `stuck`; of imported ones also `unknown`."""
    text: str
    is_past: bool
    """About how an older system kept its record; nothing can change it any more."""

    @classmethod
    def of(cls, complaint: Complaint) -> "ComplaintAnswer":
        return cls(
            deployment_id=complaint.deployment_id,
            number=complaint.number,
            repository=complaint.repository,
            problem=complaint.problem,
            text=complaint.text,
            is_past=complaint.is_past,
        )


class CheckAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "complaints": [
                        {
                            "deployment_id": "imp_3b4a59687f0f9d1c",
                            "number": -14,
                            "repository": "K-Le-PaaS/test01",
                            "problem": "stuck",
                            "text": "It says 'running' since 2025-01-20 10:11 UTC.",
                            "is_past": True,
                        }
                    ],
                }
            ]
        }
    )
    ok: bool
    """Whether our own record holds together."""
    complaints: list[ComplaintAnswer]


@router.post("/imports", responses=refusals(403, 404, 413))
async def import_rows(body: OldHistory, context: TheContext, actor: CurrentActor) -> ImportAnswer:
    """Take deployments of an older system over. How each ended is asked of Naver Cloud; what nobody knows is
    `unknown`. The same rows again add nothing; unknown ones are asked about once more. For the operator."""
    old = OldRows(source=body.source, deployments=body.deployments, projects=body.projects, owner=body.owner)
    return ImportAnswer.of(await old_history.import_rows(context, actor, old, apply=body.apply))


@router.get("/check", responses=refusals(404))
async def check(
    context: TheContext,
    actor: CurrentActor,
    project: Annotated[str | None, Query(max_length=200, description="Id or name of a project; unset: all.")] = None,
) -> CheckAnswer:
    """What contradicts itself or is there twice: in our own record, and in what was imported."""
    found = await past_deployments.check(context, actor, project)
    return CheckAnswer(ok=all(each.is_past for each in found), complaints=[ComplaintAnswer.of(each) for each in found])
