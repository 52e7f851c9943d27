"""Appending to the event log: events, the deployment's row and what follows from them, in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.deployment import Deployment
from klepaas.domain.events import (
    DeploymentSucceeded,
    Event,
    Recorded,
    TrafficReturned,
    TrafficShiftDecided,
    event_from,
)
from klepaas.storage import deployment_state
from klepaas.storage.tables import apps, deployment_events, deployments, releases
from klepaas.storage.words import keepable_event

d = deployments.c

_NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})
_INSERT_EVENTS = sa.insert(deployment_events)
_UPDATE_APP = sa.update(apps).where(apps.c.key == sa.bindparam("app"))
_UPDATE_APP_IF_LIVE = _UPDATE_APP.where(apps.c.live_release_id == sa.bindparam("live"))
_PROVE_RELEASE = sa.update(releases).where(releases.c.id == sa.bindparam("release"), releases.c.proven_at.is_(None))
"""Built once, as all statements here: to build one takes as long as to run it."""


def columns_of(deployment: Deployment) -> dict[str, Any]:
    """The row of a deployment: what queries need as columns, everything as `state`."""
    return {
        "id": deployment.id,
        "project_id": deployment.project_id,
        "environment": deployment.environment,
        "app_key": deployment.app_key,
        "status": deployment.status,
        "step": deployment.step,
        "fence": deployment.fence,
        "seq": deployment.seq,
        "branch": deployment.branch,
        "commit_sha": deployment.commit_sha,
        "commit_message": deployment.commit_message,
        "release_id": deployment.release_id,
        "image_ref": deployment.image_ref,
        "rollback_of": deployment.rollback_of,
        "cancelled_by": deployment.cancelled_by,
        "error_message": deployment.failure.message if deployment.failure else None,
        "created_at": deployment.created_at,
        "started_at": deployment.started_at,
        "live_at": deployment.live_at,
        "finished_at": deployment.finished_at,
        "state": deployment_state.to_json(deployment),
    }


async def write(
    connection: AsyncConnection,
    before: Deployment,
    events: Sequence[Event],
    *,
    at: datetime,
    by: str,
    mine: Mapping[str, Any] = _NOTHING_MORE,
    **changes: Any,
) -> Deployment | None:
    """Append events decided on `before`. None, and nothing written, when the row has moved on or is not `mine`: what
    its columns must still say."""
    events = [keepable_event(event) for event in events]
    after = before
    for event in events:
        after = after.after(event, at)
    was = {"id": before.id, "seq": before.seq, **mine}
    found = await connection.execute(
        _update_if(*was), {**{_was(name): value for name, value in was.items()}, **columns_of(after), **changes}
    )
    if found.rowcount != 1:
        return None
    await insert_events(connection, before.id, before.seq, events, at=at, by=by)
    for event in events:
        await _project(connection, after, event, at)
    return after


@cache
def _update_if(*names: str) -> sa.Update:
    """An update of a deployment whose row still says what is known of these columns."""
    return sa.update(deployments).where(*(d[name] == sa.bindparam(_was(name), type_=d[name].type) for name in names))


def _was(name: str) -> str:
    return f"was_{name}"


async def insert_events(
    connection: AsyncConnection, deployment_id: str, seq: int, events: Sequence[Event], *, at: datetime, by: str
) -> None:
    """Number the events from `seq + 1` on."""
    await connection.execute(
        _INSERT_EVENTS,
        [
            {
                "deployment_id": deployment_id,
                "seq": seq + place,
                "kind": event.kind,
                "at": at,
                "node": by,
                "data": event.data(),
            }
            for place, event in enumerate(events, start=1)
        ],
    )


async def read(
    connection: AsyncConnection, deployment_id: str, *, after: int = 0, limit: int | None = None
) -> list[Recorded]:
    """The events of a deployment from `after + 1` on, in order."""
    e = deployment_events.c
    query = sa.select(deployment_events).where(e.deployment_id == deployment_id, e.seq > after).order_by(e.seq)
    return [_recorded(row) for row in await connection.execute(query.limit(limit))]


def _recorded(row: sa.Row[Any]) -> Recorded:
    return Recorded(
        deployment_id=row.deployment_id,
        seq=row.seq,
        at=row.at,
        node=row.node,
        event=event_from(row.kind, row.data),
    )


async def _project(connection: AsyncConnection, deployment: Deployment, event: Event, at: datetime) -> None:
    """What other tables say because of this event."""
    app = {"app": deployment.app_key}
    match event:
        case TrafficShiftDecided():
            decided = {
                "live_release_id": event.release_id,
                "live_deployment_id": deployment.id,
                "previous_release_id": event.previous_release_id,
            }
            await connection.execute(_UPDATE_APP, {**app, **decided})
        case TrafficReturned():
            returned = {
                "live_release_id": event.previous_release_id,
                "live_deployment_id": event.previous_deployment_id,
                "previous_release_id": None,
            }
            await connection.execute(_UPDATE_APP_IF_LIVE, {**app, "live": event.release_id, **returned})
        case DeploymentSucceeded():
            await connection.execute(_PROVE_RELEASE, {"release": event.release_id, "proven_at": at})
            healthy = {"health": "healthy", "health_detail": "", "observed_at": at}
            await connection.execute(_UPDATE_APP_IF_LIVE, {**app, "live": event.release_id, **healthy})
        case _:
            pass
