"""The inbox of webhooks, behind `operations.ports.deliveries.Deliveries`.

GitHub waits for an answer only so long, and an answer is a promise that the delivery is on disk. Making each one
durable by itself would cost a flush of the disk each; so those that arrive while one flush runs share the next."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.github import Received
from klepaas.domain.verdict import Outcome, Verdict
from klepaas.errors import Unavailable
from klepaas.operations.ports.deliveries import Decision, Known, StoredDelivery
from klepaas.operations.ports.projects import AsOf
from klepaas.storage.database import Database
from klepaas.storage.delivery_rows import Answers, DeliveryRows, PostgresRows, SqliteRows
from klepaas.storage.projects import RepositoryAsOf
from klepaas.storage.tables import decisions, deliveries, deployments, projects

log = structlog.get_logger()

d, c, p = deliveries.c, decisions.c, projects.c

MOST_AT_ONCE = 256
"""Rows of one transaction: others want to write, too."""
BYTES_AT_ONCE = 32 * 2**20
BYTES_OF_A_MOMENT, DECISIONS_OF_A_MOMENT = 2**20, 500
"""What takes longer to write is not written in the event loop."""
PRUNED_AT_ONCE = 2000
LOOKS_EVERY_S, LOOKS = 0.001, 8
"""A crowd is waited for when the transaction before was one's, as long as more of it come. A flush of the disk takes
about as long as one look; nothing waits while deliveries come one by one."""
OUTCOMES_WAIT_S = 0.01
"""Nobody waits for an outcome to be on disk: it can go along with the next deliveries."""
WAITING_AT_ONCE = 200


@dataclass(frozen=True)
class _Arrival:
    row: Mapping[str, Any]
    decisions: Sequence[Mapping[str, Any]]
    as_of: AsOf | None
    done: asyncio.Future[Known | None]


@dataclass(frozen=True)
class _Outcome:
    answer: Mapping[str, Any]
    decisions: Sequence[Mapping[str, Any]]
    done: asyncio.Future[Known | None]


@dataclass
class DeliveryTable:
    """Built once for a process: what waits for its turn waits in here."""

    database: Database
    _arrivals: deque[_Arrival] = field(default_factory=deque)
    _outcomes: deque[_Outcome] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _writer: asyncio.Task[None] | None = None

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
        arrival = _Arrival(row, meant, as_of, asyncio.get_running_loop().create_future())
        self._arrivals.append(arrival)
        self._arrived.set()
        self._see_to_it()
        return await arrival.done

    async def decided(
        self, delivery_id: str, *, answer: Mapping[str, Any], verdicts: Sequence[Verdict], at: datetime
    ) -> None:
        change = {"decided": delivery_id, "answer": dict(answer), "decided_at": at}
        outcome = _Outcome(change, _decisions_of(delivery_id, verdicts, at), asyncio.get_running_loop().create_future())
        self._outcomes.append(outcome)
        self._see_to_it()
        await outcome.done

    async def get(self, delivery_id: str) -> StoredDelivery | None:
        found = await self._where(d.id == delivery_id, limit=1)
        return found[0] if found else None

    async def body(self, delivery_id: str) -> bytes | None:
        async with self.database.read() as connection:
            found: bytes | None = await connection.scalar(sa.select(d.body).where(d.id == delivery_id))
            return found

    async def undecided(self, *, received_before: datetime, after: int, limit: int) -> Sequence[StoredDelivery]:
        query = _without_bodies().where(d.decided_at.is_(None), d.received_at < received_before, d.number > after)
        async with self.database.read() as connection:
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
        async with self.database.read() as connection:
            return set(await connection.scalars(sa.select(d.id).where(d.id.in_(delivery_ids))))

    async def waiting(self) -> Sequence[StoredDelivery]:
        some = sa.select(c.delivery_id).where(c.outcome == Outcome.WAITING)
        query = _without_bodies().where(d.id.in_(some)).order_by(d.number).limit(WAITING_AT_ONCE)
        async with self.database.read() as connection:
            return [_delivery(row) for row in await connection.execute(query)]

    async def prune(self, *, received_before: datetime) -> int:
        old = sa.select(d.id).where(d.received_at < received_before, d.decided_at.is_not(None))
        async with self.database.write() as connection:
            ids = list(await connection.scalars(old.order_by(d.number).limit(PRUNED_AT_ONCE)))
            if ids:
                await connection.execute(sa.delete(decisions).where(c.delivery_id.in_(ids)))
                await connection.execute(sa.delete(deliveries).where(d.id.in_(ids)))
        return len(ids)

    async def _where(
        self, *conditions: sa.ColumnElement[bool], of: Sequence[sa.ColumnElement[bool]] = (), limit: int
    ) -> Sequence[StoredDelivery]:
        query = _without_bodies().where(*conditions).order_by(d.number.desc()).limit(limit)
        async with self.database.read() as connection:
            found = [_delivery(row) for row in await connection.execute(query)]
            meant = await _decisions(connection, [each.id for each in found], of)
        return [replace(each, decisions=meant.get(each.id, ())) for each in found]

    def _see_to_it(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """One transaction after the other while there is something to write."""
        came = 0
        while self._arrivals or self._outcomes:
            await self._gather(came)
            batch = self._next()
            came = sum(isinstance(entry, _Arrival) for entry in batch)
            try:
                known = await self._commit(batch)
            except Exception as error:
                await self._one_by_one(batch, error)
            else:
                _tell(batch, known)

    async def _gather(self, came: int) -> None:
        """`came`: how many arrivals there were in the transaction before."""
        if not self._arrivals:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), OUTCOMES_WAIT_S)
        for _ in range(LOOKS):
            before = len(self._arrivals)
            if before >= came:
                return
            await asyncio.sleep(LOOKS_EVERY_S)
            if len(self._arrivals) == before:
                return

    def _next(self) -> Sequence[_Arrival | _Outcome]:
        batch: list[_Arrival | _Outcome] = []
        size = 0
        while self._outcomes and len(batch) < MOST_AT_ONCE:
            batch.append(self._outcomes.popleft())
        most = len(batch) + MOST_AT_ONCE
        while self._arrivals and len(batch) < most and size < BYTES_AT_ONCE:
            arrival = self._arrivals.popleft()
            batch.append(arrival)
            size += len(arrival.row["body"])
        return batch

    async def _one_by_one(self, batch: Sequence[_Arrival | _Outcome], error: Exception) -> None:
        """What one of them cannot have is no reason to refuse the others."""
        for entry in batch:
            if len(batch) > 1 and not isinstance(error, Unavailable):
                try:
                    known = await self._commit([entry])
                except Exception as own:
                    _fail(entry, own)
                else:
                    _tell([entry], known)
            else:
                _fail(entry, error)

    async def _commit(self, batch: Sequence[_Arrival | _Outcome]) -> Answers:
        """Returns the ids that were known, with what was answered once they were decided."""
        arrivals = [entry for entry in batch if isinstance(entry, _Arrival)]
        outcomes = [entry for entry in batch if isinstance(entry, _Outcome)]
        if not self.database.is_sqlite:
            # Two processes that hold rows of each other's batch wait in one order, and not for each other.
            arrivals.sort(key=lambda entry: str(entry.row["id"]))
            outcomes.sort(key=lambda entry: str(entry.answer["decided"]))

        is_long = sum(len(entry.decisions) for entry in batch) > DECISIONS_OF_A_MOMENT or (
            sum(len(entry.row["body"]) for entry in arrivals) > BYTES_OF_A_MOMENT
        )

        def work(connection: sa.Connection) -> Answers:
            states = {entry.as_of for entry in arrivals if isinstance(entry.as_of, RepositoryAsOf)}
            over = {each for each in states if not each.still_is(connection)}
            rows = [entry.row if entry.as_of not in over else {**entry.row, **_UNDECIDED} for entry in arrivals]
            doubted: Answers = {entry.row["id"]: None for entry in arrivals if entry.as_of in over}
            meant = [row for entry in arrivals if entry.as_of not in over for row in entry.decisions]
            known = {**doubted, **(self._rows.add(connection, rows, meant) if rows else {})}
            if outcomes:
                connection.execute(_DECIDE, [entry.answer for entry in outcomes])
            if decided := [row for entry in outcomes for row in entry.decisions]:
                self._rows.record(connection, decided)
            return known

        # Deliveries and what they mean are one statement where that counts.
        is_atomic = not outcomes and not self.database.is_sqlite
        return await self.database.write_at_once(work, is_long=is_long, is_atomic=is_atomic)

    @property
    def _rows(self) -> DeliveryRows:
        return SqliteRows() if self.database.is_sqlite else PostgresRows()


_UNDECIDED = {"answer": None, "decided_at": None}
_DECIDE = sa.update(deliveries).where(d.id == sa.bindparam("decided"))


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


def _tell(batch: Sequence[_Arrival | _Outcome], known: Mapping[str, Mapping[str, Any] | None]) -> None:
    for entry in batch:
        if entry.done.done():  # its caller was cancelled
            continue
        if isinstance(entry, _Arrival) and entry.row["id"] in known:
            entry.done.set_result(Known(answer=known[entry.row["id"]]))
        else:
            entry.done.set_result(None)


def _fail(entry: _Arrival | _Outcome, error: Exception) -> None:
    if not entry.done.done():
        entry.done.set_exception(error)


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
