"""Deliveries: what GitHub told, what came of it, and deciding it once more."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict

from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext, TheDoor
from klepaas.interfaces.api.stream import LARGEST_SEQ
from klepaas.interfaces.api.v1.answers.answer import Answer, example_of
from klepaas.interfaces.api.v1.parameters import PREFIX, Limit, refusals
from klepaas.operations import deliveries
from klepaas.operations.ports.deliveries import Decision, StoredDelivery

router = APIRouter(prefix=f"{PREFIX}/github/deliveries", tags=["github"], route_class=Guarded)

LONGEST_BODY_SHOWN = 2**20

DeliveryId = Annotated[
    str, Path(max_length=200, description="As GitHub's `X-GitHub-Delivery`.", examples=["72d3162e-cc78-11e3-81ab"])
]


class DecisionAnswer(Answer):
    """What the delivery meant for one project."""

    project_id: str
    project: str
    environment: str
    outcome: str
    reason: str
    deployment_id: str | None
    decided_at: datetime

    @classmethod
    def of(cls, decision: Decision) -> "DecisionAnswer":
        verdict = decision.verdict
        return cls(
            project_id=verdict.project_id,
            project=decision.project_name,
            environment=verdict.environment,
            outcome=verdict.outcome,
            reason=verdict.reason,
            deployment_id=verdict.deployment_id,
            decided_at=decision.at,
        )


class DeliveryAnswer(Answer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "number": 40,
                    "id": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
                    "event": "push",
                    "repository": "octo-org/shop",
                    "received_at": "2026-01-05T09:00:00.003000Z",
                    "decided_at": "2026-01-05T09:00:00.009000Z",
                    "replay_of": None,
                    "decisions": [
                        {
                            "project_id": "prj_0f9d1c2b3a495867",
                            "project": "shop",
                            "environment": "production",
                            "outcome": "skipped",
                            "reason": "auto_deploy_disabled",
                            "deployment_id": None,
                            "decided_at": "2026-01-05T09:00:00.009000Z",
                        }
                    ],
                    "answer": {"status": "skipped", "reason": "auto_deploy_disabled"},
                }
            ]
        }
    )
    number: int
    """Rises with every delivery; go on with `before`."""
    id: str
    event: str
    repository: str | None
    received_at: datetime
    decided_at: datetime | None
    replay_of: str | None
    decisions: list[DecisionAnswer]
    answer: dict[str, Any] | None
    """What its sender was answered, or would have been; only the operator sees it."""

    @classmethod
    def of(cls, delivery: StoredDelivery) -> "DeliveryAnswer":
        return cls(**_fields(delivery))


class DeliveryDetail(DeliveryAnswer):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **example_of(DeliveryAnswer),
                    "headers": {"x-github-event": "push", "x-github-hook-id": "418300077"},
                    "body": '{"ref":"refs/heads/main"}',
                }
            ]
        }
    )
    headers: dict[str, str]
    body: str | None
    """As it came; only the operator sees it, and no more than 1 MiB of it."""

    @classmethod
    def shown(cls, shown: deliveries.Shown) -> "DeliveryDetail":
        body = None if shown.body is None else shown.body[:LONGEST_BODY_SHOWN].decode(errors="replace")
        return cls(**_fields(shown.delivery), headers=dict(shown.delivery.headers), body=body)


class DeliveryList(Answer):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"deliveries": [example_of(DeliveryAnswer)], "next_before": None}]}
    )
    deliveries: list[DeliveryAnswer]
    next_before: int | None
    """Give it as `before` for the next page; null on the last one."""


@router.get("", responses=refusals(403, 404))
async def list_all(
    context: TheContext,
    actor: CurrentActor,
    project: Annotated[str | None, Query(max_length=200, description="Id or name of a project.")] = None,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_SEQ, description="Only those with a lower number.")] = None,
    limit: Limit = 50,
) -> DeliveryList:
    """Newest first: those that meant something for your projects; for the operator all of them."""
    found = await deliveries.list_all(context, actor, project=project, before_number=before, limit=limit)
    return DeliveryList(
        deliveries=[DeliveryAnswer.of(each) for each in found],
        next_before=found[-1].number if len(found) == limit else None,
    )


@router.get("/{delivery_id}", responses=refusals(403, 404))
async def show(delivery_id: DeliveryId, context: TheContext, actor: CurrentActor) -> DeliveryDetail:
    return DeliveryDetail.shown(await deliveries.show(context, actor, delivery_id))


@router.post("/{delivery_id}/replay", responses=refusals(403, 404))
async def replay(delivery_id: DeliveryId, door: TheDoor, context: TheContext, actor: CurrentActor) -> DeliveryAnswer:
    """Decide it by the rules and settings of now, as a delivery of its own that names this one in `replay_of`. What
    was started for its commit is not started again."""
    return DeliveryAnswer.of(await deliveries.replay(context, door.intake, actor, delivery_id))


def _fields(delivery: StoredDelivery) -> dict[str, Any]:
    return {
        "number": delivery.number,
        "id": delivery.id,
        "event": delivery.event,
        "repository": delivery.repository,
        "received_at": delivery.received_at,
        "decided_at": delivery.decided_at,
        "replay_of": delivery.headers.get(deliveries.REPLAY_OF),
        "decisions": [DecisionAnswer.of(each) for each in delivery.decisions],
        "answer": None if delivery.answer is None else dict(delivery.answer),
    }
