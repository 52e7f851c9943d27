"""The inbox of webhooks, behind `operations.ports.deliveries.Deliveries`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.github import Received
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.operations.ports.deliveries import Decision, Known, StoredDelivery
from klepaas.operations.ports.projects import AsOf
from klepaas.storage.database import Database
from klepaas.storage.delivery_rows import Arrival, Decided
from klepaas.storage.delivery_rows_postgres import PostgresRows
from klepaas.storage.delivery_rows_sqlite import SqliteRows
from klepaas.storage.delivery_writer import DeliveryWriter
from klepaas.storage.repositories import RepositoryAsOf
from klepaas.storage.tables import decisions, deliveries, deployments, projects

d, c, p = deliveries.c, decisions.c, projects.c

PRUNED_AT_ONCE = 2000
WAITING_AT_ONCE = 200


class DeliveryTable:
    """Built once for a process: what waits for its turn waits in here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = DeliveryWriter(SqliteRows(database) if database.is_sqlite else PostgresRows(database))

    async def add(
        self,
        received: Received,
        *,
        repository: str | None,
        answer: Mapping[str, Any] | None,
        verdicts: Sequence[Verdict] = (),
        as_of: AsOf | None = None,
    ) -> Known | None:
        row = {
            "id": received.id,
            "event": received.event,
            "headers": dict(received.headers),
            "body": received.body,
            "repository": repository,
            "received_at": received.received_at,
            "decided_at": received.received_at if answer is not None else None,
            "answer": answer,
        }
        meant = _decisions_of(received.id, verdicts, received.received_at)
        state = as_of if isinstance(as_of, RepositoryAsOf) else None
        return await self._writer.add(Arrival(row, meant, state))

    async def decided(
        self, delivery_id: str, *, answer: Mapping[str, Any], verdicts: Sequence[Verdict], at: datetime
    ) -> None:
        row = {"id": delivery_id, "answer": dict(answer), "decided_at": at}
        await self._writer.decide(Decided(row, _decisions_of(delivery_id, verdicts, at)))

    async def get(self, delivery_id: str) -> StoredDelivery | None:
        found = await self._where(d.id == delivery_id, limit=1)
        return found[0] if found else None

    async def body(self, delivery_id: str) -> bytes | None:
        async with self._database.read() as connection:
            found: bytes | None = await connection.scalar(sa.select(d.body).where(d.id == delivery_id))
            return found

    async def undecided(self, *, received_before: datetime, after: int, limit: int) -> Sequence[StoredDelivery]:
        query = _without_bodies().where(d.decided_at.is_(None), d.received_at < received_before, d.number > after)
        async with self._database.read() as connection:
            return [_delivery(row) for row in await connection.execute(query.order_by(d.number).limit(limit))]

    async def list(
        self, owner_id: str | None, *, project_id: str | None = None, before_number: int | None = None, limit: int = 50
    ) -> Sequence[StoredDelivery]:
        conditions = [] if before_number is None else [d.number < before_number]
        theirs = [] if owner_id is None else [p.owner_id == owner_id]
        theirs += [] if project_id is None else [p.id == project_id]
        if theirs:
            about = sa.select(c.delivery_id).join(projects, p.id == c.project_id).where(*theirs)
            conditions.append(d.id.in_(about))
        return await self._where(*conditions, of=theirs, limit=limit)

    async def known(self, delivery_ids: Collection[str]) -> Collection[str]:
        async with self._database.read() as connection:
            return set(await connection.scalars(sa.select(d.id).where(d.id.in_(delivery_ids))))

    async def waiting(self) -> Sequence[StoredDelivery]:
        some = sa.select(c.delivery_id).where(c.outcome == Outcome.WAITING)
        query = _without_bodies().where(d.id.in_(some)).order_by(d.number).limit(WAITING_AT_ONCE)
        async with self._database.read() as connection:
            return [_delivery(row) for row in await connection.execute(query)]

    async def prune(self, *, received_before: datetime) -> int:
        old = sa.select(d.id).where(d.received_at < received_before, d.decided_at.is_not(None))
        async with self._database.write() as connection:
            ids = list(await connection.scalars(old.order_by(d.number).limit(PRUNED_AT_ONCE)))
            if ids:
                await connection.execute(sa.delete(decisions).where(c.delivery_id.in_(ids)))
                await connection.execute(sa.delete(deliveries).where(d.id.in_(ids)))
        return len(ids)

    async def _where(
        self, *conditions: sa.ColumnElement[bool], of: Sequence[sa.ColumnElement[bool]] = (), limit: int
    ) -> Sequence[StoredDelivery]:
        query = _without_bodies().where(*conditions).order_by(d.number.desc()).limit(limit)
        async with self._database.read() as connection:
            found = [_delivery(row) for row in await connection.execute(query)]
            meant = await _decisions(connection, [each.id for each in found], of)
        return [replace(each, decisions=meant.get(each.id, ())) for each in found]


def _decisions_of(delivery_id: str, verdicts: Sequence[Verdict], at: datetime) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "delivery_id": delivery_id,
            "project_id": verdict.project_id,
            "environment": verdict.environment,
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "deployment_id": verdict.deployment_id,
            "decided_at": at,
        }
        for verdict in verdicts
    ]


def _without_bodies() -> sa.Select[Any]:
    return sa.select(*(column for column in deliveries.c if column is not d.body))


async def _decisions(
    connection: AsyncConnection, ids: Sequence[str], of: Sequence[sa.ColumnElement[bool]]
) -> Mapping[str, Sequence[Decision]]:
    query = (
        sa.select(decisions, p.name, p.owner_id, deployments.c.number)
        .join(projects, p.id == c.project_id)
        .join(deployments, deployments.c.id == c.deployment_id, isouter=True)
        .where(c.delivery_id.in_(ids), *of)
        .order_by(p.number)
    )
    found: dict[str, list[Decision]] = {}
    for row in await connection.execute(query) if ids else ():
        verdict = Verdict(
            project_id=row.project_id,
            environment=row.environment,
            outcome=Outcome(row.outcome),
            reason=row.reason,
            deployment_id=row.deployment_id,
            deployment_number=row.number,
        )
        decision = Decision(verdict=verdict, project_name=row.name, owner_id=row.owner_id, at=row.decided_at)
        found.setdefault(row.delivery_id, []).append(decision)
    return found


def _delivery(row: sa.Row[Any]) -> StoredDelivery:
    return StoredDelivery(
        number=row.number,
        id=row.id,
        event=row.event,
        headers=row.headers,
        repository=row.repository,
        received_at=row.received_at,
        decided_at=row.decided_at,
        answer=row.answer,
    )
