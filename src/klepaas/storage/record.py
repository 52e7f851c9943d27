"""Our own deployments looked at as a whole, behind `operations.past.Record`."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.record_check import Complaint, RecordedDeployment, complaints_of
from klepaas.domain.status import Status
from klepaas.storage.database import Database
from klepaas.storage.tables import deployment_events, deployments, projects, releases

d, e, p = deployments.c, deployment_events.c, projects.c

ROWS_AT_ONCE = 500


class RecordTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def complaints(self, project_ids: Collection[str], now: datetime) -> Sequence[Complaint]:
        """Read in parts, so that nobody waits long; a deployment that goes on meanwhile is seen as it was."""
        found: list[Complaint] = []
        for project_id in project_ids:
            deliveries: dict[tuple[str, str], str] = {}
            after = 0
            while rows := await self._part(project_id, after):
                after = rows[-1].number
                found += [each for row in rows for each in complaints_of(_recorded(row, deliveries), now)]
        return found

    async def _part(self, project_id: str, after: int) -> list[Any]:
        async with self._database.read() as connection:
            return await _rows(connection, project_id, after)


async def _rows(connection: AsyncConnection, project_id: str, after: int) -> list[Any]:
    of_it = e.deployment_id == d.id
    query = (
        sa.select(
            d.id,
            d.number,
            d.app_key,
            d.status,
            d.seq,
            d.created_at,
            d.started_at,
            d.finished_at,
            d.error_message,
            d.state["delivery_id"].as_string().label("delivery_id"),
            p.github_owner,
            p.github_repo,
            sa.select(sa.func.count()).where(of_it).correlate(deployments).scalar_subquery().label("events"),
            sa.select(e.kind).where(of_it, e.seq == d.seq).correlate(deployments).scalar_subquery().label("last_kind"),
            sa.exists().where(releases.c.id == d.release_id).correlate(deployments).label("has_release"),
        )
        .join(projects, p.id == d.project_id)
        .where(d.project_id == project_id, d.number > after)
        .order_by(d.number)
        .limit(ROWS_AT_ONCE)
    )
    return list(await connection.execute(query))


def _recorded(row: Any, deliveries: dict[tuple[str, str], str]) -> RecordedDeployment:
    """`deliveries` remembers which deployment each delivery led to first, by app."""
    earlier = None
    if row.delivery_id:
        first = deliveries.setdefault((row.app_key, row.delivery_id), row.id)
        earlier = first if first != row.id else None
    return RecordedDeployment(
        id=row.id,
        number=row.number,
        repository=f"{row.github_owner}/{row.github_repo}",
        status=Status(row.status),
        seq=row.seq,
        events=row.events,
        last_kind=row.last_kind,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        has_release=bool(row.has_release),
        error_message=row.error_message,
        delivery_id=row.delivery_id,
        shares_delivery_with=earlier,
    )
