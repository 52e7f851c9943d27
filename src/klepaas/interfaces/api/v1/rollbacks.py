"""Rollbacks: what one could go back to, what that would change, and doing it."""

from fastapi import APIRouter
from starlette.responses import Response

from klepaas.domain.actor import Actor
from klepaas.domain.deployment import Deployment
from klepaas.errors import NotFound
from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext
from klepaas.interfaces.api.v1.answers.deployments import SubmissionAnswer
from klepaas.interfaces.api.v1.answers.rollbacks import CandidateAnswer, CandidateList, PlanAnswer
from klepaas.interfaces.api.v1.bodies import NewRollback
from klepaas.interfaces.api.v1.deployments import location_of
from klepaas.interfaces.api.v1.parameters import PREFIX, Environment, IdempotencyKey, ProjectReference, refusals
from klepaas.operations import deployments, rollbacks
from klepaas.operations.context import Context
from klepaas.operations.rollbacks import Candidate

router = APIRouter(prefix=f"{PREFIX}/projects/{{project}}", tags=["rollbacks"], route_class=Guarded)


@router.get("/candidates", responses=refusals(404))
async def candidates(
    project: ProjectReference, context: TheContext, actor: CurrentActor, environment: Environment = None
) -> CandidateList:
    """Releases that were live, newest first, and how each could be had back."""
    found = await rollbacks.candidates(context, actor, project, environment)
    return CandidateList(candidates=[CandidateAnswer.of(each, await _made_by(context, actor, each)) for each in found])


@router.post(
    "/rollback",
    status_code=202,
    response_model=SubmissionAnswer,
    responses={
        200: {"model": PlanAnswer, "description": "Of a dry run: what would change."},
        **refusals(403, 404, 409, 413),
    },
)
async def roll_back(
    project: ProjectReference,
    body: NewRollback,
    context: TheContext,
    actor: CurrentActor,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> SubmissionAnswer | Response:
    """Queue the deployment of an earlier release. What cannot work is refused before anything is touched."""
    request = rollbacks.RollbackRequest(
        project=project,
        environment=body.environment,
        steps_back=body.steps_back,
        commit=body.commit,
        request_key=idempotency_key,
    )
    if body.dry_run:
        plan = await rollbacks.plan(context, actor, request)
        answer = PlanAnswer.of(plan, await _made_by(context, actor, plan.candidate))
        return Response(answer.model_dump_json(), media_type="application/json")
    accepted = await rollbacks.roll_back(context, actor, request)
    response.headers["Location"] = location_of(accepted.submission.deployment)
    return SubmissionAnswer.of(accepted.submission, accepted.project)


async def _made_by(context: Context, actor: Actor, candidate: Candidate) -> Deployment | None:
    try:
        return await deployments.find(context, actor, candidate.release.deployment_id)
    except NotFound:
        return None
