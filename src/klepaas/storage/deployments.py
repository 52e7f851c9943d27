"""The deployments and their event log, behind `operations.ports.deployments.Deployments`."""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from klepaas.domain.deployment import Deployment, queued
from klepaas.domain.events import DeploymentQueued, Event, Recorded
from klepaas.domain.status import IN_HAND, Status
from klepaas.errors import Conflict, NotFound
from klepaas.operations.ports.clock import Clock
from klepaas.operations.ports.deployments import Overtaken, Standing, Submission
from klepaas.storage import deployment_state, event_log
from klepaas.storage.claims import Claims
from klepaas.storage.database import Database
from klepaas.storage.tables import apps, deployments, projects
from klepaas.storage.words import keepable_event

d = deployments.c

UNDER_WAY = (Status.QUEUED, *IN_HAND)

_NEWEST = sa.select(d.state, d.number).order_by(d.number.desc()).limit(1)
_BY_ID = _NEWEST.where(d.id == sa.bindparam("id"))
_BY_REQUEST = _NEWEST.where(d.request_key == sa.bindparam("request_key"))
_QUEUED_OF_APP = _NEWEST.where(d.app_key == sa.bindparam("app_key"), d.status == Status.QUEUED)
_PROJECT = (
    sa.select(projects.c.id)
    .where(projects.c.id == sa.bindparam("project_id"), projects.c.retired_at.is_(None))
    .with_for_update(read=True)
)
"""Whoever retires it meanwhile waits for us, and then sees what we submitted."""
_INSERT = sa.insert(deployments).returning(d.number)
_OF_AN_APP_IN_HAND = sa.select(d.id).where(
    d.app_key == sa.bindparam("app_key"),
    # Values written out, not bound: only by them does SQLite know that the partial index will do.
    d.status.in_(sa.bindparam("in_hand", IN_HAND, expanding=True, literal_execute=True)),
)
"""Asked of every app every few seconds."""

SUBMIT_TRIES = 50
"""Racing submissions of one app repeat until each has its turn: 20 racing ones needed at most 20 tries."""


class DeploymentTable:
    """`node` marks events this process writes outside the engine."""

    def __init__(self, database: Database, clock: Clock, node: str) -> None:
        self._database, self._clock, self._node, self._claims = database, clock, node, Claims(database)

    async def submit(
        self,
        request: DeploymentQueued,
        *,
        request_key: str | None,
        after_number: int | None = None,
        claimed_by: str | None = None,
    ) -> Submission:
        request = keepable_event(request)
        for _ in range(SUBMIT_TRIES):
            try:
                async with self._database.write() as connection:
                    return await self._submit(connection, request, request_key, after_number, claimed_by)
            except sa.exc.IntegrityError:
                continue  # another submission of this app or this request came between our look and our write
        raise Conflict("Too many deployments of this app are submitted at the same moment.", hint="Repeat the request.")

    async def _submit(
        self,
        connection: AsyncConnection,
        request: DeploymentQueued,
        request_key: str | None,
        after_number: int | None,
        claimed_by: str | None,
    ) -> Submission:
        now = self._clock.now()
        new = queued("dep_" + secrets.token_hex(8), request, now)
        await self._take_turn(connection, new.app_key)
        if await connection.scalar(_PROJECT, {"project_id": request.project_id}) is None:
            raise NotFound("The project was removed in this moment.", hint="List yours with: klepaas projects")
        if request_key is not None and (earlier := await _one(connection, _BY_REQUEST, request_key=request_key)):
            return Submission(deployment=earlier, is_new=False)
        if after_number is not None:
            newest = await connection.scalar(sa.select(sa.func.max(d.number)).where(d.app_key == new.app_key))
            if (newest or 0) != after_number:
                raise Overtaken(new.app_key)
        older = await _one(connection, _QUEUED_OF_APP, app_key=new.app_key)
        if older is not None:
            events = older.supersede(by=new.id, reason="a newer deployment of the same app was requested")
            if await event_log.write(connection, older, events, at=now, by=self._node) is None:
                raise sa.exc.IntegrityError("superseded row moved on", None, Exception())
        stored = await self._insert(connection, new, request, request_key, claimed_by, now)
        return Submission(deployment=stored, is_new=True, superseded=(older.id,) if older else ())

    async def _insert(
        self,
        connection: AsyncConnection,
        new: Deployment,
        request: DeploymentQueued,
        request_key: str | None,
        claimed_by: str | None,
        now: datetime,
    ) -> Deployment:
        """Write the deployment down, in the hands of `claimed_by` already if that node may begin it now."""
        claim: list[Event] = []
        if claimed_by is not None and await self._claims.may_begin(connection, claimed_by, new.app_key):
            claim = new.claim(node=claimed_by, fence=1)
        state = reduce(lambda before, event: before.after(event, now), claim, new)
        row = {**event_log.columns_of(state), "request_key": request_key, "node": claimed_by if claim else None}
        number = await connection.scalar(_INSERT, row)
        await event_log.insert_events(connection, new.id, 0, [request], at=now, by=self._node)
        if claim:
            assert claimed_by is not None
            await event_log.insert_events(connection, new.id, 1, claim, at=now, by=claimed_by)
        return deployment_state.from_json(deployment_state.to_json(state), number=number or 0)

    async def _take_turn(self, connection: AsyncConnection, app_key: str) -> None:
        """Submissions of one app go one after another, so that each sees the one before. SQLite has one writer
        anyway; on PostgreSQL it takes a lock that nothing else asks for."""
        if not self._database.is_sqlite:
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(app_key))))

    async def get(self, deployment_id: str) -> Deployment | None:
        async with self._database.read() as connection:
            return await _one(connection, _BY_ID, id=deployment_id)

    async def by_request(self, request_key: str) -> Deployment | None:
        async with self._database.read() as connection:
            return await _one(connection, _BY_REQUEST, request_key=request_key)

    async def of_commits(
        self, app_keys: Collection[str], shas: Collection[str]
    ) -> Mapping[tuple[str, str], Deployment]:
        query = sa.select(d.app_key, d.commit_sha, d.state, d.number).where(
            d.app_key.in_(list(app_keys)), d.commit_sha.in_(list(shas)), d.rollback_of.is_(None)
        )
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(d.number))
            newest = {(row.app_key, row.commit_sha): row for row in rows}
        return {key: deployment_state.from_json(row.state, number=row.number) for key, row in newest.items()}

    async def standings(self, app_keys: Collection[str]) -> Mapping[str, Standing]:
        keys = list(app_keys)
        if not keys:
            return {}
        last = sa.select(d.app_key, sa.func.max(d.number)).where(d.app_key.in_(keys)).group_by(d.app_key)
        active = sa.select(d.app_key, d.state, d.number).where(d.app_key.in_(keys), d.status.in_(UNDER_WAY))
        live = (
            sa.select(d.app_key, d.state, d.number)
            .join(apps, apps.c.live_deployment_id == d.id)
            .where(apps.c.key.in_(keys))
        )
        async with self._database.read() as connection:
            # Numbers first: whoever decides by the rest is told when something was added in between.
            numbers = {row[0]: row[1] for row in await connection.execute(last)}
            pending = _by_app(await connection.execute(active.order_by(d.number)))
            serving = _by_app(await connection.execute(live))
        return {
            key: Standing(last_number=number, active=pending.get(key), live=serving.get(key))
            for key, number in numbers.items()
        }

    async def of_project(
        self,
        project_id: str,
        *,
        environment: str | None = None,
        status: Collection[Status] = (),
        before_number: int | None = None,
        limit: int = 50,
        without_rollbacks: bool = False,
    ) -> Sequence[Deployment]:
        query = sa.select(d.state, d.number).where(d.project_id == project_id)
        if environment is not None:
            query = query.where(d.environment == environment)
        if status:
            query = query.where(d.status.in_(list(status)))
        if before_number is not None:
            query = query.where(d.number < before_number)
        if without_rollbacks:
            query = query.where(d.rollback_of.is_(None))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(d.number.desc()).limit(limit))
            return [deployment_state.from_json(row.state, number=row.number) for row in rows]

    async def is_in_hand(self, app_key: str) -> bool:
        async with self._database.read() as connection:
            return await connection.scalar(_OF_AN_APP_IN_HAND, {"app_key": app_key}) is not None

    async def events(self, deployment_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        async with self._database.read() as connection:
            return await event_log.read(connection, deployment_id, after=after, limit=limit)

    async def decide(self, deployment: Deployment, events: Sequence[Event]) -> Deployment:
        if not events:
            return deployment
        async with self._database.write() as connection:
            after = await event_log.write(connection, deployment, events, at=self._clock.now(), by=self._node)
        if after is None:
            raise Conflict(f"Deployment {deployment.id} went on in the meantime.", hint="Look at it and try again.")
        return after

    async def counts(self) -> Mapping[Status, int]:
        async with self._database.read() as connection:
            rows = await connection.execute(sa.select(d.status, sa.func.count()).group_by(d.status))
            return {Status(status): count for status, count in rows}

    async def counts_of(self, project_id: str, environment: str) -> Mapping[Status, int]:
        app = d.app_key == f"{project_id}/{environment}"
        query = sa.select(d.status, sa.func.count()).where(app, d.rollback_of.is_(None)).group_by(d.status)
        async with self._database.read() as connection:
            return {Status(status): count for status, count in await connection.execute(query)}


def _by_app(rows: Iterable[sa.Row[Any]]) -> dict[str, Deployment]:
    """By app key; of several the last one."""
    return {row.app_key: deployment_state.from_json(row.state, number=row.number) for row in rows}


async def _one(connection: AsyncConnection, query: sa.Select[Any], **values: str) -> Deployment | None:
    row = (await connection.execute(query, values)).first()
    return None if row is None else deployment_state.from_json(row.state, number=row.number)
