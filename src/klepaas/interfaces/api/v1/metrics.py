"""GET /metrics, for the operator's Prometheus."""

from fastapi import APIRouter, Response

from klepaas.domain.actor import Scope
from klepaas.interfaces.api.door import CurrentActor, Guarded, TheDoor
from klepaas.interfaces.api.metrics import CONTENT_TYPE
from klepaas.interfaces.api.v1.health import report_of
from klepaas.interfaces.api.v1.parameters import refusals

router = APIRouter(tags=["health"], route_class=Guarded)


@router.get("/metrics", responses=refusals(403), response_class=Response)
async def metrics(door: TheDoor, actor: CurrentActor) -> Response:
    """Numbers about all owners' deployments and about this process. Needs the scope `operator`."""
    actor.require(Scope.OPERATOR)
    counts = await door.context.deployments.counts()
    return Response(door.metrics.render(counts, await report_of(door)), media_type=CONTENT_TYPE)
