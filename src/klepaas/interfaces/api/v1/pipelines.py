"""The chain that builds and deploys a project at its provider."""

from collections.abc import AsyncGenerator
from functools import partial

from fastapi import APIRouter
from pydantic import ConfigDict
from starlette.responses import Response

from klepaas.interfaces.api import stream
from klepaas.interfaces.api.door import CurrentActor, CurrentPass, Guarded, TheContext, TheDoor, WantsStream
from klepaas.interfaces.api.v1.answers import frames
from klepaas.interfaces.api.v1.answers.answer import Answer
from klepaas.interfaces.api.v1.parameters import PREFIX, ProjectReference, refusals, streamed
from klepaas.operations import pipelines
from klepaas.operations.pipelines import Standing

router = APIRouter(prefix=f"{PREFIX}/projects", tags=["projects"], route_class=Guarded)


class PipelineAnswer(Answer):
    """`changes` says in sentences what this call made, adopted or repaired."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "project_id": "prj_0f9d1c2b3a495867",
                    "build_project_id": "20701",
                    "deploy_project_id": "12501",
                    "pipeline_id": "2101",
                    "image_repo": "acme.kr.ncr.ntruss.com/octo-org-shop",
                    "changes": ["Made the SourceCommit repository octo-org-shop (632001)."],
                }
            ]
        }
    )
    project_id: str
    build_project_id: str
    deploy_project_id: str
    pipeline_id: str
    image_repo: str
    changes: list[str]

    @classmethod
    def of(cls, standing: Standing) -> "PipelineAnswer":
        return cls(
            project_id=standing.project.id,
            build_project_id=str(standing.ids.build_project_id),
            deploy_project_id=str(standing.ids.deploy_project_id),
            pipeline_id=str(standing.ids.pipeline_id),
            image_repo=standing.ids.image_repo,
            changes=list(standing.changes),
        )


class TakenDown(Answer):
    model_config = ConfigDict(json_schema_extra={"examples": [{"changes": ["Removed the SourceBuild project 20701."]}]})
    changes: list[str]


@router.post(
    "/{project}/pipeline",
    response_model=PipelineAnswer,
    responses=streamed(PipelineAnswer, "The chain, as it stands now", frames.PIPELINE) | refusals(403, 404, 409, 502),
)
async def ensure(
    project: ProjectReference,
    door: TheDoor,
    context: TheContext,
    actor: CurrentActor,
    admission: CurrentPass,
    wants_stream: WantsStream,
) -> PipelineAnswer | Response:
    """Have the chain of a project: make what is missing, adopt what is there by its names, repair what drifted.

    The stream sends `change` for each thing that was changed, then `end` with the answer, or `error`."""
    work = partial(pipelines.ensure, context, actor, project)
    if not wants_stream:
        return PipelineAnswer.of(await work())
    told: AsyncGenerator[bytes, None] = await stream.progress(work, lambda one: PipelineAnswer.of(one).model_dump())
    return stream.respond(door, admission, told)


@router.delete("/{project}/pipeline", responses=refusals(403, 404, 409, 502))
async def take_down(project: ProjectReference, context: TheContext, actor: CurrentActor) -> TakenDown:
    """Take the chain down; the project stays, and so do its images. Refused while a deployment is under way."""
    return TakenDown(changes=list(await pipelines.take_down(context, actor, project)))
