"""Deployments: start, list, look at, cancel; their events, build log and evidence."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from klepaas.domain.actor import Actor
from klepaas.domain.deployment import Deployment
from klepaas.domain.project import Project
from klepaas.domain.settlement import Outcome
from klepaas.domain.status import Status
from klepaas.interfaces.api import stream
from klepaas.interfaces.api.door import CurrentActor, CurrentPass, Guarded, TheContext, TheDoor, WantsStream
from klepaas.interfaces.api.v1.answers import frames
from klepaas.interfaces.api.v1.answers.deployments import (
    DeploymentAnswer,
    DeploymentList,
    EvidenceAnswer,
    SubmissionAnswer,
)
from klepaas.interfaces.api.v1.answers.events import EventPage, event_fields
from klepaas.interfaces.api.v1.answers.logs import LogPage
from klepaas.interfaces.api.v1.bodies import NewDeployment
from klepaas.interfaces.api.v1.parameters import (
    PREFIX,
    AfterPosition,
    AfterSeq,
    DeploymentId,
    Environment,
    IdempotencyKey,
    LastEventId,
    Limit,
    ProjectReference,
    refusals,
    streamed,
    text,
)
from klepaas.operations import deployments, past_deployments, projects, queries
from klepaas.operations.context import Context

router = APIRouter(prefix=PREFIX, tags=["deployments"], route_class=Guarded)

Before = Annotated[
    int | None,
    Query(
        ge=-stream.LARGEST_SEQ,
        le=stream.LARGEST_SEQ,
        description="Only deployments with a lower number; go on with `next_before`.",
        examples=[12],
    ),
]
Statuses = Annotated[list[Status] | None, Query(description="May be given several times.")]
HistoryLimit = Annotated[int, Query(ge=1, le=200, examples=[50])]

DOWNLOAD_LINES = 5000
"""Lines read from disk at a time while a log is downloaded."""


@router.post("/projects/{project}/deployments", status_code=202, responses=refusals(403, 404, 409, 413))
async def start(
    project: ProjectReference,
    body: NewDeployment,
    context: TheContext,
    actor: CurrentActor,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> SubmissionAnswer:
    """Queue a deployment. The newest queued one replaces an older queued one of the same environment."""
    request = deployments.DeploymentRequest(
        project=project,
        environment=body.environment,
        branch=body.branch,
        commit=body.commit,
        rebuild=body.rebuild,
        request_key=idempotency_key,
        note=body.note,
    )
    accepted = await deployments.start(context, actor, request)
    response.headers["Location"] = location_of(accepted.submission.deployment)
    return SubmissionAnswer.of(accepted.submission, accepted.project)


@router.get("/projects/{project}/deployments", responses=refusals(404))
async def history(
    project: ProjectReference,
    context: TheContext,
    actor: CurrentActor,
    environment: Environment = None,
    status: Statuses = None,
    before: Before = None,
    limit: HistoryLimit = 50,
) -> DeploymentList:
    """Newest first. What an older system made comes after our own, under numbers below zero."""
    of = await projects.find(context, actor, project)
    found = await queries.history(
        context,
        actor,
        project,
        environment=environment,
        status=status or (),
        before_number=before,
        limit=limit,
    )
    shown = [DeploymentAnswer.of(each, of) for each in found]
    outcomes = [each for each in Outcome if each.value in (status or ())]
    if outcomes or not status:
        past = await past_deployments.of_project(
            context,
            of,
            environment=environment,
            outcomes=outcomes,
            before_number=before,
            limit=limit - len(shown),
        )
        shown += [DeploymentAnswer.of_past(each, of) for each in past]
    return DeploymentList(deployments=shown, next_before=shown[-1].number if len(shown) == limit else None)


@router.get("/deployments/{deployment_id}", responses=refusals(404))
async def show(deployment_id: DeploymentId, context: TheContext, actor: CurrentActor) -> DeploymentAnswer:
    if (found := await past_deployments.find(context, actor, deployment_id)) is not None:
        return DeploymentAnswer.of_past(found.imported, found.project)
    deployment = await deployments.find(context, actor, deployment_id)
    return DeploymentAnswer.of(deployment, await project_of(context, actor, deployment))


@router.post("/deployments/{deployment_id}/cancel", status_code=202, responses=refusals(403, 404, 409))
async def cancel(deployment_id: DeploymentId, context: TheContext, actor: CurrentActor) -> DeploymentAnswer:
    """Ask for the end of a deployment that is not live yet. What it started is undone before it ends."""
    deployment = await deployments.cancel(context, actor, deployment_id)
    return DeploymentAnswer.of(deployment, await project_of(context, actor, deployment))


@router.get(
    "/deployments/{deployment_id}/events",
    response_model=EventPage,
    responses=streamed(EventPage, "What has happened so far", frames.EVENTS),
)
async def events(
    deployment_id: DeploymentId,
    door: TheDoor,
    actor: CurrentActor,
    admission: CurrentPass,
    wants_stream: WantsStream,
    after: AfterSeq = 0,
    limit: Limit = 1000,
    last_event_id: LastEventId = None,
) -> EventPage | Response:
    """Everything that happened to a deployment, in order. The stream replays what is behind `Last-Event-ID` (or
    `after`), follows, and ends after the event that ends the deployment; an event's id is its number."""
    if wants_stream:
        begin = stream.last_seq(last_event_id, after)
        await deployments.find(door.context, actor, deployment_id)
        return stream.respond(door, admission, stream.events(door, deployment_id, after=begin))
    found = await queries.events(door.context, actor, deployment_id, after=after, limit=limit)
    return EventPage(events=[event_fields(each) for each in found], next_after=found[-1].seq if found else after)


@router.get(
    "/deployments/{deployment_id}/logs",
    response_model=LogPage,
    responses=streamed(LogPage, "Lines of the build log", frames.BUILD_LOG, {"text/plain": text(frames.WHOLE_LOG)}),
)
async def build_log(
    deployment_id: DeploymentId,
    door: TheDoor,
    actor: CurrentActor,
    admission: CurrentPass,
    wants_stream: WantsStream,
    after: AfterPosition = None,
    limit: Limit = 1000,
    download: bool = False,
    last_event_id: LastEventId = None,
) -> LogPage | Response:
    """The build log. The stream sends `line` events whose id is the line's position, then `end`. With
    `download=1` the whole log as a text file."""
    begin = last_event_id if wants_stream and last_event_id is not None else after
    # Read before anything is sent: whoever may not, or asks for a place that is none, gets a plain refusal.
    lines = await queries.build_log(door.context, actor, deployment_id, after=begin, limit=limit)
    if download:
        return StreamingResponse(
            _whole_log(door.context, actor, deployment_id),
            media_type="text/plain; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{deployment_id}.log"'},
        )
    if wants_stream:
        return stream.respond(door, admission, stream.build_log(door, deployment_id, after=begin))
    return LogPage.of(lines, begin)


@router.get("/deployments/{deployment_id}/evidence", responses=refusals(404))
async def evidence(deployment_id: DeploymentId, context: TheContext, actor: CurrentActor) -> EvidenceAnswer:
    """What was seen that justifies how the deployment ended."""
    return EvidenceAnswer.of(await deployments.find(context, actor, deployment_id))


def location_of(deployment: Deployment) -> str:
    return f"{PREFIX}/deployments/{deployment.id}"


async def project_of(context: Context, actor: Actor, deployment: Deployment) -> Project:
    return await projects.find(context, actor, deployment.project_id)


async def _whole_log(context: Context, actor: Actor, deployment_id: str) -> AsyncIterator[bytes]:
    after: str | None = None
    while lines := await queries.build_log(context, actor, deployment_id, after=after, limit=DOWNLOAD_LINES):
        after = lines[-1].position
        yield "".join(f"{line.text}\n" for line in lines).encode()
