"""GET /metrics, for the operator's Prometheus."""

from fastapi import APIRouter, Response

from klepaas.domain.actor import OPERATORS_OWNER
from klepaas.interfaces.api.door import CurrentActor, Guarded, TheDoor
from klepaas.interfaces.api.metrics import CONTENT_TYPE
from klepaas.interfaces.api.v1.health import report_of
from klepaas.interfaces.api.v1.parameters import refusals, text

router = APIRouter(tags=["health"], route_class=Guarded)

_PAGE = """\
# HELP klepaas_deployments Deployments in the database by status.
# TYPE klepaas_deployments gauge
klepaas_deployments{status="queued"} 1.0
klepaas_deployments{status="succeeded"} 12.0
# HELP klepaas_part_up Whether a part klepaas needs answers (1) or not (0).
# TYPE klepaas_part_up gauge
klepaas_part_up{part="database"} 1.0
"""


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": text(_PAGE)}}, **refusals(403)},
)
async def metrics(door: TheDoor, actor: CurrentActor) -> Response:
    """Numbers about all owners' deployments and about this process. A token of the operator's own owner is enough,
    whatever its scope: `read` is the right one for Prometheus."""
    operators = await door.context.owners.named(OPERATORS_OWNER)
    actor.require_view_of_all(operators.id if operators is not None else None)
    counts = await door.context.deployments.counts()
    return Response(door.metrics.render(counts, await report_of(door)), media_type=CONTENT_TYPE)
