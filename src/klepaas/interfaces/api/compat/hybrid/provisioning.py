"""Setting a repository up and deploying it: the project, its chain at Naver Cloud, a commit on its way."""

from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter
from pydantic import AfterValidator, ConfigDict

from klepaas.domain.project import Project
from klepaas.domain.repository import parse_branch
from klepaas.errors import Invalid
from klepaas.interfaces.api.compat.hybrid.door import TARGET, Id, Name, NamesRepository, OfOldClients, Sha
from klepaas.interfaces.api.compat.hybrid.words import no_project
from klepaas.interfaces.api.door import CurrentActor, TheContext
from klepaas.interfaces.api.v1.answers.answer import Answer
from klepaas.interfaces.api.v1.bodies import Text
from klepaas.interfaces.api.v1.parameters import PREFIX, IdempotencyKey, refusals
from klepaas.operations import integrations, pipelines, repositories
from klepaas.operations.deployments import DeploymentRequest
from klepaas.operations.integrations import Integration

log = structlog.get_logger()

router = APIRouter(prefix=PREFIX, tags=["older clients"], route_class=OfOldClients)


def _branch(ref: str) -> str:
    if ref.startswith("refs/") and not ref.startswith("refs/heads/"):
        raise ValueError("give a branch, e.g. refs/heads/main")
    try:
        return parse_branch(ref)
    except Invalid as refused:
        raise ValueError(refused.message) from refused


class NewIntegration(NamesRepository):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "owner": "K-Le-PaaS",
                    "repo": "test01",
                    "user_id": "u1",
                    "sc_project_id": "3000001",
                    "sc_repo_name": "K-Le-PaaS-test01",
                    "branch": "main",
                }
            ]
        }
    )
    branch: Text | None = None
    """Unset: that of the project, else `main`."""
    user_id: Id | None = None
    """Written to the log and nothing else: who asks is known by the token."""
    sc_project_id: Id | None = None
    sc_repo_name: Name | None = None
    """The SourceCommit repository to mirror to, decided until the chain is made. Unset: `{owner}-{repo}`. Both mean
    nothing to a project that is not at Naver Cloud."""


class IntegrationAnswer(Answer):
    """A project as the view `user_project_integrations` has it. `user_id` is the name of its owner here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 7,
                    "user_id": "team",
                    "owner": "K-Le-PaaS",
                    "repo": "test01",
                    "branch": "main",
                    "sc_project_id": "3000001",
                    "sc_repo_name": "K-Le-PaaS-test01",
                    "build_project_id": "20701",
                    "deploy_project_id": "12501",
                    "pipeline_id": "2101",
                    "auto_deploy_enabled": False,
                    "created_at": "2026-01-05T09:00:00Z",
                    "updated_at": "2026-01-05T09:00:00Z",
                    "project_id": "prj_0f9d1c2b3a495867",
                    "target": "ncp",
                }
            ]
        }
    )
    id: int
    user_id: str
    owner: str
    repo: str
    branch: str
    sc_project_id: str | None
    sc_repo_name: str | None
    build_project_id: str | None
    deploy_project_id: str | None
    pipeline_id: str | None
    auto_deploy_enabled: bool
    created_at: datetime
    updated_at: datetime
    project_id: str
    target: str

    @classmethod
    def of(cls, project: Project, user_id: str) -> "IntegrationAnswer":
        owner, repo = repositories.spelled(project)
        return cls(
            id=project.number,
            user_id=user_id,
            owner=owner,
            repo=repo,
            branch=project.branch,
            sc_project_id=project.sc_project_id,
            sc_repo_name=project.sc_repo_name,
            build_project_id=project.build_project_id,
            deploy_project_id=project.deploy_project_id,
            pipeline_id=project.pipeline_id,
            auto_deploy_enabled=project.auto_deploy,
            created_at=project.created_at,
            updated_at=project.updated_at,
            project_id=project.id,
            target=project.target,
        )


class NewCommit(NamesRepository):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "owner": "K-Le-PaaS",
                    "repo": "test01",
                    "github_ref": "refs/heads/main",
                    "github_sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
                }
            ]
        }
    )
    github_ref: Annotated[Text, AfterValidator(_branch)] | None = None
    """Unset: the branch of the project."""
    github_sha: Sha | None = None
    """Unset: the head of the branch when it is fetched."""
    user_id: Id | None = None
    """Not read."""


class StartedDeployment(Answer):
    """It was accepted and nothing more: how it ends is in `deployment_histories`, under `deploy_history_id`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "started",
                    "owner": "K-Le-PaaS",
                    "repo": "test01",
                    "commit_sha": "9fceb02d0ae598e95dc970b74767f19372d61af8",
                    "environment": "production",
                    "deployment_id": "dep_7c1e2d3b4a596877",
                    "deploy_history_id": 12,
                    "message": "Deployment of 9fceb02 started for K-Le-PaaS/test01",
                    "pipeline_id": "2101",
                }
            ]
        }
    )
    status: str = "started"
    owner: str
    repo: str
    commit_sha: str | None
    """In full; null until it is fetched, when the head of a branch or the first digits of a commit were asked for."""
    environment: str
    deployment_id: str
    deploy_history_id: int
    message: str
    pipeline_id: str | None


class NewPipeline(NamesRepository):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"owner": "K-Le-PaaS", "repo": "test-01", "branch": "main", "user_id": "user123"}]
        }
    )
    branch: Text | None = None
    """Unset: that of the project, else `main`."""
    user_id: Id | None = None
    """Written to the log and nothing else: who asks is known by the token."""
    sc_project_id: Id | None = None
    """Known from the provider; not read."""
    sc_repo_name: Name | None = None
    """The SourceCommit repository to mirror to. Unset: `{owner}-{repo}`."""


class CreatedPipeline(Answer):
    """The ids are the same each time; `changes` says in sentences what this call made, adopted or repaired."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "created",
                    "build_project_id": "20701",
                    "deploy_project_id": "12501",
                    "pipeline_id": "2101",
                    "image_repo": "acme.kr.ncr.ntruss.com/k-le-paas-test-01",
                    "message": "Full CI/CD pipeline created for K-Le-PaaS/test-01",
                    "project_id": "prj_0f9d1c2b3a495867",
                    "changes": ["Made the SourceCommit repository K-Le-PaaS-test-01 (632001)."],
                }
            ]
        }
    )
    status: str = "created"
    build_project_id: str
    deploy_project_id: str
    pipeline_id: str
    image_repo: str
    message: str
    project_id: str
    changes: list[str]


@router.post("/projects/integrations", responses=refusals(403, 409, 413, 502))
async def integrate(body: NewIntegration, context: TheContext, actor: CurrentActor) -> IntegrationAnswer:
    """Make a repository a project at Naver Cloud, or change the project it is already: another branch, another mirror
    while it has none. A project of another target stays one."""
    log.info("integration_asked_for", owner=body.owner, repo=body.repo, user_id=body.user_id)
    wanted = Integration(
        target=TARGET, name=body.repository, branch=body.branch, mirror=body.sc_repo_name, place=body.sc_project_id
    )
    project = await integrations.integrate(context, actor, wanted)
    return IntegrationAnswer.of(project, await integrations.owner_of(context, project))


@router.post("/deployments/ncp-pipeline", responses=refusals(400, 403, 404, 409, 413, 502))
async def deploy(
    body: NewCommit, context: TheContext, actor: CurrentActor, idempotency_key: IdempotencyKey = None
) -> StartedDeployment:
    """Deploy a commit, to the project's own environment. What its chain at Naver Cloud lacks is made before; a project
    of another target has none and is deployed where it is."""
    project = await integrations.find_to_deploy(context, actor, body.repository, target=TARGET)
    if project is None:
        raise no_project(body.owner, body.repo)
    request = DeploymentRequest(
        project=project.id, branch=body.github_ref, commit=body.github_sha, request_key=idempotency_key
    )
    accepted = await integrations.deploy(context, actor, project, request)
    made, (owner, repo) = accepted.submission.deployment, repositories.spelled(accepted.project)
    what = body.github_sha[:7].lower() if body.github_sha else f"the head of {made.branch}"
    return StartedDeployment(
        owner=owner,
        repo=repo,
        commit_sha=made.commit_sha,
        environment=made.environment,
        deployment_id=made.id,
        deploy_history_id=made.number,
        message=f"Deployment of {what} started for {owner}/{repo}",
        pipeline_id=accepted.project.pipeline_id,
    )


@router.post("/ncp/pipeline/create", responses=refusals(403, 409, 413, 502))
async def create_pipeline(body: NewPipeline, context: TheContext, actor: CurrentActor) -> CreatedPipeline:
    """Have the whole chain at Naver Cloud for a repository: mirror, build, deployment, pipeline. A repository that is
    no project yet becomes one. The same call again changes nothing, or repairs what drifted."""
    log.info("pipeline_asked_for", owner=body.owner, repo=body.repo, user_id=body.user_id)
    wanted = pipelines.Wanted(
        target=TARGET, owner=body.owner, repo=body.repo, branch=body.branch, mirror=body.sc_repo_name
    )
    standing = await pipelines.ensure_for_repository(context, actor, wanted)
    return CreatedPipeline(
        build_project_id=str(standing.ids.build_project_id),
        deploy_project_id=str(standing.ids.deploy_project_id),
        pipeline_id=str(standing.ids.pipeline_id),
        image_repo=standing.ids.image_repo,
        message=f"Full CI/CD pipeline created for {standing.project.repository.display}",
        project_id=standing.project.id,
        changes=list(standing.changes),
    )
