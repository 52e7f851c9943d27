"""Projects: register, look at, configure, retire, and their environment variables."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from klepaas.interfaces.api import stream
from klepaas.interfaces.api.door import CurrentActor, CurrentPass, Guarded, TheContext, TheDoor, WantsStream
from klepaas.interfaces.api.v1.answers import frames
from klepaas.interfaces.api.v1.answers.logs import RuntimeLog
from klepaas.interfaces.api.v1.answers.projects import ProjectAnswer, ProjectList, VariableNames
from klepaas.interfaces.api.v1.answers.status import StatusAnswer
from klepaas.interfaces.api.v1.bodies import NewProject, ProjectChanges, VariableChanges
from klepaas.interfaces.api.v1.parameters import PREFIX, Environment, ProjectReference, refusals, streamed
from klepaas.operations import pipelines, projects, queries

router = APIRouter(prefix=f"{PREFIX}/projects", tags=["projects"], route_class=Guarded)

WithPipeline = Annotated[
    bool, Query(description="Take down the chain that builds and deploys it at its provider, too.")
]
LogLines = Annotated[int, Query(ge=1, le=10_000, description="How many of the last lines.", examples=[200])]


@router.post("", status_code=201, responses=refusals(403, 404, 409, 413))
async def register(body: NewProject, context: TheContext, actor: CurrentActor, response: Response) -> ProjectAnswer:
    """Bind a repository to a target and an environment. Only the repository is needed."""
    wanted = projects.Registration(
        repository=body.repository,
        name=body.name,
        branch=body.branch,
        environment=body.environment,
        target=body.target,
        settings=body.settings,
        connection_id=body.connection_id,
        auto_deploy=body.auto_deploy,
        rules=body.rules,
    )
    project = await projects.register(context, actor, wanted)
    response.headers["Location"] = f"{PREFIX}/projects/{project.id}"
    return ProjectAnswer.of(project)


@router.get("", responses=refusals())
async def list_all(context: TheContext, actor: CurrentActor) -> ProjectList:
    return ProjectList(projects=[ProjectAnswer.of(each) for each in await projects.list_all(context, actor)])


@router.get("/{project}", responses=refusals(404))
async def show(project: ProjectReference, context: TheContext, actor: CurrentActor) -> ProjectAnswer:
    return ProjectAnswer.of(await projects.find(context, actor, project))


@router.patch("/{project}", responses=refusals(403, 404, 409, 413))
async def configure(
    project: ProjectReference, body: ProjectChanges, context: TheContext, actor: CurrentActor
) -> ProjectAnswer:
    """Change what is named, keep the rest. What runs stays as it is until the next deployment."""
    change = projects.ProjectChange(
        repository=body.repository,
        branch=body.branch,
        settings=body.settings,
        connection_id=body.connection_id,
        auto_deploy=body.auto_deploy,
        rules=body.rules,
    )
    return ProjectAnswer.of(await projects.configure(context, actor, project, change))


@router.delete("/{project}", status_code=204, responses=refusals(403, 404, 409, 502))
async def retire(
    project: ProjectReference, context: TheContext, actor: CurrentActor, with_pipeline: WithPipeline = False
) -> None:
    """Take the project and everything it runs away. Its history stays."""
    if with_pipeline:
        await pipelines.retire(context, actor, project)
    else:
        await projects.retire(context, actor, project)


@router.get("/{project}/status", responses=refusals(404))
async def status(
    project: ProjectReference, context: TheContext, actor: CurrentActor, environment: Environment = None
) -> StatusAnswer:
    """How the app stands: what is live, what was last seen of it, and what is under way."""
    return StatusAnswer.of(await queries.status(context, actor, project, environment))


@router.get("/{project}/variables", responses=refusals(404))
async def variable_names(
    project: ProjectReference, context: TheContext, actor: CurrentActor, environment: Environment = None
) -> VariableNames:
    """Names and when they were set. Values are never given back."""
    return VariableNames.of(await projects.variable_names(context, actor, project, environment))


@router.put("/{project}/variables", responses=refusals(403, 404, 413))
async def set_variables(
    project: ProjectReference,
    body: VariableChanges,
    context: TheContext,
    actor: CurrentActor,
    environment: Environment = None,
) -> VariableNames:
    """Set the variables named here, remove those that are null, keep the others. They apply from the next
    deployment on."""
    return VariableNames.of(await projects.set_variables(context, actor, project, body.variables, environment))


@router.get(
    "/{project}/logs",
    response_model=RuntimeLog,
    responses=streamed(RuntimeLog, "The app's last lines", frames.RUNTIME_LOG),
)
async def runtime_log(
    project: ProjectReference,
    door: TheDoor,
    actor: CurrentActor,
    admission: CurrentPass,
    wants_stream: WantsStream,
    environment: Environment = None,
    lines: LogLines = 200,
) -> RuntimeLog | Response:
    """What the live release wrote. The stream sends `line` events, `gap` where lines were missed between two
    looks, and `end` when nothing is live any more."""
    last = await queries.runtime_log(door.context, actor, project, environment=environment, lines=lines)
    if not wants_stream:
        return RuntimeLog(lines=list(last))
    look = partial(_look, door, actor, project, environment)
    return stream.respond(door, admission, stream.runtime_log(look, lines=lines))


async def _look(door: TheDoor, actor: CurrentActor, project: str, environment: str | None, lines: int) -> list[str]:
    return list(await queries.runtime_log(door.context, actor, project, environment=environment, lines=lines))
