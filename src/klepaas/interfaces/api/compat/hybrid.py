"""For clients of the older service on Naver Cloud: its paths, its fields, its errors (`{"detail": …}`).

It can go when nothing asks for these paths any more; `http_requests` of `/metrics` tells."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from klepaas.errors import KlepaasError, Outside
from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext
from klepaas.interfaces.api.errors import error_response, invalid_from
from klepaas.interfaces.api.v1.answers import Answer
from klepaas.interfaces.api.v1.bodies import Storable, Text
from klepaas.interfaces.api.v1.parameters import PREFIX, refusals
from klepaas.operations import pipelines

log = structlog.get_logger()

TARGET = "ncp"


class OfOldClients(Guarded):
    """A route whose errors say `detail`, as they always did, and beside it everything that ours say."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError as error:
                # Without what stood there: it may have been meant for another field.
                problems = [{k: v for k, v in each.items() if k in {"type", "loc", "msg"}} for each in error.errors()]
                return _with_detail(request, invalid_from(error.errors()), jsonable_encoder(problems))
            except KlepaasError as error:
                return _with_detail(request, error, error.message)

        return told


router = APIRouter(prefix=PREFIX, tags=["older clients"], route_class=OfOldClients)

Id = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value), Field(max_length=80)
]
"""Strings; integers are accepted and mean the same."""
Name = Annotated[str, Field(min_length=1, max_length=100)]


class NewPipeline(Storable):
    """Fields that nobody reads are let through, as they always were."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [{"owner": "K-Le-PaaS", "repo": "test-01", "branch": "main", "user_id": "user123"}]
        },
    )
    owner: Name
    repo: Name
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


def _with_detail(request: Request, error: KlepaasError, detail: Any) -> Response:
    ours = error_response(error, request.state.request_id)
    headers = {name: value for name, value in ours.headers.items() if name not in {"content-length", "content-type"}}
    body = {"detail": detail, **json.loads(bytes(ours.body))}
    return JSONResponse(body, status_code=_status(error, ours.status_code), headers=headers)


def _status(error: KlepaasError, ours: int) -> int:
    """As the provider said it; but 401 and 403 would tell callers that their own login is wrong."""
    theirs = error.evidence.get("status")
    if not isinstance(error, Outside) or not isinstance(theirs, int) or theirs < 400:
        return ours
    return 502 if theirs in {401, 403} else theirs
